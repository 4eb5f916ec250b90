/**
 * The signaling connection: JoinRoom on a WebSocket, KeepAlive, and resume after a lost socket.
 *
 * States: `idle`, `connecting`, `connected`, `reconnecting`, `closed`. A socket that drops is resumed at once and then
 * with backoff until the server's resume window is over; then `lost` asks the owner for a new join token. Room events
 * carry `seq`: what was seen already is dropped, so each event is emitted exactly once and in order.
 *
 * Events: `message` (Envelope), `state` (string), `joined` (RoomJoined), `resumed` (Resumed), `lost`
 * ({reason}), `closed` ({code: slug}).
 */

import { Backoff } from './backoff.js';
import { Emitter } from './events.js';
import {
  CLOSE_TOKEN_REFUSED,
  CLOSE_TOO_MANY,
  CLOSE_TRY_AGAIN,
  FINAL_CLOSE,
  SUBPROTOCOL,
  decode,
  encode,
} from './wire.js';

/** A KeepAlive that stays unanswered for so long means the socket is dead. */
const ACK_TIMEOUT_MS = 5000;
/** A socket that has not opened and answered by then is given up. */
const OPEN_TIMEOUT_MS = 8000;

/**
 * @typedef {'idle' | 'connecting' | 'connected' | 'reconnecting' | 'closed'} SignalingState
 * @typedef {{participantId: string, resumeSecret: string, generation: string, windowMs: number}} Session
 * @typedef {{type: 'JoinRoom' | 'Resume', payload: object, traceparent?: string}} Opening
 */

export class Signaling extends Emitter {
  /** @type {SignalingState} */
  state = 'idle';
  /** Highest `seq` seen. */
  lastSeq = 0;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {Session | null} */
  #session = null;
  #url = '';
  #backoff;
  #lostAt = 0;
  #keepAliveMs = 20_000;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #keepAliveTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #deadTimer;

  /** @param {{WebSocket?: import('./messages.d.ts').SocketClass, random?: () => number, now?: () => number}} [env] */
  constructor({ WebSocket = globalThis.WebSocket, random = Math.random, now = Date.now } = {}) {
    super();
    this.WebSocket = WebSocket;
    this.random = random;
    this.now = now;
    this.#backoff = new Backoff({ random });
  }

  /** Where the server is. */
  get url() {
    return this.#url;
  }

  /**
   * Joins with a fresh token; replaces any older session. `joined` or `lost` or `closed` follows.
   * @param {string} url
   * @param {{roomId: string, token: string, displayName?: string, capabilities?: object}} payload
   * @param {string} [traceparent]
   */
  join(url, payload, traceparent) {
    this.#url = url;
    this.#session = null;
    this.#setState(this.state === 'reconnecting' ? 'reconnecting' : 'connecting');
    this.#open({ type: 'JoinRoom', payload, traceparent });
  }

  /**
   * Sends now, or not at all. @param {string} type @param {object} payload
   * @param {{id?: string, traceparent?: string}} [extra]
   * @returns {boolean} whether the message was handed to an open connection
   */
  send(type, payload, extra) {
    if (this.state !== 'connected' || this.#socket?.readyState !== 1) return false;
    this.#socket.send(encode(type, payload, extra));
    return true;
  }

  /** The network changed or came back: try at once instead of waiting. */
  hurry() {
    if (this.state === 'reconnecting' && this.#retryTimer !== undefined) {
      this.#backoff.reset();
      this.#resume();
    } else if (this.state === 'connected') {
      this.#probe();
    }
  }

  /** Leaves for good. */
  leave() {
    this.send('Leave', {});
    this.#end('left');
  }

  /** Closes the socket as a network would, for tests and debugging. */
  drop() {
    const socket = this.#detach();
    socket?.close();
    if (socket) this.#dropped(1006);
  }

  // --- socket ---------------------------------------------------------------------------------------------------------
  /** @param {Opening} opening */
  #open(opening) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = undefined;
    const old = this.#detach();
    let socket;
    try {
      socket = new this.WebSocket(this.#url, [SUBPROTOCOL]);
    } catch {
      this.#end('unavailable');
      return;
    }
    this.#socket = socket;
    this.#deadTimer = setTimeout(() => this.#giveUp(socket), OPEN_TIMEOUT_MS);
    socket.onopen = () => {
      socket.send(
        encode(opening.type, opening.payload, opening.traceparent ? { traceparent: opening.traceparent } : {}),
      );
    };
    socket.onmessage = (event) => this.#received(socket, event.data);
    socket.onclose = (event) => {
      if (this.#socket !== socket) return;
      this.#detach();
      this.#dropped(event.code);
    };
    socket.onerror = () => {}; // a close event always follows
    old?.close();
  }

  /** Forgets the current socket without closing it. @returns {WebSocket | null} */
  #detach() {
    this.#alive();
    clearInterval(this.#keepAliveTimer);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) socket.onmessage = socket.onclose = socket.onopen = null;
    return socket;
  }

  /** @param {WebSocket} socket */
  #giveUp(socket) {
    if (this.#socket !== socket) return;
    this.#detach();
    socket.close();
    this.#dropped(1006);
  }

  /** @param {number} code */
  #dropped(code) {
    const final = FINAL_CLOSE.get(code);
    if (final) {
      this.#end(final);
    } else if (code === CLOSE_TOKEN_REFUSED || !this.#session) {
      this.#lose(code === CLOSE_TOKEN_REFUSED ? 'token-refused' : 'not-joined');
    } else {
      if (this.state !== 'reconnecting') this.#lostAt = this.now();
      this.#setState('reconnecting');
      if (code === CLOSE_TOO_MANY || code === CLOSE_TRY_AGAIN) this.#backoff.next(); // not at once then
      this.#retry();
    }
  }

  // --- resume ---------------------------------------------------------------------------------------------------------
  #retry() {
    if (this.now() - this.#lostAt > (this.#session?.windowMs ?? 0)) {
      this.#lose('resume-window-over');
      return;
    }
    this.#retryTimer = setTimeout(() => this.#resume(), this.#backoff.next());
  }

