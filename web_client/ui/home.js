/** Home: sign in; new meeting, join with a code or link, my meetings. */

import { checkbox, el, field, icon } from './dom.js';
import { notice, openDialog } from './notices.js';
import { dateOf, meetingIdOf, reason } from './texts.js';
import { topBar } from './top_bar.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('./app.js').Screen} Screen */
/** @typedef {import('../protocol/api.js').Meeting} Meeting */

const RETRY_MS = 5000;
/** A meeting without a planned time that nobody started is listed among the upcoming ones for a day. */
const FRESH_MS = 86_400_000;
/** The field has no seconds: the minute that runs is not over. */
const SLACK_MS = 60_000;

/** @param {App} app @param {{meetingId?: string}} where @returns {Screen} */
export function signInScreen(app, { meetingId }) {
  const problem = el('div', { 'aria-live': 'polite' });
  const button = el('button', { type: 'button', class: 'primary large', testid: 'sign-in' }, 'Sign in');
  button.addEventListener('click', async () => {
    button.disabled = true;
    try {
      await app.startSignIn();
    } catch {
      problem.replaceChildren(
        notice('network', { text: 'The sign-in service does not answer. Try again in a moment.' }),
      );
      button.disabled = false;
    }
  });
  const text = meetingId
    ? 'You are invited to a meeting. Sign in to see your camera first, then join.'
    : 'Meet face to face, share your screen, chat. Your calls stay on your own servers.';
  const main = el(
    'main',
    { class: 'centred' },
    el(
      'div',
      { class: 'hero' },
      el('h1', {}, meetingId ? 'Join the meeting' : 'Meetings of your own'),
      el('p', {}, text),
      button,
      problem,
    ),
  );
  return { element: el('div', { class: 'page' }, topBar(app), main) };
}

/** @param {App} app @returns {Screen} */
export function homeScreen(app) {
  const list = new MeetingList(app);
  const main = el(
    'main',
    { class: 'home' },
    el('h1', { class: 'visually-hidden' }, 'Home'),
    el('section', { class: 'actions-card', 'aria-label': 'Start or join' }, newMeeting(app, list), joinForm(app)),
    list.element,
  );
  list.load();
  return { element: el('div', { class: 'page' }, topBar(app), main), close: () => list.close() };
}

/** @param {App} app */
function joinForm(app) {
  const input = el('input', {
    type: 'text',
    testid: 'join-code',
    autocomplete: 'off',
    spellcheck: 'false',
    placeholder: 'Code or link',
    'aria-label': 'Code or link of a meeting',
    required: true,
  });
  const problem = el('p', { class: 'field-error', role: 'alert' });
  const form = el(
    'form',
    { class: 'join-form' },
    el('h2', {}, 'Join a meeting'),
    el('p', { class: 'hint' }, 'Paste the link or the code that you were given.'),
    el('div', { class: 'row' }, input, el('button', { type: 'submit', testid: 'join-button' }, 'Join')),
    problem,
  );
  form.noValidate = true;
  input.addEventListener('input', () => {
    problem.textContent = '';
    input.removeAttribute('aria-invalid');
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const id = meetingIdOf(input.value);
    problem.textContent = id ? '' : 'That is no code and no link of a meeting. Copy it again from the invitation.';
    input.setAttribute('aria-invalid', String(!id));
    if (id) app.go(`/m/${id}`);
    else input.focus();
  });
  return form;
}

/** @param {App} app @param {MeetingList} list */
function newMeeting(app, list) {
  const options = meetingOptions();
  const problem = el('div', { 'aria-live': 'polite' });
  const button = el(
    'button',
    { type: 'submit', class: 'primary large', testid: 'start-meeting' },
    icon('plus'),
    'New meeting',
  );
  const form = el('form', { class: 'new-meeting' }, el('h2', {}, 'Start a meeting'), button, options.element, problem);
  options.element.addEventListener('toggle', () => {
    button.hidden = options.element.open; // the options have their own
  });
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    problem.replaceChildren();
    if (!options.check()) return;
    button.disabled = options.button.disabled = true;
    try {
      const { id: hostId } = await app.me();
      const meeting = await app.api.createMeeting({ hostId, ...options.read() });
      if (meeting.scheduledTime) options.reset(); // a second click would plan it twice
      if (meeting.scheduledTime) scheduled(app, meeting, list);
      else app.go(`/m/${meeting.id}`);
    } catch (error) {
      const code = app.codeOf(error);
      const detail = /** @type {any} */ (error).detail;
      problem.replaceChildren(
        notice(code, { text: reason(code).title === reason('').title && detail ? detail : undefined }),
      );
    } finally {
      button.disabled = options.button.disabled = false;
    }
  });
  return form;
}

