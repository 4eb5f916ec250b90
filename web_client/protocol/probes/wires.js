/**
 * Whether a wire of the HTTP tunnel passes: each is tried by a session of its own, which is ended afterwards; and whether
 * signaling's own WebSocket opens.
 */

import { PING, encodeAll, makeFrame } from '../tunnel/frame.js';
import { SUBPROTOCOL as TUNNEL_SUBPROTOCOL } from '../tunnel/wires.js';
import { SUBPROTOCOL } from '../wire.js';

/** An answer that has not begun by then is kept back by somebody in between. */
const STREAM_MS = 3000;
/** A wire that works keeps those below it waiting so long, for one above that is slower to open. */
const GRACE_MS = 1500;
const GIVE_UP_MS = 5000;

/**
 * @typedef {import('../tunnel/wires.js').WireKind} WireKind
 * @typedef {object} Network
 * @property {import('../messages.d.ts').Fetch} fetch
 * @property {import('../messages.d.ts').SocketClass} WebSocket
 * @typedef {{url: string, headers: Record<string, string>, secret: string, signal: AbortSignal}} ProbeSession
 */

/** Best first. @type {readonly WireKind[]} */
export const WIRE_KINDS = ['websocket', 'streaming', 'longpoll'];

/** Why a way is closed, for a person. */
export class Closed extends Error {}

/** ms until it is open; `signal` gives it up. @param {string} url of signaling @param {Network} network @param {AbortSignal} signal @returns {Promise<number>} */
export async function probeSignaling(url, { WebSocket }, signal) {
  const started = performance.now();
  const socket = new WebSocket(url, [SUBPROTOCOL]);
  signal.addEventListener('abort', () => socket.close());
  try {
    await new Promise((resolve, reject) => {
      socket.onopen = resolve;
      socket.onerror = () => reject(new Closed('WebSockets do not get through.'));
    });
    return performance.now() - started;
  } finally {
    socket.close();
  }
}

/**
 * ms there and back, null where the server has no tunnel; `signal` gives it up. Throws Closed, and what fetch throws.
 * @param {WireKind} kind @param {string} url of `/v1/tunnel/sessions` @param {Network} network @param {AbortSignal} signal
 * @returns {Promise<number | null>}
 */
export async function probeWire(kind, url, network, signal) {
  const { fetch } = network;
  const made = await fetch(url, { method: 'POST', body: '{}', signal });
  if (made.status === 404) return null;
  if (!made.ok) throw new Closed('The server refuses tunnels at the moment.');
  const { sessionId, resumeSecret } = await made.json();
  const headers = { Authorization: `Bearer ${resumeSecret}` };
  const session = { url: `${url}/${sessionId}`, headers, secret: resumeSecret, signal };
  try {
    signal.throwIfAborted();
    return await PROBES[kind](session, network);
  } finally {
    fetch(session.url, { method: 'DELETE', headers }).catch(() => {}); // it ends by itself
  }
}

/** @type {Record<WireKind, (session: ProbeSession, network: Network) => Promise<number>>} */
const PROBES = { websocket, streaming, longpoll };

/** @param {ProbeSession} session @param {Network} network */
async function websocket({ url, secret, signal }, { WebSocket }) {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws`, [TUNNEL_SUBPROTOCOL, `secret.${secret}`]);
  socket.binaryType = 'arraybuffer';
  signal.addEventListener('abort', () => socket.close());
  try {
    await heard(socket); // the acknowledgement with which each wire begins
    const started = performance.now();
    socket.send(encodeAll([makeFrame(PING, 0)]));
    await heard(socket);
    return performance.now() - started;
  } finally {
    socket.close();
  }
}

/** Settles with the next message. @param {WebSocket} socket */
function heard(socket) {
  return new Promise((resolve, reject) => {
    socket.onmessage = resolve;
    socket.onerror = socket.onclose = () => reject(new Closed('WebSockets do not get through.'));
  });
}

/** @param {ProbeSession} session @param {Network} network */
async function streaming({ url, headers, signal }, { fetch }) {
  const started = performance.now();
  const ending = new AbortController();
  signal.addEventListener('abort', () => ending.abort());
  const timer = setTimeout(() => ending.abort(), STREAM_MS);
  try {
    const answer = await fetch(`${url}/stream`, { headers, signal: ending.signal, cache: 'no-store' });
    const first = await answer.body?.getReader().read();
    if (!answer.ok || !first?.value?.length) throw new Closed('The answer ended at once.');
    return performance.now() - started;
  } catch (error) {
    throw error instanceof Closed ? error : new Closed('Something in between keeps answers back until they end.');
  } finally {
    clearTimeout(timer);
    ending.abort();
  }
}

/** @param {ProbeSession} session @param {Network} network */
async function longpoll({ url, headers, signal }, { fetch }) {
  const started = performance.now();
  const named = { ...headers, 'Parley-Wire': 'test' };
  const answer = await fetch(`${url}/poll`, { headers: named, signal, cache: 'no-store' });
  const body = await answer.arrayBuffer();
  if (!answer.ok || !body.byteLength) throw new Closed('What came back is not from the server.');
  return performance.now() - started;
}

/**
 * The best wire that passes, null where none does. All are tried at once: one that passes is taken as soon as those above
 * it have failed, or have had their time. The others are given up then.
 * @param {string} url of `/v1/tunnel/sessions` @param {Network} network
 * @param {typeof probeWire} [probe]
 * @returns {Promise<WireKind | null>}
 */
export function bestWire(url, network, probe = probeWire) {
  return new Promise((resolve) => {
    /** @type {Map<WireKind, boolean>} */
    const known = new Map();
    const ending = new AbortController();
    const passed = () => WIRE_KINDS.find((kind) => known.get(kind)) ?? null;
    const settle = (/** @type {WireKind | null} */ kind) => {
      clearTimeout(patience);
      clearTimeout(grace);
      ending.abort();
      resolve(kind);
    };
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let grace;
    const patience = setTimeout(() => settle(passed()), GIVE_UP_MS);
    const look = () => {
      const first = WIRE_KINDS.find((kind) => known.get(kind) !== false);
      if (first === undefined) settle(null);
      else if (known.get(first)) settle(first);
      else if (passed()) grace ??= setTimeout(() => settle(passed()), GRACE_MS);
    };
    for (const kind of WIRE_KINDS) {
      probe(kind, url, network, ending.signal).then(
        (ms) => (known.set(kind, ms !== null), look()),
        () => (known.set(kind, false), look()),
      );
    }
  });
}
