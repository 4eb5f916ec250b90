/**
 * The wires of a tunnel session: a WebSocket, one streamed answer with POSTs, or held answers with POSTs.
 *
 * Each takes frames from the session while it has room. Bodies can be base64, for proxies that mangle binary. A wire tells
 * its owner `opened`, `frames`, and once `closed` with a close code (1006 where the network is to blame).
 */

import { FrameReader, decodeAll, encodeAll } from './frame.js';

export const SUBPROTOCOL = 'parley.tunnel.v1';
/** A WebSocket takes new frames only while less than this waits in it. */
const ROOM = 16_384;
/** How long what goes up gathers, so that requests and their headers are few. */
const BATCH_MS = { streaming: 30, longpoll: 60 };
/** POSTs under way at a time: one that is late holds only one other up. */
const MOST_POSTS = 2;
const ACK_MS = 50;

/**
 * @typedef {'websocket' | 'streaming' | 'longpoll'} WireKind
 * @typedef {import('./session.js').TunnelSession} TunnelSession
 * @typedef {import('./frame.js').Frame} Frame
 * @typedef {object} WireOptions
 * @property {string} base the session's URL, without a slash at its end
 * @property {string} secret
 * @property {string} name of this wire, its own
 * @property {TunnelSession} session
 * @property {() => number} now ms
 * @property {boolean} [isText] base64 bodies
 * @property {typeof globalThis.fetch} [fetch]
 * @property {import('../messages.d.ts').SocketClass} [WebSocket]
 * @property {() => void} opened
 * @property {(frames: Frame[]) => void} frames
 * @property {(code: number) => void} closed
 */

/** @param {Uint8Array} bytes */
export function toBase64(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.subarray(at, at + 0x8000));
  return btoa(text);
}