function meetingOptions() {
  const time = el('input', { type: 'datetime-local', testid: 'option-time' });
  const late = el('p', { class: 'field-error', role: 'alert' });
  const password = el('input', {
    type: 'text',
    testid: 'option-password',
    maxlength: 128,
    autocomplete: 'off',
    spellcheck: 'false',
  });
  const recording = checkbox('Recording', false, 'Everyone is asked for consent before joining.', 'option-recording');
  const ai = checkbox('AI processing', false, 'Everyone is asked for consent before joining.', 'option-ai');
  const button = el(
    'button',
    { type: 'submit', class: 'primary large', testid: 'create-meeting' },
    'Create the meeting',
  );
  const element = el(
    'details',
    { class: 'options' },
    el('summary', { testid: 'new-meeting' }, 'With options'),
    field('Starts at', time, { hint: 'Leave empty to start now.' }),
    late,
    field('Password', password, { hint: 'Leave empty for none.' }),
    el(
      'div',
      { class: 'switches', role: 'group', 'aria-label': 'May be used in this meeting' },
      recording.element,
      ai.element,
    ),
    button,
  );
  time.addEventListener('input', () => {
    late.textContent = '';
    time.removeAttribute('aria-invalid');
    button.textContent = time.value ? 'Plan the meeting' : 'Create the meeting';
  });
  const read = () => ({
    ...(time.value ? { scheduledTime: new Date(time.value).toISOString() } : {}),
    ...(password.value ? { password: password.value } : {}),
    settings: { isRecordingEnabled: recording.input.checked, aiEnabled: ai.input.checked },
  });
  const check = () => {
    const isOver = Boolean(time.value) && Date.parse(time.value) < Date.now() - SLACK_MS;
    late.textContent = isOver ? 'This time is over. Choose a later one, or leave it empty to start now.' : '';
    time.setAttribute('aria-invalid', String(isOver));
    if (isOver) time.focus();
    return !isOver;
  };
  const reset = () => {
    for (const input of [time, password]) input.value = '';
    for (const { input } of [recording, ai]) input.checked = false;
    button.textContent = 'Create the meeting';
    element.open = false;
  };
  return { element, button, read, check, reset };
}

/** @param {App} app @param {Meeting} meeting @param {MeetingList} list */
function scheduled(app, meeting, list) {
  const link = app.linkOf(meeting.id);
  const copy = el('button', { type: 'button', class: 'primary', testid: 'copy-link' }, icon('copy'), 'Copy link');
  copy.addEventListener('click', () => app.copy(link, 'The link is copied. Send it to whom you invite.'));
  const close = el('button', { type: 'button' }, 'Done');
  const dialog = openDialog({
    title: 'The meeting is planned',
    testid: 'scheduled',
    body: [
      el('p', {}, `It starts ${dateOf(meeting.scheduledTime ?? '')}. Others can join 15 minutes before.`),
      el('input', { type: 'text', readonly: true, value: link, 'aria-label': 'Link of the meeting', class: 'link' }),
    ],
    actions: [close, copy],
  });
  close.addEventListener('click', () => dialog.close());
  list.load();
}

