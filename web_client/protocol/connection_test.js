/**
 * Which ways lead from this network to the server, best first: relays over UDP, TCP and TLS, and the HTTP tunnel over a
 * WebSocket, streaming and long-poll. Each way is tried for real and on its own, all at once, and each try is bounded.
 *
 * A relay is tried by two connections that may use nothing else and say hello to each other through it. A tunnel wire is
 * tried by a session of its own, which is ended afterwards. Signaling is tried by opening its socket.
 *
 * Events: `result` (Result), one for each way when it begins and when it is known.
 */

import { Emitter } from './events.js';
import { SUBPROTOCOL } from './wire.js';

const LIMIT_MS = 8000;
/** What takes longer there and back is slow. */
const SLOW_MS = 300;
const TUNNEL_SUBPROTOCOL = 'parley.tunnel.v1';
/** An answer that has not begun by then is kept back by somebody in between. */
const STREAM_MS = 3000;
/** A ping of the tunnel (docs/tunnel-protocol.md): type 6, everything else 0. */
const PING = Uint8Array.of(0x60, ...new Uint8Array(11));

/**
 * @typedef {'signaling' | 'turn-udp' | 'turn-tcp' | 'turn-tls' | 'tunnel-websocket' | 'tunnel-stream' | 'tunnel-poll'} Way
 * @typedef {'testing' | 'works' | 'slow' | 'blocked' | 'absent'} Verdict
 * @typedef {{way: Way, verdict: Verdict, ms?: number, why?: string}} Result
 */

/** @type {Way[]} best first */
export const WAYS = [
  'signaling',
  'turn-udp',
  'turn-tcp',
  'turn-tls',
  'tunnel-websocket',
  'tunnel-stream',
  'tunnel-poll',
];

/** Why a way is closed, for a person. */
class Closed extends Error {}

/** @param {RTCIceServer[]} iceServers @param {Way} way @returns {RTCIceServer[]} those that lead this way */
export function relaysFor(iceServers, way) {
  const fits = (/** @type {string} */ url) => {
    const isTls = url.startsWith('turns:');
    const isTcp = /[?&]transport=tcp/.test(url);
    if (way === 'turn-tls') return isTls;
    return !isTls && (way === 'turn-tcp') === isTcp && url.startsWith('turn:');
  };
  return iceServers
    .map((server) => ({ ...server, urls: [server.urls].flat().filter(fits) }))
    .filter(({ urls }) => urls.length > 0);
}

export class ConnectionTest extends Emitter {
  /**
   * @param {object} options
   * @param {import('./api.js').Api} options.api
   * @param {string} options.origin of the server
   * @param {import('./messages.d.ts').Fetch} [options.fetch]
   * @param {import('./messages.d.ts').SocketClass} [options.WebSocket]
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   * @param {number} [options.limitMs]
   */
  constructor({ api, origin, fetch, WebSocket, RTCPeerConnection, limitMs = LIMIT_MS }) {
    super();
    this.api = api;
    this.origin = origin;
    this.fetch = fetch ?? globalThis.fetch.bind(globalThis);
    this.WebSocket = WebSocket ?? globalThis.WebSocket;
    this.RTCPeerConnection = RTCPeerConnection ?? globalThis.RTCPeerConnection;
    this.limitMs = limitMs;
    /** @type {Map<Way, Result>} */
    this.results = new Map();
  }

