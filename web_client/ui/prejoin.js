/** Before joining: see oneself, choose devices, decide on consent, join. */

import { Call } from '../protocol/call.js';
import { Problem } from '../protocol/api.js';
import { callScreen } from './call_screen.js';
import { consentQuestions, sendConsent } from './consent.js';
import { devicePickers } from './device_pickers.js';
import { el, field, icon, setAttribute, setIcon } from './dom.js';
import { notice } from './notices.js';
import { isElsewhere, providerScreen } from './provider_screen.js';
import { dateOf, duration, initials, reason, timeOf } from './texts.js';
import { topBar } from './top_bar.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../protocol/api.js').Meeting} Meeting */
/** @typedef {import('./devices.js').InputKind} InputKind */

const NAME = 'parley.name';
const OPENS_EARLY_MS = 15 * 60_000;
const RETRY_MS = 15_000;

/** @param {App} app @param {string} meetingId @returns {import('./app.js').Screen} */
export function prejoinScreen(app, meetingId) {
  const screen = new Prejoin(app, meetingId);
  return { element: screen.element, close: () => screen.close() };
}

class Prejoin {
  /** @type {Meeting | null} */
  #meeting = null;
  /** @type {(() => void)[]} */
  #closers = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #waiting;
  #isClosed = false;
  /** The devices go on into the call. */
  #keepsDevices = false;
  /** Decisions that the server has, and the token it gave for them. */
  #sent = { decisions: '', token: /** @type {string | undefined} */ (undefined) };

  /** @param {App} app @param {string} meetingId */
  constructor(app, meetingId) {
    this.app = app;
    this.meetingId = meetingId;
    this.main = el(
      'main',
      { class: 'prejoin' },
      el('h1', {}, 'Ready to join?'),
      el('p', { role: 'status' }, 'Loading …'),
    );
    this.element = el('div', { class: 'page' }, topBar(app), this.main);
    this.consent = consentQuestions([]);
    this.name = el('input', { type: 'text', testid: 'display-name', maxlength: 64, autocomplete: 'name', dir: 'auto' });
    this.password = el('input', { type: 'password', testid: 'password', autocomplete: 'off' });
    this.button = el('button', { type: 'submit', class: 'primary large', testid: 'join-button' }, 'Join');
    this.problem = el('div', { class: 'problem' });
    this.load();
  }

  async load() {
    try {
      const [meeting, profile] = await Promise.all([this.app.api.meeting(this.meetingId), this.app.me()]);
      if (this.#isClosed) return;
      this.#meeting = meeting;
      if (meeting.status === 'COMPLETED') this.#over('meeting-ended');
      else this.#draw(meeting, profile);
    } catch (error) {
      if (!this.#isClosed) this.#over(this.app.codeOf(error));
    }
  }

  /** @param {string} code */
  #over(code) {
    const home = el('button', { type: 'button', onclick: () => this.app.go('/') }, 'Go to Home');
    const again =
      code === 'network' && el('button', { type: 'button', class: 'primary', onclick: () => this.load() }, 'Try again');
    const actions = again ? [home, again] : [home];
    this.main.className = 'centred';
    const { title, text } = reason(code);
    this.main.replaceChildren(
      el(
        'div',
        { class: 'hero', testid: 'notice', dataset: { code } },
        el('h1', { tabindex: -1 }, title),
        el('p', {}, text),
        el('div', { class: 'actions' }, ...actions),
      ),
    );
    this.main.querySelector('h1')?.focus({ preventScroll: true }); // read out, and where the keyboard goes on
  }

  // --- drawing --------------------------------------------------------------------------------------------------------
  /** @param {Meeting} meeting @param {import('../protocol/api.js').Profile} profile */
  #draw(meeting, profile) {
    const { devices } = this.app;
    this.name.value = localStorage.getItem(NAME) || profile.displayName || '';
    this.consent = consentQuestions(meeting.consentRequired ?? [], () => this.problem.replaceChildren());
    const form = el(
      'form',
      { class: 'join-card' },
      el('h1', {}, 'Ready to join?'),
      el(
        'p',
        { class: 'hint' },
        meeting.scheduledTime
          ? `Planned for ${dateOf(meeting.scheduledTime)}.`
          : 'Check how others will see and hear you.',
      ),
      field('Your name', this.name),
      meeting.requiresPassword && !meeting.isHost && field('Password of the meeting', this.password),
      this.consent.element,
      el('div', { class: 'join-foot' }, this.problem, this.button),
    );
    form.addEventListener('submit', (event) => (event.preventDefault(), this.#submit()));
    const preview = this.#preview();
    const pickers = devicePickers(devices, 'pre');
    this.#closers.push(pickers.close);
    this.main.className = 'prejoin';
    this.main.replaceChildren(el('div', { class: 'preview-side' }, preview, pickers.element), form);
    devices.openBoth();
  }

  #preview() {
    const { devices } = this.app;
    const video = el('video', { autoplay: true, playsinline: true, muted: true, class: 'mirrored', testid: 'preview' });
    video.muted = true;
    const avatar = el('div', { class: 'avatar' }, initials(this.name.value));
    const trouble = el('div', { class: 'trouble', 'aria-live': 'polite' });
    const microphone = this.#toggle('microphone');
    const camera = this.#toggle('camera');
    const buttons = el('div', { class: 'preview-buttons' }, microphone.element, camera.element);
    const update = () => {
      const track = devices.camera;
      const shown = /** @type {MediaStream | null} */ (video.srcObject)?.getTracks()[0] ?? null;
      if (shown !== track) video.srcObject = track ? new MediaStream([track]) : null;
      video.hidden = !track;
      avatar.textContent = initials(this.name.value);
      microphone.update(Boolean(devices.microphone) && !devices.isMuted);
      camera.update(Boolean(track));
      this.#showTroubles(trouble);
    };
    this.name.addEventListener('input', update);
    this.#closers.push(devices.on('change', update));
    update();
    return el('div', { class: 'preview-box' }, el('div', { class: 'preview' }, avatar, video, buttons), trouble);
  }

  /** @param {HTMLElement} place */
  #showTroubles(place) {
    const { microphone, camera } = this.app.devices.trouble;
    const both = microphone === 'microphone-denied' && camera === 'camera-denied';
    const codes = both ? ['device-denied'] : [...new Set([camera, microphone])].filter((code) => code !== null);
    const shown = [...place.children].map((child) => /** @type {HTMLElement} */ (child).dataset.code);
    if (shown.join() === codes.join()) return;
    const again = () =>
      el('button', { type: 'button', class: 'quiet', onclick: () => this.app.devices.openBoth() }, 'Try again');
    place.replaceChildren(...codes.map((code) => notice(code, { tone: 'info', actions: [again()] })));
  }

