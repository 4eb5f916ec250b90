/**
 * Draws one state of the page: `/gallery/?state=call&people=20`. For screenshots and accessibility checks.
 *
 * The real screens run; only server, devices and cameras are stand-ins (fixtures.js). `document.body.dataset.ready` is
 * set when the state is there. `states` lists all names.
 */

import { App } from '/ui/app.js';
import { endedScreen } from '/ui/call_screen.js';
import { Devices } from '/ui/devices.js';
import { CONSENT, ME, MEETING, fakeFetch, fakeSocket, person, picture, problem, screenPicture } from './fixtures.js';
import { loopbackSocket } from './loopback.js';

const query = new URLSearchParams(location.search);

class FakeDevices extends Devices {
  async openBoth() {
    this.camera = picture(0, 1280, 720);
    this.emit('change');
  }

  /** @param {'microphone' | 'camera'} kind */
  async open(kind) {
    if (kind === 'camera') this.camera = picture(0);
    this.emit('change');
    return this[kind];
  }

  /** @param {string} kind @returns {Promise<any[]>} */
  async list(kind) {
    return [{ deviceId: '1', label: `Built-in ${kind}` }];
  }
}

class TroubledDevices extends FakeDevices {
  async openBoth() {
    this.trouble = /** @type {any} */ ({ ...this.trouble, ...troubles[query.get('state') ?? ''] });
    this.emit('change');
  }
}

const troubles = /** @type {Record<string, object>} */ ({
  'prejoin-denied': { microphone: 'microphone-denied', camera: 'camera-denied' },
  'prejoin-no-device': { microphone: 'microphone-missing', camera: 'camera-missing' },
  'prejoin-busy': { camera: 'camera-busy' },
});

/** @param {object} [options] */
function makeApp({ isSignedIn = true, devices = new FakeDevices(), fetch = fakeFetch(), env = {} } = {}) {
  const signIn = { isSignedIn, token: async () => 'token', signOut: () => {}, begin: async () => '#' };
  const root = /** @type {HTMLElement} */ (document.getElementById('app'));
  const config = { issuer: '', clientId: '' };
  return new App(/** @type {any} */ ({ root, config, signIn, fetch, env, devices }));
}

/** @param {string} selector @returns {Promise<any>} */
async function find(selector) {
  for (let tries = 0; tries < 600; tries += 1) {
    const found = document.querySelector(selector);
    if (found instanceof HTMLElement && !found.hidden) return found;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`nothing matches ${selector}`);
}

/** @param {string} id */
const click = async (id) => (await find(`[data-testid="${id}"]`)).click();

/** The preview of a meeting. @param {object} [meeting] @param {object} [options] */
async function prejoin(meeting = {}, options = {}) {
  const app = makeApp({ fetch: fakeFetch({ meeting, ...options }), ...options });
  history.replaceState(null, '', `/m/${MEETING}${location.search}`);
  app.route();
  await find('[data-testid="join-button"]');
  return app;
}

/** The meeting is at another provider. @param {{name: string, roomId: string, identity: string, endpoint: string}} way */
async function elsewhere(way) {
  const provider = { ...way, token: 'eyJhbGciOi', expiresAt: '2026-01-01T11:00:00Z' };
  const grant = { participantId: 'p', token: 't', signalingUrl: '', iceServers: [], expiresAt: '', role: 'host', provider };
  await prejoin({ settings: { mediaProvider: way.name }, isHost: true }, { join: () => Response.json(grant) });
  await click('join-button');
  await find('[data-testid="provider-screen"]');
}

/** A join that is refused. @param {string} slug @param {number} status @param {object} [meeting] @param {object} [extra] */
async function refused(slug, status, meeting = {}, extra = {}) {
  await prejoin(meeting, { join: () => problem(slug, status, extra) });
  await click('join-button');
  await find(`[data-testid="notice"][data-code="${slug}"]`);
}