/** @param {string} text */
export function fromBase64(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

class Wire {
  isSpeaking = false;
  isClosed = false;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  timer;

  /** @param {WireOptions} options */
  constructor(options) {
    this.options = options;
  }

  /** Frames of the session go by this wire from now on. */
  speak() {
    this.isSpeaking = true;
    this.flush();
  }

  /** Another wire speaks; this one is still heard until it is closed. */
  hush() {
    this.isSpeaking = false;
  }

  flush() {}

  /** @param {number} code */
  end(code) {
    if (this.isClosed) return;
    this.isClosed = true;
    this.isSpeaking = false;
    clearInterval(this.timer);
    this.options.closed(code);
  }

  /** Closes without a word. */
  close() {
    this.isClosed = true;
    this.isSpeaking = false;
    clearInterval(this.timer);
  }

  /** @param {Frame[]} frames */
  heard(frames) {
    if (!this.isClosed && frames.length) this.options.frames(frames);
  }
}

export class WebSocketWire extends Wire {
  /** @param {WireOptions} options */
  constructor(options) {
    super(options);
    const { base, secret, WebSocket = globalThis.WebSocket } = options;
    const socket = new WebSocket(`${base.replace(/^http/, 'ws')}/ws`, [SUBPROTOCOL, `secret.${secret}`]);
    this.socket = socket;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => options.opened();
    socket.onmessage = ({ data }) => {
      try {
        this.heard(decodeAll(new Uint8Array(data)));
      } catch {
        this.socket.close();
        this.end(1007);
      }
    };
    socket.onclose = ({ code }) => this.end(code);
    socket.onerror = () => {}; // a close event always follows
    this.timer = setInterval(() => this.flush(), ACK_MS);
  }

  /** @override */
  flush() {
    const { session, now } = this.options;
    while (this.isSpeaking && this.socket.readyState === 1 && this.socket.bufferedAmount < ROOM) {
      const frames = session.outgoing(now(), ROOM - this.socket.bufferedAmount);
      if (!frames.length) return;
      this.socket.send(encodeAll(frames));
    }
  }

  /** @override */
  close() {
    super.close();
    this.socket.close();
  }
}

/** What streaming and long-poll share: frames go up in batches, numbered, so that the gateway takes them in order. */
class PostingWire extends Wire {
  abort = new AbortController();
  #number = 0;
  #posts = 0;

  /** @param {WireOptions} options @param {number} batchMs */
  constructor(options, batchMs) {
    super(options);
    this.fetch = options.fetch ?? globalThis.fetch.bind(globalThis);
    this.timer = setInterval(() => this.flush(), batchMs);
  }

  get headers() {
    const { secret, name, isText } = this.options;
    const headers = { Authorization: `Bearer ${secret}`, 'Parley-Wire': name };
    return isText ? { ...headers, Accept: 'text/plain' } : headers;
  }

  /** @override */
  async flush() {
    if (!this.isSpeaking || this.#posts >= MOST_POSTS) return;
    const { session, now, base, isText } = this.options;
    const frames = session.outgoing(now(), ROOM * 4);
    if (!frames.length) return;
    this.#posts += 1;
    const data = encodeAll(frames);
    const headers = {
      ...this.headers,
      'Parley-Batch': String(this.#number),
      'Content-Type': isText ? 'text/plain' : 'application/octet-stream',
    };
    this.#number += 1;
    try {
      const body = isText ? toBase64(data) : data;
      const answer = await this.fetch(`${base}/frames`, { method: 'POST', headers, body, signal: this.abort.signal });
      if (answer.status !== 204) this.end(closeCode(answer.status));
    } catch {
      this.end(1006);
    } finally {
      this.#posts -= 1;
    }
  }

  /** @override */
  close() {
    super.close();
    this.abort.abort();
  }
}

/** The close code that says the same as a problem's status. @param {number} status */
function closeCode(status) {
  return { 400: 1007, 401: 4401, 403: 4403, 404: 4404, 408: 4408, 409: 4409, 410: 4410, 413: 4413, 429: 4429 }[status] ?? 1006;
}

export class StreamingWire extends PostingWire {
  /** @param {WireOptions} options */
  constructor(options) {
    super(options, BATCH_MS.streaming);
    this.#run().catch(() => this.end(1006));
  }

  async #run() {
    const { base, isText } = this.options;
    const answer = await this.fetch(`${base}/stream`, { headers: this.headers, signal: this.abort.signal });
    if (answer.status !== 200 || !answer.body) {
      this.end(closeCode(answer.status));
      return;
    }
    this.options.opened();
    const frames = new FrameReader();
    const lines = new LineReader();
    const reader = answer.body.getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const parts = isText ? lines.feed(value).map(fromBase64) : [value];
      for (const part of parts) this.heard(frames.feed(part));
    }
    this.end(4409);
  }
}

/** Whole lines of a stream of bytes. */
class LineReader {
  #rest = '';
  #decoder = new TextDecoder();

  /** @param {Uint8Array} data @returns {string[]} */
  feed(data) {
    const lines = (this.#rest + this.#decoder.decode(data, { stream: true })).split('\n');
    this.#rest = lines.pop() ?? '';
    return lines.filter(Boolean);
  }
}

export class LongPollWire extends PostingWire {
  #next = 0;
  /** @type {Map<number, Frame[]>} */
  #early = new Map();

  /** @param {WireOptions} options */
  constructor(options) {
    super(options, BATCH_MS.longpoll);
    this.#run().catch(() => this.end(1006));
  }

  /** The first answer attaches the wire; then two are held at a time. */
  async #run() {
    const first = this.#poll();
    this.options.opened();
    await first;
    await Promise.all([this.#loop(), this.#loop()]);
  }

  async #loop() {
    while (!this.isClosed) await this.#poll();
  }

  async #poll() {
    const { base, isText } = this.options;
    const answer = await this.fetch(`${base}/poll`, { headers: this.headers, signal: this.abort.signal });
    if (answer.status !== 200) {
      this.end(closeCode(answer.status));
      return;
    }
    const data = isText ? fromBase64(await answer.text()) : new Uint8Array(await answer.arrayBuffer());
    this.#early.set(Number(answer.headers.get('Parley-Batch')), decodeAll(data));
    for (;;) {
      const frames = this.#early.get(this.#next);
      if (!frames) return;
      this.#early.delete(this.#next);
      this.#next += 1;
      this.heard(frames);
    }
  }
}

/** @type {Record<WireKind, new (options: WireOptions) => WebSocketWire | StreamingWire | LongPollWire>} */
export const WIRES = { websocket: WebSocketWire, streaming: StreamingWire, longpoll: LongPollWire };
