/** The call: stage, side panels, control bar, and what is said about connection, moderation and consent. */

import { consentQuestions, sendConsent } from './consent.js';
import { ChatPanel } from './chat.js';
import { callControls } from './call_controls.js';
import { ControlButton, listenKeys } from './controls.js';
import { devicePickers } from './device_pickers.js';
import { coalesce, el, icon, iconButton, setText } from './dom.js';
import { Sound } from './audio.js';
import { confirm, notice, openDialog } from './notices.js';
import { NetworkNotices } from './network.js';
import { PeoplePanel } from './people.js';
import { Session } from './session.js';
import { Stage } from './stage.js';
import { duration, isKnown, reason } from './texts.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('../protocol/call.js').Call} Call */
/** @typedef {import('../protocol/api.js').Meeting} Meeting */
/** @typedef {'chat' | 'people'} PanelName */

/** "Reconnecting" is shown only when it lasts; most losses are over before. */
const SHOW_RECONNECTING_MS = 2000;

/** @param {App} app @param {Call} call @param {Meeting} meeting @returns {import('./app.js').Screen} */
export function callScreen(app, call, meeting) {
  const screen = new CallScreen(app, call, meeting);
  return { element: screen.element, close: () => screen.close() };
}

class CallScreen {
  /** @type {PanelName | null} */
  #open = null;
  /** @type {(() => void)[]} */
  #closers = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #reconnecting;
  /** What was announced last, by userId. @type {Map<string, {name: string, hand: boolean}>} */
  #heard = new Map();
  #wasMuted = true;
  /** @type {HTMLElement | null} who opened the panel gets the focus back */
  #opener = null;

