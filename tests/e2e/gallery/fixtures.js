/**
 * Stand-ins for the server and the devices, so that each screen and state can be drawn without one: people and meetings,
 * a `fetch` that answers as the REST API, a WebSocket that answers as signaling, drawn pictures as cameras.
 */

export const MEETING = '3f6c1b62-6f0e-5d43-9a51-2f7f7a3f8f10';
export const ME = 'user-1';

const NAMES = [
  'Test User One', 'Tester Two', 'Third Tester', 'A tester with a rather long name that does not fit', 'משתמש בדיקה',
  'Tester Six', 'Seventh User', 'Example Eight', 'Sample Nine', 'Ten',
]; // prettier-ignore

export const CONSENT = [
  {
    type: 'recording',
    version: '1.0',
    text: 'This meeting may be recorded: sound, pictures and shared screens. The recording is kept for 365 days and the host and the participants can watch it.',
  },
  {
    type: 'ai',
    version: '1.0',
    text: 'What is said may be written down, translated and summed up by software. No recording is needed for it.',
  },
];

/** @param {number} index */
export function person(index) {
  return {
    userId: `user-${index + 1}`,
    participantId: `participant-${index + 1}`,
    displayName: NAMES[index] ?? `Tester ${index + 1}`,
    role: index === 0 ? 'host' : index % 11 === 7 ? 'viewer' : 'attendee',
    joinedAt: '2026-01-01T10:00:00Z',
    isMuted: index % 3 === 1,
    isVideoOn: index % 4 !== 3,
    isHandRaised: index === 2 || index === 5,
  };
}

/** A moving picture of a person. @param {number} index @param {number} [width] @param {number} [height] @returns {MediaStreamTrack} */
export function picture(index, width = 480, height = 270) {
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  const hue = (index * 47) % 360;
  const draw = () => {
    if (!context) return;
    const gradient = context.createLinearGradient(0, 0, width, height);
    gradient.addColorStop(0, `hsl(${hue} 30% 62%)`);
    gradient.addColorStop(1, `hsl(${hue + 30} 30% 34%)`);
    context.fillStyle = gradient;
    context.fillRect(0, 0, width, height);
    context.fillStyle = `hsl(${hue} 25% 22%)`;
    context.beginPath();
    context.ellipse(width / 2, height * 1.08, width * 0.24, height * 0.5, 0, 0, 7);
    context.fill();
    context.fillStyle = `hsl(${20 + (index % 5) * 6} 40% ${45 + (index % 4) * 9}%)`;
    context.beginPath();
    context.ellipse(width / 2, height * 0.42, height * 0.17, height * 0.22, 0, 0, 7);
    context.fill();
  };
  draw();
  const [track] = canvas.captureStream(5).getVideoTracks();
  setTimeout(draw, 50);
  setTimeout(draw, 300);
  return track;
}

/** A shared screen: a page with text. @returns {MediaStreamTrack} */
export function screenPicture() {
  const canvas = document.createElement('canvas');
  canvas.width = 1280;
  canvas.height = 720;
  const context = canvas.getContext('2d');
  const draw = () => {
    if (!context) return;
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 1280, 720);
    context.fillStyle = '#222';
    context.font = '600 48px sans-serif';
    context.fillText('Plan of the quarter', 80, 120);
    context.fillStyle = '#888';
    for (let line = 0; line < 9; line += 1) context.fillRect(80, 180 + line * 52, 500 + ((line * 137) % 520), 18);
  };
  draw();
  const [track] = canvas.captureStream(5).getVideoTracks();
  setTimeout(draw, 50);
  setTimeout(draw, 300);
  return track;
}

/** @param {number} status @param {object} body */
function answer(status, body) {
  const type = status < 400 ? 'application/json' : 'application/problem+json';
  return new Response(JSON.stringify(body), { status, headers: { 'Content-Type': type } });
}

/** @param {string} slug @param {number} status @param {object} [extra] */
export function problem(slug, status, extra = {}) {
  return answer(status, { type: `https://parley.example/problems/${slug}`, title: slug, status, ...extra });
}

function meetings() {
  const at = (/** @type {number} */ hours) => new Date(Date.now() + hours * 3_600_000).toISOString();
  const make = (/** @type {number} */ n, /** @type {string} */ status, /** @type {number} */ hours) => ({
    id: `${n}f6c1b62-6f0e-5d43-9a51-2f7f7a3f8f10`,
    hostId: ME,
    status,
    scheduledTime: at(hours),
    createdAt: at(hours - 1),
  });
  return [
    make(1, 'ACTIVE', -0.3),
    make(2, 'SCHEDULED', 3),
    make(3, 'SCHEDULED', 26),
    make(4, 'COMPLETED', -26),
    make(5, 'COMPLETED', -50),
  ];
}