  /** @param {InputKind} kind */
  #toggle(kind) {
    const { devices } = this.app;
    const [on, off, key] = kind === 'microphone' ? ['mic', 'mic-off', 'M'] : ['video', 'video-off', 'V'];
    const element = el(
      'button',
      { type: 'button', class: 'round', testid: `preview-${kind}`, 'aria-keyshortcuts': key },
      icon(on),
    );
    let isOn = false;
    element.addEventListener('click', async () => {
      if (kind === 'camera' && isOn) devices.close('camera');
      else if (!devices[kind]) await devices.open(kind);
      if (kind === 'microphone' && devices.microphone) devices.mute(isOn);
    });
    const update = (/** @type {boolean} */ next) => {
      isOn = next;
      setIcon(element, isOn ? on : off);
      const label = isOn ? `Turn ${kind} off` : `Turn ${kind} on`;
      setAttribute(element, 'aria-label', label);
      setAttribute(element, 'data-tip', label);
      setAttribute(element, 'aria-pressed', String(isOn));
    };
    return { element, update };
  }

  // --- joining --------------------------------------------------------------------------------------------------------
  async #submit() {
    if (!this.consent.isComplete()) {
      this.problem.replaceChildren(notice('consent-required'));
      this.consent.focus();
      return;
    }
    this.#busy(true, 'Joining …');
    const { app, meetingId } = this;
    const displayName = this.name.value.trim() || app.profile?.displayName || 'Guest';
    localStorage.setItem(NAME, displayName);
    if (this.#meeting && isElsewhere(this.#meeting)) return this.#joinElsewhere(this.#meeting);
    const { signalingUrl } = app.config;
    const call = new Call({
      api: app.api,
      meetingId,
      userId: app.profile?.id ?? '',
      displayName,
      signalingUrl,
      env: { ...app.env, ladder: app.env.WebSocket ? undefined : ladder() },
    });
    this.#hand(call);
    try {
      const consentToken = await this.#decide();
      await call.join({
        ...(this.password.value ? { password: this.password.value } : {}),
        ...(consentToken ? { consentToken } : {}),
      });
      this.#keepsDevices = true;
      app.show(callScreen(app, call, /** @type {Meeting} */ (this.#meeting)));
    } catch (error) {
      call.leave();
      if (!this.#isClosed) this.#refused(error);
    }
  }

  /** Another provider carries the media: there is a way in, and no call in this page. @param {Meeting} meeting */
  async #joinElsewhere(meeting) {
    const { app } = this;
    const password = this.password.value;
    const renew = () => app.api.join(meeting.id, { userId: app.profile?.id ?? '', ...(password ? { password } : {}) });
    try {
      const grant = await renew();
      if (!this.#isClosed) app.show(providerScreen(app, meeting, grant, renew));
    } catch (error) {
      if (!this.#isClosed) this.#refused(error);
    }
  }

  /** Sends the decisions, once however often the join is tried. @returns {Promise<string | undefined>} */
  async #decide() {
    const decisions = this.consent.decisions();
    if (JSON.stringify(decisions) !== this.#sent.decisions) {
      const token = await sendConsent(this.app.api, this.meetingId, decisions);
      this.#sent = { decisions: JSON.stringify(decisions), token };
    }
    return this.#sent.token;
  }

  /** The open devices go into the call. @param {Call} call */
  #hand(call) {
    const { microphone, camera, isMuted } = this.app.devices;
    call.own = { ...call.own, isMuted: isMuted || !microphone, isVideoOn: Boolean(camera) };
    if (microphone) call.setTrack('microphone', microphone);
    if (camera) call.setTrack('camera', camera);
  }

  /** @param {boolean} isBusy @param {string} [text] */
  #busy(isBusy, text = 'Join') {
    this.button.disabled = isBusy;
    this.button.textContent = text;
    if (isBusy) this.problem.replaceChildren();
  }

  /** @param {unknown} error */
  #refused(error) {
    const code = this.app.codeOf(error);
    if (code.startsWith('consent')) this.#sent.decisions = '';
    this.#busy(false);
    if (code === 'meeting-ended' || code === 'room-ended' || code === 'removed') return this.#over(code);
    if (code === 'not-started') return this.#wait(/** @type {Problem} */ (error));
    this.problem.replaceChildren(notice(code));
    if (code === 'consent-required') this.#askAgain(/** @type {Problem} */ (error));
    if (code === 'wrong-password' || code === 'password-required') {
      if (!this.password.isConnected) this.consent.element.before(field('Password of the meeting', this.password));
      this.password.setAttribute('aria-invalid', 'true');
      this.password.select();
      this.password.focus();
    }
    return undefined;
  }

  /** The server wants a decision that was not asked for here (the host changed the settings). @param {Problem} problem */
  #askAgain(problem) {
    const needed = problem.members.consentRequired;
    if (!Array.isArray(needed) || !needed[0]?.text) return;
    const next = consentQuestions(needed, () => this.problem.replaceChildren());
    this.consent.element.replaceWith(next.element);
    this.consent = next;
    next.focus();
  }

  /** Too early: a countdown, then the join goes on by itself. @param {Problem} problem */
  #wait(problem) {
    const start = Date.parse(this.#meeting?.scheduledTime ?? '');
    const opensAt = Date.parse(problem.members.opensAt ?? '') || (start ? start - OPENS_EARLY_MS : 0);
    const stop = () => {
      clearInterval(ticker);
      clearTimeout(this.#waiting);
      this.#busy(false);
      this.problem.replaceChildren();
    };
    const cancel = el('button', { type: 'button', class: 'quiet', onclick: stop }, 'Stop waiting');
    const opening = opensAt > Date.now() ? `It opens at ${timeOf(new Date(opensAt))}. ` : '';
    const text = `${opening}You join by yourself as soon as it is open.`;
    const left = el('p', { class: 'countdown', 'aria-hidden': 'true' });
    const box = notice('not-started', { text, tone: 'info', actions: [cancel] });
    box.children[1]?.append(left);
    this.#busy(true, 'Waiting …');
    this.problem.replaceChildren(box);
    const tick = () => {
      left.textContent = opensAt > Date.now() ? `in ${duration((opensAt - Date.now()) / 1000)}` : '';
    };
    tick();
    const ticker = setInterval(tick, 1000);
    this.#closers.push(() => clearInterval(ticker));
    const delay = Math.max(1000, Math.min(RETRY_MS, opensAt > Date.now() ? opensAt - Date.now() : RETRY_MS));
    this.#waiting = setTimeout(() => (clearInterval(ticker), this.#submit()), delay);
  }

  close() {
    this.#isClosed = true;
    clearTimeout(this.#waiting);
    for (const close of this.#closers) close();
    if (!this.#keepsDevices) this.app.devices.closeAll();
  }
}

/** @type {Record<string, import('../protocol/ladder.js').WireKind>} */
const WAYS = { websocket: 'websocket', stream: 'streaming', poll: 'longpoll' };

/** Debug hook: `?way=websocket|stream|poll` takes the call by the HTTP tunnel and nothing else. */
function ladder() {
  const forced = WAYS[new URLSearchParams(location.search).get('way') ?? ''];
  return { url: new URL('/v1/tunnel/sessions', location.origin).href, forced };
}
