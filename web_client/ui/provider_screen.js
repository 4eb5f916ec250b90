/**
 * In place of the call where another provider carries the media: its client is no part of this page, so the page says
 * so and gives what that client asks for. The token is never drawn, only copied.
 */

import { el } from './dom.js';
import { confirm, notice } from './notices.js';
import { dateOf } from './texts.js';
import { topBar } from './top_bar.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../protocol/api.js').JoinGrant} JoinGrant */
/** @typedef {import('../protocol/api.js').ProviderAccess} ProviderAccess */

/** @type {Record<string, string>} */
const NAMES = { acs: 'Azure Communication Services', livekit: 'LiveKit' };
/** @type {Record<string, string>} */
const ROLES = { host: 'Host', attendee: 'Attendee', viewer: 'Viewer' };

/** Whether the meeting's media is another provider's. @param {import('../protocol/api.js').Meeting} meeting */
export function isElsewhere(meeting) {
  return (meeting.settings?.mediaProvider ?? 'parley') !== 'parley';
}

/**
 * @param {App} app
 * @param {import('../protocol/api.js').Meeting} meeting
 * @param {JoinGrant} grant
 * @param {() => Promise<JoinGrant>} renew joins again
 * @returns {import('./app.js').Screen}
 */
export function providerScreen(app, meeting, grant, renew) {
  const name = NAMES[grant.provider?.name ?? ''] ?? grant.provider?.name ?? 'another provider';
  const details = el('dl', { class: 'details', testid: 'provider-details' });
  const problem = el('div', { class: 'problem' });
  const draw = () => details.replaceChildren(...rowsOf(grant, name));
  const failed = (/** @type {unknown} */ error) => problem.replaceChildren(notice(app.codeOf(error)));
  const again = async () => {
    problem.replaceChildren();
    try {
      grant = await renew();
      draw();
      app.toasts.show('The token is new.', { code: 'renewed', iconName: 'check' });
    } catch (error) {
      failed(error);
    }
  };
  const end = async () => {
    const sure = { title: 'End the meeting for everybody?', text: 'Everybody is disconnected.', yes: 'End meeting' };
    if (!(await confirm(sure))) return;
    await app.api.endMeeting(meeting.id).then(() => app.go('/'), failed);
  };
  const copy = () => app.copy(grant.provider?.token ?? '', 'Access token copied');
  const main = el(
    'main',
    { class: 'centred', testid: 'provider-screen' },
    el(
      'div',
      { class: 'hero' },
      el('h1', {}, 'Join in another app'),
      el(
        'p',
        {},
        `${name} carries this meeting's sound and pictures, and this page has no client for it. ` +
          'An app that has one asks for these:',
      ),
    ),
    details,
    problem,
    el(
      'div',
      { class: 'actions' },
      el('button', { type: 'button', class: 'primary', testid: 'copy-token', onclick: copy }, 'Copy access token'),
      el('button', { type: 'button', testid: 'renew-token', onclick: again }, 'New token'),
      meeting.isHost && el('button', { type: 'button', class: 'danger', testid: 'end-meeting', onclick: end }, 'End meeting'),
      el('button', { type: 'button', class: 'quiet', onclick: () => app.go('/') }, 'Go to Home'),
    ),
  );
  draw();
  return { element: el('div', { class: 'page' }, topBar(app), main) };
}

/** @param {JoinGrant} grant @param {string} name */
function rowsOf({ provider, role }, name) {
  if (!provider) return [];
  const rows = [
    ['Provider', name],
    ['Room', provider.roomId],
    ['Address', provider.endpoint],
    ['Your id', provider.identity],
    ['Your role', ROLES[role ?? ''] ?? ''],
    ['Token valid until', dateOf(provider.expiresAt)],
  ];
  return rows.flatMap(([label, value]) => [el('dt', {}, label), el('dd', { dir: 'auto' }, value)]);
}