/**
 * A `fetch` that answers as the API.
 * @param {{meeting?: object, items?: object[], join?: () => Response, isDown?: boolean, isSlow?: boolean, requests?: any[]}} [options]
 */
export function fakeFetch({
  meeting = {},
  items = meetings(),
  join,
  isDown = false,
  isSlow = false,
  requests = [],
} = {}) {
  const grant = {
    participantId: 'participant-1',
    token: 'token',
    signalingUrl: 'ws://gallery/',
    iceServers: [],
    role: 'host',
  };
  const routes = /** @type {[RegExp, () => Response][]} */ ([
    [/^GET .*\/users\/me\/profile$/, () => answer(200, { id: ME, displayName: NAMES[0] })],
    [/^GET .*\/meetings\?/, () => answer(200, { items, nextCursor: null })],
    [
      /^GET .*\/meetings\/[^/]+$/,
      () =>
        answer(200, { id: MEETING, hostId: ME, status: 'SCHEDULED', settings: {}, consentRequired: [], ...meeting }),
    ],
    [/^POST .*\/meetings$/, () => answer(201, { id: MEETING, hostId: ME, status: 'SCHEDULED', settings: {} })],
    [/^POST .*\/join$/, join ?? (() => answer(200, grant))],
    [/^POST .*\/users\/consent$/, () => answer(201, { consentId: 'c', consentToken: 'consent', expiresAt: '' })],
    [/^PUT .*\/end$/, () => answer(200, {})],
  ]);
  return async (/** @type {any} */ url, /** @type {any} */ { method = 'GET', body, headers } = {}) => {
    requests.push({ method, url: String(url), body: body && JSON.parse(body), headers });
    if (isSlow) await new Promise(() => {});
    if (isDown) throw new TypeError('no answer');
    const route = routes.find(([pattern]) => pattern.test(`${method} ${url}`));
    return route ? route[1]() : problem('not-found', 404);
  };
}

/**
 * A WebSocket class that answers as signaling in a room of `people`. The newest socket is `last`; `push` sends to it.
 * @param {{people: object[], tracks?: object[], onmessage?: (message: any, socket: any) => void}} room
 */
export function fakeSocket({ people, tracks = [], onmessage }) {
  return class Socket {
    /** @type {any} */
    static last = null;
    static seq = 1;
    readyState = 0;
    /** @type {any} */ onopen = null;
    /** @type {any} */ onmessage = null;
    /** @type {any} */ onclose = null;

    constructor() {
      Socket.last = this;
      setTimeout(() => {
        this.readyState = 1;
        this.onopen?.({});
      });
    }

    /** @param {string} type @param {object} payload @param {boolean} [isEvent] */
    push(type, payload, isEvent = false) {
      const seq = isEvent ? { seq: (Socket.seq += 1) } : {};
      this.onmessage?.({ data: JSON.stringify({ type, payload, ...seq }) });
    }

    /** @param {string} text */
    send(text) {
      const message = JSON.parse(text);
      setTimeout(() => {
        if (message.type === 'JoinRoom') this.#joined();
        else if (message.type === 'KeepAlive') this.push('KeepAliveAck', { serverTime: '' });
        else if (message.type === 'Resume') this.push('Resumed', { ...identity, seq: Socket.seq });
        else if (message.type === 'SendMessage') this.#chat(message.payload);
        onmessage?.(message, this);
      });
    }

    #joined() {
      const snapshot = { roomId: MEETING, participants: people, tracks };
      this.push('RoomJoined', { ...identity, userId: ME, role: 'host', seq: Socket.seq, snapshot });
    }

    /** @param {{messageId: string, text: string}} payload */
    #chat(payload) {
      this.push(
        'MessageReceived',
        { ...payload, userId: ME, displayName: NAMES[0], sentAt: new Date().toISOString() },
        true,
      );
    }

    /** @param {number} [code] */
    close(code = 1000) {
      this.readyState = 3;
      setTimeout(() => this.onclose?.({ code }));
    }
  };
}

const identity = { participantId: 'participant-1', resumeSecret: 's', topology: 'sfu', epoch: 1, generation: 'g1' };