  #resume() {
    const session = this.#session;
    if (!session) return;
    const { participantId, resumeSecret, generation } = session;
    this.#open({ type: 'Resume', payload: { participantId, resumeSecret, generation, lastSeq: this.lastSeq } });
  }

  /** @param {string} reason */
  #lose(reason) {
    this.#session = null;
    this.#detach()?.close();
    this.#setState('reconnecting');
    this.emit('lost', { reason });
  }

  /** @param {string} code */
  #end(code) {
    if (this.state === 'closed') return;
    clearTimeout(this.#retryTimer);
    this.#session = null;
    this.#detach()?.close(1000);
    this.#setState('closed');
    this.emit('closed', { code });
  }

  // --- messages -------------------------------------------------------------------------------------------------------
  /** @param {WebSocket} socket @param {unknown} data */
  #received(socket, data) {
    const message = decode(data);
    if (!message || this.#socket !== socket) return;
    if (this.state !== 'connected') {
      this.#opening(message);
      return;
    }
    if (message.seq !== undefined) {
      if (message.seq <= this.lastSeq) return;
      this.lastSeq = message.seq;
    }
    if (message.type === 'KeepAliveAck') this.#alive();
    else if (message.type === 'Moving') this.#move(message.payload);
    this.emit('message', message);
  }

  /** The first answer on a new socket. @param {import('./wire.js').Envelope} message */
  #opening({ type, payload }) {
    if (type === 'RoomJoined') {
      this.#keepAliveMs = payload.pingIntervalMs ?? this.#keepAliveMs;
      this.lastSeq = payload.seq;
      this.#connected(payload, payload.resumeWindowMs ?? 45_000);
      this.emit('joined', payload);
    } else if (type === 'Resumed') {
      if (payload.snapshot || payload.generation !== this.#session?.generation) this.lastSeq = payload.seq;
      this.#connected(payload, this.#session?.windowMs ?? 45_000);
      this.emit('resumed', payload);
    } else if (type === 'Error') {
      this.#refusedOpening(payload);
    } else {
      this.emit('message', { type, payload }); // Waiting and the like come before RoomJoined
    }
  }

  /** @param {{code: string, message: string, retryable?: boolean}} error */
  #refusedOpening(error) {
    this.emit('refused', error);
    if (this.#session) this.#lose(error.code);
    // A JoinRoom that is refused is followed by the server's close, whose code decides.
  }

  /** @param {{participantId: string, resumeSecret: string, generation: string}} payload @param {number} windowMs */
  #connected({ participantId, resumeSecret, generation }, windowMs) {
    this.#alive();
    this.#session = { participantId, resumeSecret, generation, windowMs };
    this.#backoff.reset();
    this.#setState('connected');
    this.#keepAliveTimer = setInterval(() => this.#probe(), this.#keepAliveMs);
  }

  #alive() {
    clearTimeout(this.#deadTimer);
    this.#deadTimer = undefined;
  }

  #probe() {
    const socket = this.#socket;
    if (!socket || !this.send('KeepAlive', {})) return;
    this.#deadTimer ??= setTimeout(() => this.#giveUp(socket), ACK_TIMEOUT_MS);
  }

  /** The server drains: come back through another one, spread over time. @param {{retryInMs: number, spreadMs: number}} payload */
  #move({ retryInMs, spreadMs }) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(
      () => {
        this.#lostAt = this.now();
        this.#setState('reconnecting');
        this.#resume();
      },
      retryInMs + this.random() * spreadMs,
    );
  }

  /** @param {SignalingState} state */
  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit('state', state);
  }
}