  /** @param {App} app @param {Call} call @param {Meeting} meeting */
  constructor(app, call, meeting) {
    this.app = app;
    this.call = call;
    this.meeting = meeting;
    this.session = new Session(call, app.devices);
    this.stage = new Stage(call, app.devices);
    this.chat = new ChatPanel(call, {
      onunread: (count) => this.buttons.get('chat')?.count(count),
      onclose: () => this.#toggle(null),
    });
    this.people = new PeoplePanel(call, { onclose: () => this.#toggle(null), oninvite: () => this.#invite() });
    this.sound = new Sound(call, app.devices, () => this.#soundBlocked());
    this.banner = el('div', { class: 'banner', role: 'status', 'aria-live': 'polite' });
    this.spoken = el('p', { class: 'visually-hidden', 'aria-live': 'polite', testid: 'announcement' });
    this.network = new NetworkNotices(call, app.toasts, (text) => setText(this.spoken, text));
    this.clock = el('span', { class: 'clock' });
    this.started = Date.now();
    this.sharing = this.#sharingBar();
    this.buttons = this.#buttons();
    this.element = this.#layout();
    this.#alone();
    this.#listen();
    this.#update();
  }

  // --- layout ---------------------------------------------------------------------------------------------------------
  #layout() {
    const get = (/** @type {string} */ id) => /** @type {ControlButton} */ (this.buttons.get(id)).element;
    const info = el(
      'div',
      { class: 'call-info' },
      this.clock,
      iconButton('link', 'Copy the link to invite', { testid: 'copy-link', onclick: () => this.#invite() }),
    );
    const more = el('div', { class: 'overflow', id: 'more-controls' }, get('layout'), get('devices'), get('end'));
    const moreButton = el(
      'button',
      {
        type: 'button',
        class: 'control more',
        testid: 'control-more',
        'aria-label': 'More',
        'aria-expanded': 'false',
        'aria-controls': 'more-controls',
        'data-tip': 'More',
      },
      el('span', { class: 'face' }, icon('ellipsis-vertical')),
      el('span', { class: 'caption', 'aria-hidden': 'true' }, 'More'),
    );
    const openMore = (/** @type {boolean} */ isOpen) => {
      more.classList.toggle('open', isOpen);
      moreButton.setAttribute('aria-expanded', String(isOpen));
    };
    moreButton.addEventListener('click', () => openMore(!more.classList.contains('open')));
    more.addEventListener('click', () => openMore(false));
    this.#closers.push(closesOutside(more, moreButton, () => openMore(false)));
    const main = ['microphone', 'camera', 'share', 'hand'].map(get);
    const bar = el(
      'div',
      { class: 'control-bar', role: 'toolbar', 'aria-label': 'Call controls' },
      info,
      el('div', { class: 'group main' }, ...main, get('chat'), get('people'), more, moreButton, get('leave')),
    );
    return el(
      'main',
      { class: 'call', testid: 'call' },
      el('h1', { class: 'visually-hidden' }, 'Call'),
      this.spoken,
      this.banner,
      el(
        'div',
        { class: 'call-body' },
        el('div', { class: 'stage-side' }, this.sharing, this.stage.element),
        this.chat.element,
        this.people.element,
      ),
      bar,
    );
  }

  #sharingBar() {
    const stop = el(
      'button',
      { type: 'button', class: 'quiet', testid: 'stop-share', onclick: () => this.session.stopShare() },
      'Stop sharing',
    );
    return el(
      'div',
      { class: 'sharing', role: 'status', hidden: true },
      icon('monitor'),
      el('span', {}, 'You are sharing your screen.'),
      stop,
    );
  }

  #alone() {
    this.stage.empty.append(
      el('strong', {}, 'You are the only one here'),
      el('p', {}, 'Send the link to those you want to meet.'),
      el('button', { type: 'button', class: 'primary', onclick: () => this.#invite() }, icon('copy'), 'Copy link'),
    );
  }

  /** @returns {Map<string, ControlButton>} */
  #buttons() {
    const { session, stage, app } = this;
    const controls = callControls({
      session,
      stage,
      canShare: app.devices.canShare,
      openPanel: () => this.#open,
      toggle: (name) => this.#toggle(name),
      toggleLayout: () => (stage.toggleMode(), this.#update()),
      devices: () => this.#devices(),
      end: () => this.#endForAll(),
    });
    return new Map(controls.map((control) => [control.id, new ControlButton(control)]));
  }

  #listen() {
    const { call, session, app } = this;
    const update = coalesce(() => this.#update());
    const keys = new Map(
      [...this.buttons.values()].flatMap(({ control }) =>
        control.key ? [[control.key, () => this.#press(control)]] : [],
      ),
    );
    keys.set('escape', () => this.#toggle(null));
    const networkChanged = () => call.networkChanged();
    const leave = () => call.leave();
    addEventListener('online', networkChanged);
    addEventListener('pagehide', leave);
    const ticker = setInterval(() => this.#tick(), 1000);
    this.#closers.push(
      listenKeys(/** @type {Map<string, () => void>} */ (keys)),
      call.on('room', update),
      call.on('state', () => this.#connectionChanged()),
      call.on('media', () => this.#connectionChanged()),
      call.on('ended', (ended) => this.#ended(ended)),
      call.on('consent', (needed) => this.#askConsent(needed)),
      call.on('error', ({ code, message }) => this.#failed(code, message)),
      call.on('chat', (message) => this.#announce(message)),
      session.on('change', update),
      session.on('notice', ({ text, ...options }) => app.toasts.show(text, options)),
      () => removeEventListener('online', networkChanged),
      () => removeEventListener('pagehide', leave),
      () => clearInterval(ticker),
      () => update.cancel(),
    );
    this.#debug();
  }

  /** @param {import('./controls.js').Control} control */
  #press(control) {
    if (!control.isShown || control.isShown()) control.act();
  }

  #update() {
    for (const button of this.buttons.values()) button.update();
    this.sharing.hidden = !this.call.own.isSharing;
    this.element.dataset.role = this.call.role;
    const hands = [...this.call.room.people.values()].filter(
      ({ isHandRaised, userId }) => isHandRaised && userId !== this.call.userId,
    );
    const people = this.buttons.get('people');
    people?.count(this.call.room.people.size);
    people?.element.classList.toggle('has-hands', hands.length > 0);
    this.stage.update();
    this.#announceChanges();
  }

  #tick() {
    setText(this.clock, duration((Date.now() - this.started) / 1000));
  }

  // --- panels ---------------------------------------------------------------------------------------------------------
  /** @param {PanelName | null} name opens it, or closes what is open */
  #toggle(name) {
    const next = this.#open === name ? null : name;
    const opener = /** @type {HTMLElement | null} */ (document.activeElement);
    if (next && !this.#open) this.#opener = opener;
    this.#open = next;
    this.element.classList.toggle('with-panel', next !== null);
    this.chat.show(next === 'chat');
    this.people.show(next === 'people');
    if (next === 'chat') this.app.toasts.dismiss('chat');
    if (!next && this.#opener?.isConnected) this.#opener.focus();
    this.#update();
  }

  #invite() {
    this.app.copy(this.app.linkOf(this.call.meetingId), 'The link is copied. Send it to whom you invite.');
  }

  #devices() {
    const pickers = devicePickers(this.app.devices, 'call');
    const done = el('button', { type: 'button', class: 'primary' }, 'Done');
    const dialog = openDialog({
      title: 'Devices',
      testid: 'devices',
      body: [pickers.element],
      actions: [done],
      onclose: pickers.close,
    });
    done.addEventListener('click', () => dialog.close());
  }

  /** A message that arrives while the chat is closed. @param {import('../protocol/call.js').Chat} message */
  #announce({ userId, displayName, text }) {
    if (this.#open === 'chat' || userId === this.call.userId) return;
    const short = text.length > 80 ? `${text.slice(0, 80)}…` : text;
    this.app.toasts.show(`${displayName}: ${short}`, { code: 'chat', iconName: 'message-square' });
  }

  // --- what happens ---------------------------------------------------------------------------------------------------
  /** Signaling or media came or went. */
  #connectionChanged() {
    const { publish, subscribe } = this.call.topology.state;
    const isDown = (/** @type {string} */ state) => state === 'failed' || state === 'disconnected';
    if (this.call.state === 'reconnecting' || isDown(publish) || isDown(subscribe)) {
      this.#reconnecting ??= setTimeout(() => {
        const text = 'Reconnecting … You stay in the call; what you write is sent afterwards.';
        const shown = el('div', { class: 'reconnecting', testid: 'reconnecting' }, icon('wifi-off'), text);
        this.banner.replaceChildren(shown);
      }, SHOW_RECONNECTING_MS);
      return;
    }
    clearTimeout(this.#reconnecting);
    this.#reconnecting = undefined;
    if (!this.banner.querySelector('.reconnecting') || this.call.state !== 'connected') return;
    this.banner.replaceChildren();
    this.app.toasts.show('You are connected again.', { code: 'reconnected', iconName: 'check' });
  }

  /** Who came and went, hands and one's own microphone, for those who do not see it. */
  #announceChanges() {
    const { room, userId, own } = this.call;
    const now = new Map([...room.people.values()].map((person) => [person.userId, person]));
    const said = [];
    for (const [id, { displayName, isHandRaised }] of now) {
      const before = this.#heard.get(id);
      if (id === userId) continue;
      if (!before) said.push(`${displayName} joined.`);
      else if (isHandRaised && !before.hand) said.push(`${displayName} raised a hand.`);
    }
    for (const [id, { name }] of this.#heard) if (!now.has(id)) said.push(`${name} left.`);
    if (this.#wasMuted !== own.isMuted) said.push(own.isMuted ? 'You are muted.' : 'You are unmuted.');
    const isFirst = this.#heard.size === 0;
    this.#wasMuted = own.isMuted;
    this.#heard = new Map(
      [...now].map(([id, person]) => [id, { name: person.displayName, hand: person.isHandRaised }]),
    );
    if (!isFirst && said.length) this.spoken.textContent = said.slice(0, 3).join(' ');
  }

  /** Errors of signaling that a person should know. @param {string} code @param {string} message */
  #failed(code, message) {
    // What has no words of its own is for programs: the call heals itself, and nobody could do anything about it.
    if (!isKnown(code)) {
      console.warn('parley', code, message);
      return;
    }
    this.app.toasts.show(reason(code).text, { code, iconName: 'circle-alert' });
  }

  /** @param {import('../protocol/messages.d.ts').ConsentNeeded[]} needed */
  #askConsent(needed) {
    document.querySelector('dialog[data-testid="consent-dialog"]')?.remove();
    const send = el('button', { type: 'button', class: 'primary', disabled: true, testid: 'consent-send' }, 'Confirm');
    const questions = consentQuestions(needed, () => {
      send.disabled = !questions.isComplete();
    });
    const problem = el('div', { 'aria-live': 'polite' });
    const dialog = openDialog({
      title: 'Your choice is needed',
      testid: 'consent-dialog',
      body: [questions.element, problem],
      actions: [send],
      mustAnswer: true,
    });
    send.addEventListener('click', async () => {
      send.disabled = true;
      try {
        await sendConsent(this.app.api, this.call.meetingId, questions.decisions());
        dialog.close();
      } catch (error) {
        problem.replaceChildren(notice(this.app.codeOf(error)));
        send.disabled = false;
      }
    });
  }

  #soundBlocked() {
    const start = el(
      'button',
      { type: 'button', class: 'primary', testid: 'start-sound' },
      icon('volume-2'),
      'Turn sound on',
    );
    start.addEventListener('click', () => (this.sound.resume(), this.banner.replaceChildren()));
    this.banner.replaceChildren(
      el('div', { class: 'sound-blocked' }, 'The browser holds back the sound of this call.', start),
    );
  }

  async #endForAll() {
    const isSure = await confirm({
      title: 'End the meeting for all?',
      text: 'Everyone leaves the call, and it cannot be opened again.',
      yes: 'End for all',
    });
    if (!isSure) return;
    try {
      await this.call.end();
    } catch (error) {
      const code = this.app.codeOf(error);
      this.app.toasts.show(reason(code).text, { code, iconName: 'circle-alert' });
    }
  }

  /** @param {{code: string}} ended */
  #ended({ code }) {
    this.app.toasts.clear();
    this.app.show(endedScreen(this.app, this.call.meetingId, code));
  }

  /** A handle for tests, where asked for: to look at the call, and to break it as a network would. */
  #debug() {
    const handle = /** @type {any} */ (globalThis).parley;
    if (!handle) return;
    const simulate = (/** @type {string} */ scenario) => {
      if (scenario === 'signal-drop') this.call.signaling.drop();
      else throw new RangeError(`unknown scenario ${scenario}`);
    };
    Object.assign(handle, { call: this.call, stats: () => rawStats(this.call), simulate });
  }

  close() {
    clearTimeout(this.#reconnecting);
    for (const close of this.#closers) close();
    this.call.leave(); // nothing where it has ended
    for (const dialog of document.querySelectorAll('dialog')) dialog.close();
    this.chat.close();
    this.people.close();
    this.stage.close();
    this.sound.close();
    this.session.close();
    this.network.close();
  }
}

/**
 * Esc and a click elsewhere close a menu; Esc gives the focus back to its button. @param {HTMLElement} menu
 * @param {HTMLElement} button @param {() => void} shut @returns {() => void} stops listening
 */
function closesOutside(menu, button, shut) {
  const isOpen = () => button.getAttribute('aria-expanded') === 'true';
  const pressed = (/** @type {Event} */ { target }) => {
    const isInside = target instanceof Node && (menu.contains(target) || button.contains(target));
    if (isOpen() && !isInside) shut();
  };
  const typed = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== 'Escape' || !isOpen() || document.querySelector('dialog[open]')) return;
    event.stopPropagation(); // one Esc closes one thing
    shut();
    button.focus();
  };
  document.addEventListener('pointerdown', pressed);
  document.addEventListener('keydown', typed, true);
  return () => {
    document.removeEventListener('pointerdown', pressed);
    document.removeEventListener('keydown', typed, true);
  };
}

/** What each received track has decoded so far. @param {Call} call */
async function rawStats(call) {
  const found = await Promise.all(
    call.topology.sources.map(async ({ connection, received }) => {
      const byMid = new Map([...received.values()].map(({ transceiver, info }) => [transceiver.mid, info]));
      const entries = [...(await connection.getStats()).values()].filter(({ type }) => type === 'inbound-rtp');
      return entries.flatMap((entry) => {
        const info = byMid.get(entry.mid);
        return info ? [{ ...info, framesDecoded: 0, ...entry }] : [];
      });
    }),
  );
  return found.flat();
}

/** @param {App} app @param {string} meetingId @param {string} code @returns {import('./app.js').Screen} */
export function endedScreen(app, meetingId, code) {
  const { title, text } = reason(code);
  const isFinal = ['removed', 'room-ended', 'meeting-ended'].includes(code);
  const home = el(
    'button',
    { type: 'button', class: isFinal ? 'primary' : '', testid: 'go-home', onclick: () => app.go('/') },
    'Go to Home',
  );
  const label = code === 'duplicate' ? 'Continue here' : 'Join again';
  const again = el(
    'button',
    { type: 'button', class: 'primary', testid: 'join-again', onclick: () => app.go(`/m/${meetingId}`) },
    label,
  );
  const main = el(
    'main',
    { class: 'centred', testid: 'call-ended' },
    el(
      'div',
      { class: 'hero', testid: 'notice', dataset: { code } },
      el('h1', {}, title),
      el('p', {}, text),
      el('div', { class: 'actions' }, home, !isFinal && again),
    ),
  );
  return { element: el('div', { class: 'page' }, main) };
}
