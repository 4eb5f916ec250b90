/**
 * Which ways lead from this network to the server, best first: relays over UDP, TCP and TLS, and the HTTP tunnel over a
 * WebSocket, streaming and long-poll. Each way is tried for real and on its own, all at once, and each try is bounded.
 *
 * A relay is tried by two connections that may use nothing else and say hello to each other through it. A tunnel wire is
 * tried by a session of its own, which is ended afterwards. Signaling is tried by opening its socket.
 *
 * Events: `result` (Result), one for each way when it begins and when it is known.
 */

import { Emitter } from '../events.js';
import { probeRelay, relaysFor } from './relay.js';
import { Closed, probeSignaling, probeWire } from './wires.js';

const LIMIT_MS = 8000;
/** What takes longer there and back is slow. */
const SLOW_MS = 300;

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

export class ConnectionTest extends Emitter {
  /**
   * @param {object} options
   * @param {import('../api.js').Api} options.api
   * @param {string} options.origin of the server
   * @param {import('../messages.d.ts').Fetch} [options.fetch]
   * @param {import('../messages.d.ts').SocketClass} [options.WebSocket]
   * @param {import('../messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
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
    const relays = /** @type {const} */ (['turn-udp', 'turn-tcp', 'turn-tls']);
    await Promise.all([
      this.#try('signaling', (signal) => probeSignaling(`${this.origin.replace(/^http/, 'ws')}/v1/signal`, this, signal)),
      ...relays.map((way) => this.#try(way, async (signal) => this.#relay(await iceServers, way, signal))),
      this.#try('tunnel-websocket', (signal) => this.#wire('websocket', signal)),
      this.#try('tunnel-stream', (signal) => this.#wire('streaming', signal)),
      this.#try('tunnel-poll', (signal) => this.#wire('longpoll', signal)),
    ]);
    return this.results;
  }

  /** @param {Result} result */
  #tell(result) {
    this.results.set(result.way, result);
    this.emit('result', result);
  }

  /** @param {Way} way @param {(signal: AbortSignal) => Promise<number | null>} attempt gives a time there and back, null where there is no such way */
  async #try(way, attempt) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    const ending = new AbortController();
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(new Closed('Nothing came back in time.')), this.limitMs);
    });
    try {
      const ms = await /** @type {Promise<number | null>} */ (Promise.race([attempt(ending.signal), late]));
      if (ms === null) this.#tell({ way, verdict: 'absent', why: 'The server does not offer it.' });
      else this.#tell({ way, verdict: ms > SLOW_MS ? 'slow' : 'works', ms });
    } catch (error) {
      this.#tell({ way, verdict: 'blocked', why: error instanceof Closed ? error.message : 'It cannot be reached.' });
    } finally {
      clearTimeout(timer);
      ending.abort();
    }
  }

  // --- the tries ------------------------------------------------------------------------------------------------------
  /** @param {RTCIceServer[] | null} all @param {import('./relay.js').RelayWay} way @param {AbortSignal} signal */
  async #relay(all, way, signal) {
    if (all === null) throw new Closed('The server does not answer.');
    const iceServers = relaysFor(all, way);
    return iceServers.length ? probeRelay(iceServers, this.RTCPeerConnection, signal) : null;
  }

  /** @param {import('./wires.js').WireKind} kind @param {AbortSignal} signal */
  #wire(kind, signal) {
    return probeWire(kind, `${this.origin}/v1/tunnel/sessions`, this, signal);
  }
}