/** A call with `people` others and oneself. @param {{count?: number, role?: string, isSharing?: boolean}} [options] */
async function call({ count = Number(query.get('people') ?? 5), role = 'host', isSharing = false } = {}) {
  const people = Array.from({ length: count }, (_, index) => person(index));
  Object.assign(people[0], { role, isMuted: false });
  const tracks = people.map(({ userId, participantId }) => ({
    trackId: `camera-${userId}`,
    kind: 'video',
    source: 'camera',
    userId,
    participantId,
  }));
  if (isSharing)
    tracks.push({
      trackId: 'screen',
      kind: 'video',
      source: 'screen',
      userId: 'user-2',
      participantId: 'participant-2',
    });
  const Socket = fakeSocket({ people, tracks });
  const handle = /** @type {any} */ ({});
  Object.assign(globalThis, { parley: handle });
  const app = makeApp({ fetch: fakeFetch(), env: { WebSocket: Socket } });
  history.replaceState(null, '', `/m/${MEETING}${location.search}`);
  app.route();
  await find('.preview video');
  await click('join-button');
  await find('[data-testid="call-stage"]');
  handle.call.topology.received = received(tracks);
  handle.call.emit('track', { info: { kind: 'video' } });
  const speaking = [{ userId: 'user-3', level: 0.6 }];
  Socket.last.push('ActiveSpeakers', { speakers: speaking });
  Socket.last.push('QualityChanged', { userId: 'user-2', quality: 'poor' });
  return { app, Socket, call: handle.call };
}

/** @param {any[]} tracks */
function received(tracks) {
  const entries = tracks.map((info, index) => {
    const media = info.source === 'screen' ? screenPicture() : picture(index);
    return /** @type {const} */ ([info.trackId, { info, media, transceiver: { mid: String(index) } }]);
  });
  return new Map(entries);
}

/** @param {any} Socket */
function chatter(Socket) {
  const texts = [
    ['user-2', 'Good morning! The notes are at https://parley.example/notes, please have a look before we start.'],
    ['user-5', 'שלום לכולם, אני שומע אתכם מצוין'],
    ['user-4', 'a_single_word_that_is_far_too_long_for_the_panel_and_has_to_be_broken_somewhere_in_the_middle'],
    ['user-4', 'And a second message.\nWith two lines.'],
  ];
  for (const [index, [userId, text]] of texts.entries()) {
    const displayName = person(Number(userId.slice(5)) - 1).displayName;
    Socket.last.push(
      'MessageReceived',
      { messageId: `m${index}`, userId, displayName, text, sentAt: '2026-01-01T10:0' + index + ':00Z' },
      true,
    );
  }
}

const inMinutes = (/** @type {number} */ minutes) => new Date(Date.now() + minutes * 60_000).toISOString();

