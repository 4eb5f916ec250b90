/**
 * A tunnel to the gateway: makes the session, carries it by a wire, and changes the wire in mid-call.
 *
 * A new wire is opened beside the old one and speaks from the moment it is open (make before break). A wire that the
 * network ends is replaced by one of its kind; an end that the gateway means ends the tunnel.
 *
 * Events: `signal` (text), `control`, `media`, `wire` (kind that speaks now), `closed` ({code}).
 */

import { Emitter } from '../events.js';
import { TunnelSession } from './session.js';
import { WIRES } from './wires.js';

const RETRIES = 3;
const RETRY_MS = 500;
/** Ends that only the network, or a server that drains, is to blame for. */
const PASSING = new Set([1001, 1005, 1006, 1007]);

/**
 * @typedef {import('./wires.js').WireKind} WireKind
 * @typedef {InstanceType<(typeof WIRES)[WireKind]>} Wire
 */

export class Tunnel extends Emitter {
  session = new TunnelSession();
  /** The wire that speaks. @type {WireKind | null} */
  kind = null;
  isClosed = false;
  /** @type {Wire | null} */
  #wire = null;
  /** @type {Wire | null} */
  #opening = null;
  #base = '';
  #secret = '';
  #count = 0;
  #failures = 0;

  /**
   * @param {object} options
   * @param {string} options.url of `/v1/tunnel/sessions`, absolute
   * @param {boolean} [options.isText] base64 bodies on streaming and long-poll
   * @param {() => number} [options.now] ms, monotonic
   * @param {typeof globalThis.fetch} [options.fetch]
   * @param {import('../messages.d.ts').SocketClass} [options.WebSocket]
   */
  constructor({ url, isText = false, now = () => performance.now(), fetch = globalThis.fetch, WebSocket }) {
    super();
    this.url = url;
    this.isText = isText;
    this.now = now;
    this.fetch = fetch;
    this.WebSocket = WebSocket;
    for (const name of /** @type {const} */ (['signal', 'control', 'media'])) {
      this.session.on(name, (value) => this.emit(name, value));
    }
    this.session.on('ready', () => this.#wire instanceof WIRES.websocket && this.#wire.flush());
  }

  /** Makes the session; `use` a wire then. Throws where the gateway refuses. @param {'frames' | 'datagrams'} [mode] */
  async open(mode = 'frames') {
    const { fetch } = this;
    const headers = { 'Content-Type': 'application/json' };
    const answer = await fetch(this.url, { method: 'POST', headers, body: JSON.stringify({ mode }) });
    if (answer.status !== 201) throw new Error(`the tunnel gateway refuses a session: ${answer.status}`);
    const { sessionId, resumeSecret } = await answer.json();
    this.#base = `${this.url}/${sessionId}`;
    this.#secret = resumeSecret;
  }

  /** Carries the session by a wire of this kind from now on. @param {WireKind} kind @returns {Promise<void>} */
  use(kind) {
    this.#opening?.close();
    return new Promise((resolve, reject) => {
      this.#count += 1;
      const { isText, now, fetch, WebSocket, session } = this;
      const wire = new WIRES[kind]({
        base: this.#base,
        secret: this.#secret,
        name: `wire-${this.#count}`,
        session,
        now,
        isText,
        fetch: (input, init) => fetch(input, init),
        WebSocket,
        opened: () => queueMicrotask(() => this.#opened(wire, kind, resolve)),
        frames: (frames) => this.#received(wire, frames),
        closed: (code) => {
          reject(new Error(`the wire has ended: ${code}`));
          this.#ended(wire, kind, code);
        },
      });
      this.#opening = wire;
    });
  }

  /** @param {Wire} wire @param {WireKind} kind @param {() => void} resolve */
  #opened(wire, kind, resolve) {
    if (wire.isClosed || this.isClosed) return;
    this.#wire?.hush(); // it is heard until the gateway ends it
    this.#wire = wire;
    this.#opening = null;
    this.kind = kind;
    this.#failures = 0;
    this.session.attach();
    wire.speak();
    this.emit('wire', kind);
    resolve();
  }

  /** @param {Wire} wire @param {import('./frame.js').Frame[]} frames */
  #received(wire, frames) {
    try {
      for (const frame of frames) this.session.receive(frame, this.now());
    } catch {
      wire.close();
      wire.options.closed(1007);
    }
  }

  /** @param {Wire} wire @param {WireKind} kind @param {number} code */
  #ended(wire, kind, code) {
    if (this.isClosed || wire !== this.#wire) return; // an old one, or one that never opened
    if (!PASSING.has(code) || (this.#failures += 1) > RETRIES) {
      this.#end(code);
      return;
    }
    setTimeout(() => {
      if (!this.isClosed) this.use(kind).catch(() => this.#ended(wire, kind, 1006));
    }, RETRY_MS);
  }

  /** @param {number} code */
  #end(code) {
    this.isClosed = true;
    this.#wire?.close();
    this.#opening?.close();
    this.emit('closed', { code });
  }

  /** Ends the session. */
  close() {
    if (this.isClosed) return;
    const { fetch } = this;
    const headers = { Authorization: `Bearer ${this.#secret}` };
    fetch(this.#base, { method: 'DELETE', headers, keepalive: true }).catch(() => {}); // the gateway's idle time ends it
    this.#end(4410);
  }
}

/**
 * A tunnel as Signaling sees it: a WebSocket whose messages are stream 0. `Signaling` takes a class, so this gives one.
 * The former session of a tunnel cannot be joined twice; `next` gives the tunnel for each connection.
 * @param {() => Promise<Tunnel>} next a tunnel that is open and has a wire
 * @param {(code: number) => number} [closeCode] what signaling is told of a tunnel's end
 * @returns {import('../messages.d.ts').SocketClass}
 */
export function socketClass(next, closeCode = (code) => code) {
  class TunnelSocket {
    readyState = 0;
    binaryType = 'blob';
    bufferedAmount = 0;
    /** @type {(() => void) | null} */
    onopen = null;
    /** @type {((event: {data: string}) => void) | null} */
    onmessage = null;
    /** @type {((event: {code: number}) => void) | null} */
    onclose = null;
    /** @type {(() => void) | null} */
    onerror = null;
    /** @type {Tunnel | null} */
    #tunnel = null;

    constructor() {
      next().then(
        (tunnel) => this.#take(tunnel),
        () => this.#close(1006),
      );
    }

    /** @param {Tunnel} tunnel */
    #take(tunnel) {
      if (this.readyState !== 0) {
        tunnel.close();
        return;
      }
      this.#tunnel = tunnel;
      this.readyState = 1;
      tunnel.on('signal', (data) => this.onmessage?.({ data }));
      tunnel.on('closed', ({ code }) => this.#close(closeCode(code)));
      this.onopen?.();
    }

    /** @param {number} code */
    #close(code) {
      if (this.readyState === 3) return;
      this.readyState = 3;
      this.onclose?.({ code });
    }

    /** @param {string} text */
    send(text) {
      this.#tunnel?.session.signal(text);
    }

    close() {
      this.readyState = 3;
      this.#tunnel?.close();
    }
  }
  return /** @type {any} */ (TunnelSocket);
}