class MeetingList {
  /** @type {Meeting[]} */
  #meetings = [];
  /** @type {string | null | undefined} */
  #cursor;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retry;

  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.body = el('div', { 'aria-live': 'polite', 'aria-busy': 'true' });
    this.element = el('section', { class: 'meetings', testid: 'meetings' }, el('h2', {}, 'My meetings'), this.body);
    this.#skeleton();
  }

  #skeleton() {
    const rows = Array.from({ length: 3 }, () => el('div', { class: 'meeting skeleton', 'aria-hidden': 'true' }));
    this.body.replaceChildren(el('p', { class: 'visually-hidden' }, 'Loading …'), ...rows);
  }

  /** @param {string} [cursor] */
  async load(cursor) {
    clearTimeout(this.#retry);
    try {
      const { id } = await this.app.me();
      const page = await this.app.api.meetings(id, cursor);
      this.#meetings = cursor ? [...this.#meetings, ...page.items] : page.items;
      this.#cursor = page.nextCursor;
      this.#draw();
    } catch (error) {
      const code = this.app.codeOf(error);
      this.#failed(code);
    }
    this.body.setAttribute('aria-busy', 'false');
  }

  /** @param {string} code */
  #failed(code) {
    const again = el('button', { type: 'button', onclick: () => this.load() }, icon('refresh-cw'), 'Try now');
    const text = 'Your meetings cannot be shown: the server does not answer. The page tries again by itself.';
    this.body.replaceChildren(notice(code, { text: code === 'network' ? text : undefined, actions: [again] }));
    this.#retry = setTimeout(() => this.load(), RETRY_MS);
  }

  #draw() {
    const now = Date.now();
    const isUpcoming = (/** @type {Meeting} */ { status, scheduledTime, createdAt }) =>
      status === 'ACTIVE' || (status === 'SCHEDULED' && Date.parse(scheduledTime ?? createdAt ?? '') > now - FRESH_MS);
    const when = (/** @type {Meeting} */ { scheduledTime, startTime, createdAt }) =>
      Date.parse(scheduledTime ?? startTime ?? createdAt ?? '') || 0;
    const upcoming = this.#meetings.filter(isUpcoming).sort((a, b) => when(a) - when(b));
    const past = this.#meetings.filter((meeting) => !isUpcoming(meeting)).sort((a, b) => when(b) - when(a));
    if (!this.#meetings.length) {
      this.body.replaceChildren(
        el(
          'div',
          { class: 'empty' },
          icon('calendar'),
          el('p', {}, 'No meetings yet. Start one, or plan one with options.'),
        ),
      );
      return;
    }
    this.body.replaceChildren(...this.#group('Upcoming', upcoming), ...this.#group('Past', past));
    if (this.#cursor) {
      const more = () => this.load(this.#cursor ?? undefined);
      this.body.append(el('button', { type: 'button', class: 'quiet', onclick: more }, 'Show more'));
    }
  }

  /** @param {string} title @param {Meeting[]} meetings */
  #group(title, meetings) {
    if (!meetings.length) return [];
    return [el('h3', {}, title), el('ul', { class: 'meeting-list' }, ...meetings.map((meeting) => this.#row(meeting)))];
  }

  /** @param {Meeting} meeting */
  #row(meeting) {
    const { id, status, scheduledTime, startTime, createdAt } = meeting;
    const when = dateOf(scheduledTime ?? startTime ?? createdAt ?? new Date());
    const isOver = status === 'COMPLETED';
    const badge =
      status === 'ACTIVE'
        ? el('span', { class: 'badge live' }, 'Now')
        : isOver && el('span', { class: 'badge' }, 'Ended');
    const join = () => this.app.go(`/m/${id}`);
    const copy = () => this.app.copy(this.app.linkOf(id), 'The link is copied.');
    return el(
      'li',
      { class: 'meeting', testid: 'meeting', dataset: { id } },
      el('div', { class: 'what' }, el('strong', {}, when, ' ', badge), el('code', { title: id }, id)),
      !isOver &&
        el(
          'button',
          { type: 'button', class: 'quiet', 'aria-label': `Copy the link of ${when}`, onclick: copy },
          icon('copy'),
          'Link',
        ),
      !isOver && el('button', { type: 'button', 'aria-label': `Join ${when}`, onclick: join }, 'Join'),
    );
  }

  close() {
    clearTimeout(this.#retry);
  }
}