/** @type {Record<string, () => Promise<unknown>>} */
export const states = {
  'signed-out': async () => makeApp({ isSignedIn: false }).route(),
  home: async () => (makeApp().route(), find('[data-testid="meeting"]')),
  'home-options': async () => (makeApp().route(), (await find('.options')).setAttribute('open', '')),
  'home-empty': async () => (makeApp({ fetch: fakeFetch({ items: [] }) }).route(), find('.empty')),
  'home-loading': async () => makeApp({ fetch: fakeFetch({ isSlow: true }) }).route(),
  'home-down': async () => (makeApp({ fetch: fakeFetch({ isDown: true }) }).route(), find('[data-testid="notice"]')),
  prejoin: () => prejoin(),
  'prejoin-consent': () => prejoin({ consentRequired: CONSENT, requiresPassword: true }),
  'prejoin-no-choice': async () => {
    await prejoin({ consentRequired: CONSENT });
    await click('join-button');
  },
  'prejoin-denied': () => prejoin({}, { devices: new TroubledDevices() }),
  'prejoin-no-device': () => prejoin({}, { devices: new TroubledDevices() }),
  'prejoin-busy': () => prejoin({}, { devices: new TroubledDevices() }),
  'prejoin-password': () => refused('wrong-password', 403, { requiresPassword: true }),
  'prejoin-early': () => refused('not-started', 403, { scheduledTime: inMinutes(42) }),
  'prejoin-full': () => refused('room-full', 409),
  'prejoin-ended': async () => {
    const app = makeApp({ fetch: fakeFetch({ meeting: { status: 'COMPLETED' } }) });
    history.replaceState(null, '', `/m/${MEETING}${location.search}`);
    app.route();
    await find('[data-testid="notice"]');
  },
  'prejoin-provider-away': () => refused('provider-unavailable', 503, { settings: { mediaProvider: 'acs' } }),
  'elsewhere-acs': () =>
    elsewhere({
      name: 'acs',
      roomId: '99445276259151407',
      identity: '8:acs:3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11_0000001c-f2f4-5d1b-2c27-ad45ffb6d3e1',
      endpoint: 'https://parley.communication.azure.com',
    }),
  'elsewhere-livekit': () =>
    elsewhere({ name: 'livekit', roomId: MEETING, identity: ME, endpoint: 'wss://parley.livekit.example' }),
  call: () => call(),
  'call-attendee': () => call({ role: 'attendee' }),
  'call-viewer': () => call({ role: 'viewer' }),
  'call-speaker': async () => {
    await call();
    document.querySelector('[data-testid="control-layout"]')?.dispatchEvent(new Event('click'));
  },
  'call-share': () => call({ isSharing: true }),
  'call-chat': async () => {
    const { Socket } = await call();
    chatter(Socket);
    document.querySelector('.toasts')?.replaceChildren();
    await click('control-chat');
  },
  'call-unread': async () => chatter((await call()).Socket),
  'call-people': async () => {
    await call();
    await click('control-people');
  },
  'call-more': async () => {
    await call();
    await click('control-more');
  },
  'call-reconnecting': async () => {
    const { app, call: active } = await call();
    app.env.WebSocket = /** @type {any} */ (null);
    active.signaling.WebSocket = class {
      close() {}
    };
    active.signaling.drop();
    await find('[data-testid="reconnecting"]');
  },
  'call-audio-only': () => audioOnly(),
  'call-audio-only-share': () => audioOnly({ isSharing: true }),
  'call-video-paused': () => videoPaused(),
  'call-quality': async () => {
    const { Socket } = await call();
    for (const [index, quality] of ['lost', 'poor', 'good', 'excellent'].entries())
      Socket.last.push('QualityChanged', { userId: `user-${index + 2}`, quality });
  },
  'call-muted': async () =>
    (await call()).Socket.last.push('Moderated', { action: 'mute', userId: ME, byUserId: 'user-2' }, true),
  'call-consent': async () => (await call()).Socket.last.push('ConsentRequested', { consentRequired: CONSENT }, true),
  'call-end': async () => {
    await call();
    document.querySelector('[data-testid="end-for-all"]')?.dispatchEvent(new Event('click'));
  },
  'ended-left': async () => ended('left'),
  'ended-removed': async () => ended('removed'),
  'ended-host': async () => ended('room-ended'),
  'ended-elsewhere': async () => ended('duplicate'),
  loopback: async () => {
    const env = { WebSocket: /** @type {any} */ (loopbackSocket()) };
    Object.assign(globalThis, { parley: { call: null } });
    const app = makeApp({ env, devices: new Devices() });
    history.replaceState(null, '', `/m/${MEETING}${location.search}`);
    app.route();
    await find('.preview video');
    await click('join-button');
  },
};

/** The SFU keeps back the video of all the others. @param {object} [options] */
async function audioOnly(options) {
  const { Socket, call: active } = await call(options);
  const tracks = [...active.room.tracks.keys()].map((trackId) => ({ trackId, paused: 'bandwidth' }));
  Socket.last.push('ReceiveChanged', { tracks }, true);
  await find('[data-testid="tile"][data-paused="bandwidth"]');
}

/** A bad link for as long as it takes to lose one's own video. */
async function videoPaused() {
  const { call: active } = await call();
  for (let second = 0; second <= 26; second += 1) {
    active.congestion.take({ now: performance.now() + second * 1000, loss: 0.2, roundTripS: 0.1 });
  }
  await find('[data-testid="tile"][data-self="true"][data-paused="bandwidth"]');
}

/** @param {string} code */
function ended(code) {
  const app = makeApp();
  app.show(endedScreen(app, MEETING, code));
}

localStorage.clear();
const state = query.get('state');
if (state) {
  await states[state]();
  await new Promise((resolve) => setTimeout(resolve, 400));
  document.body.dataset.ready = state;
} else {
  document.body.append(
    ...Object.keys(states).map((name) => {
      const link = document.createElement('a');
      link.href = `?state=${name}`;
      link.textContent = `${name} `;
      return link;
    }),
  );
}