  /** Tries all ways. @returns {Promise<Map<Way, Result>>} */
  async run() {
    for (const way of WAYS) this.#tell({ way, verdict: 'testing' });
    const iceServers = this.api.iceServers().then(
      (found) => found.iceServers,
      () => null,
    );
    const relay = (/** @type {Way} */ way) => async () => this.#relay(await iceServers, way);
    await Promise.all([
      this.#try('signaling', () => this.#signaling()),
      ...(/** @type {const} */ (['turn-udp', 'turn-tcp', 'turn-tls']).map((way) => this.#try(way, relay(way)))),
      this.#try('tunnel-websocket', () => this.#tunnel((session) => this.#tunnelSocket(session))),
      this.#try('tunnel-stream', () => this.#tunnel((session) => this.#tunnelStream(session))),
      this.#try('tunnel-poll', () => this.#tunnel((session) => this.#tunnelPoll(session))),
    ]);
    return this.results;
  }

  /** @param {Result} result */
  #tell(result) {
    this.results.set(result.way, result);
    this.emit('result', result);
  }

  /** @param {Way} way @param {() => Promise<number | null>} attempt gives a time there and back, null where there is no such way */
  async #try(way, attempt) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Closed('Nothing came back in time.')), this.limitMs);
    });
    try {
      const ms = await /** @type {Promise<number | null>} */ (Promise.race([attempt(), late]));
      if (ms === null) this.#tell({ way, verdict: 'absent', why: 'The server does not offer it.' });
      else this.#tell({ way, verdict: ms > SLOW_MS ? 'slow' : 'works', ms });
    } catch (error) {
      this.#tell({ way, verdict: 'blocked', why: error instanceof Closed ? error.message : 'It cannot be reached.' });
    } finally {
      clearTimeout(timer);
    }
  }

  async #signaling() {
    const started = performance.now();
    const socket = new this.WebSocket(`${this.origin.replace(/^http/, 'ws')}/v1/signal`, [SUBPROTOCOL]);
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

  // --- relays ---------------------------------------------------------------------------------------------------------
  /** @param {RTCIceServer[] | null} all @param {Way} way */
  async #relay(all, way) {
    if (all === null) throw new Closed('The server does not answer.');
    const iceServers = relaysFor(all, way);
    if (!iceServers.length) return null;
    const make = () => new this.RTCPeerConnection({ iceServers, iceTransportPolicy: 'relay' });
    const [one, other] = [make(), make()];
    try {
      return await this.#hello(one, other);
    } finally {
      one.close();
      other.close();
    }
  }

  /** The time of a message from one to the other and back. @param {RTCPeerConnection} one @param {RTCPeerConnection} other @returns {Promise<number>} */
  async #hello(one, other) {
    const channels = [one, other].map((connection) => connection.createDataChannel('test', { negotiated: true, id: 0 }));
    for (const [from, to] of /** @type {const} */ ([[one, other], [other, one]])) { // prettier-ignore
      from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate).catch(() => {});
    }
    const [mine, theirs] = channels;
    theirs.onmessage = () => theirs.send('pong');
    const pong = new Promise((resolve) => {
      mine.onmessage = resolve;
    });
    const open = new Promise((resolve) => {
      mine.onopen = resolve;
    });
    await one.setLocalDescription();
    await other.setRemoteDescription(/** @type {RTCSessionDescription} */ (one.localDescription));
    await other.setLocalDescription();
    await one.setRemoteDescription(/** @type {RTCSessionDescription} */ (other.localDescription));
    await open;
    const started = performance.now();
    mine.send('ping');
    await pong;
    return performance.now() - started;
  }

  // --- tunnel ---------------------------------------------------------------------------------------------------------
  /** A session for the time of the test. @param {(session: {url: string, secret: string}) => Promise<number>} attempt */
  async #tunnel(attempt) {
    const made = await this.fetch(`${this.origin}/v1/tunnel/sessions`, { method: 'POST', body: '{}' });
    if (made.status === 404) return null;
    if (!made.ok) throw new Closed('The server refuses tunnels at the moment.');
    const { sessionId, resumeSecret } = await made.json();
    const session = { url: `${this.origin}/v1/tunnel/sessions/${sessionId}`, secret: resumeSecret };
    try {
      return await attempt(session);
    } finally {
      this.fetch(session.url, { method: 'DELETE', headers: this.#headers(session) }).catch(() => {}); // it ends by itself
    }
  }

  /** @param {{secret: string}} session */
  #headers({ secret }) {
    return { Authorization: `Bearer ${secret}` };
  }

  /** @param {{url: string, secret: string}} session */
  async #tunnelSocket({ url, secret }) {
    const protocols = [TUNNEL_SUBPROTOCOL, `secret.${secret}`];
    const socket = new this.WebSocket(`${url.replace(/^http/, 'ws')}/ws`, protocols);
    socket.binaryType = 'arraybuffer';
    try {
      await new Promise((resolve, reject) => {
        socket.onmessage = resolve; // the acknowledgement with which each wire begins
        socket.onerror = () => reject(new Closed('WebSockets do not get through.'));
        socket.onclose = () => reject(new Closed('WebSockets do not get through.'));
      });
      const started = performance.now();
      const pong = new Promise((resolve) => {
        socket.onmessage = resolve;
      });
      socket.send(PING);
      await pong;
      return performance.now() - started;
    } finally {
      socket.onclose = null;
      socket.close();
    }
  }

  /** @param {{url: string, secret: string}} session */
  async #tunnelStream(session) {
    const started = performance.now();
    const ending = new AbortController();
    const timer = setTimeout(() => ending.abort(), STREAM_MS);
    try {
      const options = { headers: this.#headers(session), signal: ending.signal, cache: /** @type {const} */ ('no-store') };
      const answer = await this.fetch(`${session.url}/stream`, options);
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

  /** @param {{url: string, secret: string}} session */
  async #tunnelPoll(session) {
    const started = performance.now();
    const headers = { ...this.#headers(session), 'Parley-Wire': 'test' };
    const answer = await this.fetch(`${session.url}/poll`, { headers, cache: 'no-store' });
    const body = await answer.arrayBuffer();
    if (!answer.ok || !body.byteLength) throw new Closed('What came back is not from the server.');
    return performance.now() - started;
  }
}
