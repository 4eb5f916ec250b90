/** Connection test: which ways lead from this network to the server, and why the others do not. */

import { ConnectionTest, WAYS } from '../../protocol/probes/connection_test.js';
import { el, icon, setAttribute, setText } from '../dom.js';
import { topBar } from '../top_bar.js';

/** @typedef {import('../app.js').App} App */
/** @typedef {import('../../protocol/probes/connection_test.js').Way} Way */
/** @typedef {import('../../protocol/probes/connection_test.js').Verdict} Verdict */

/** @type {Record<Way, [string, string]>} name and what it is for */
const TEXTS = {
  signaling: ['Server', 'Joining, chat and everything that is not sound or picture'],
  'turn-udp': ['UDP', 'Sound and picture without delay, by a relay'],
  'turn-tcp': ['TCP', 'Where UDP is blocked'],
  'turn-tls': ['TLS', 'Where only encrypted web traffic passes'],
  'tunnel-websocket': ['Tunnel by WebSocket', 'Where only web pages pass'],
  'tunnel-stream': ['Tunnel by streaming', 'Where WebSockets are blocked, too'],
  'tunnel-poll': ['Tunnel by long-poll', 'Where answers are kept back until they end'],
};
/** @type {Record<Verdict, [string, string]>} words and icon */
const VERDICTS = {
  testing: ['Testing …', 'clock'],
  works: ['Works', 'check'],
  slow: ['Slow', 'circle-alert'],
  blocked: ['Blocked', 'x'],
  absent: ['Not offered', 'info'],
};

/** @param {App} app @returns {import('../app.js').Screen} */
export function connectionScreen(app) {
  const rows = new Map(WAYS.map((way) => [way, row(way)]));
  const summary = el('p', { class: 'summary', role: 'status', testid: 'connection-summary' });
  const again = el('button', { type: 'button', testid: 'connection-again' }, 'Test again');
  const main = el(
    'main',
    { class: 'centred' },
    el(
      'section',
      { class: 'connection', 'aria-label': 'Connection test' },
      el('h1', {}, 'Connection test'),
      el('p', { class: 'hint' }, 'Each way from this network to the server is tried on its own. Calls take the best that works.'),
      el('ul', { class: 'ways' }, ...[...rows.values()].map(({ element }) => element)),
      summary,
      el('div', { class: 'actions' }, again),
    ),
  );
  let isClosed = false;
  const run = async () => {
    again.disabled = true;
    setText(summary, 'Testing …');
    const test = new ConnectionTest({ api: app.api, origin: location.origin });
    test.on('result', (result) => !isClosed && rows.get(result.way)?.show(result));
    const results = await test.run();
    if (isClosed) return;
    setText(summary, said(results));
    again.disabled = false;
  };
  again.addEventListener('click', run);
  run();
  return {
    element: el('div', { class: 'page' }, topBar(app), main),
    close: () => {
      isClosed = true;
    },
  };
}

/** @param {Map<Way, import('../../protocol/probes/connection_test.js').Result>} results @returns {string} */
function said(results) {
  const works = (/** @type {Way} */ way) => ['works', 'slow'].includes(results.get(way)?.verdict ?? '');
  if (works('turn-udp')) return 'This network is fine for calls.';
  if (works('turn-tcp') || works('turn-tls')) return 'Calls work here; UDP is blocked or not offered, so sound may lag at times.';
  if (works('tunnel-websocket') || works('tunnel-stream') || works('tunnel-poll')) {
    return 'Only web traffic leaves this network, or the server offers no relay.';
  }
  return 'The server cannot be reached from this network.';
}

/** @param {Way} way */
function row(way) {
  const [name, use] = TEXTS[way];
  const verdict = el('span', { class: 'verdict' });
  const why = el('span', { class: 'why' });
  const element = el(
    'li',
    { testid: 'connection-way', dataset: { way } },
    el('div', {}, el('strong', {}, name), el('span', { class: 'use' }, use)),
    el('div', { class: 'outcome' }, verdict, why),
  );
  return {
    element,
    /** @param {import('../../protocol/probes/connection_test.js').Result} result */
    show({ verdict: found, ms, why: reason = '' }) {
      const [words, iconName] = VERDICTS[found];
      setAttribute(element, 'data-verdict', found);
      verdict.replaceChildren(icon(iconName), words);
      setText(why, ms === undefined ? reason : `${Math.max(1, Math.round(ms))} ms`);
    },
  };
}
