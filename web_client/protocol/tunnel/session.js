/**
 * A browser's side of a tunnel session over any wire: frames in, events out, and the other way round.
 *
 * Wires come and go; what has to arrive is kept and what has become late is dropped. A wire asks by `outgoing` for as
 * much as it has room for, so that frames wait where they can still be dropped. No network here: time is an argument.
 *
 * Events: `signal` (text), `control` (message), `media` ({frame, lost}), `roundTrip` (ms), `ready` (something is to go).
 */

import { Emitter } from '../events.js';
import { ACK, BadFrame, CONTROL, PING, PONG, SIGNAL, isNewer, makeFrame, sizeOf } from './frame.js';
import { MediaQueue } from './queue.js';
import { Reliable } from './reliable.js';

/**
 * @typedef {import('./frame.js').Frame} Frame
 * @typedef {{type: string, [field: string]: any}} Control
 */

export class TunnelSession extends Emitter {
  queue = new MediaQueue();
  #reliable = new Reliable();
  /** @type {Frame[]} */
  #urgent = [];
  /** Streams of the gateway, with the last sequence. @type {Map<number, number | null>} */
  #streams = new Map();
  #encoder = new TextEncoder();
  #decoder = new TextDecoder();

  /** A new wire speaks from now on: what was not acknowledged goes again, after an acknowledgement. */
  attach() {
    this.#urgent = [this.#reliable.ack(), ...this.#reliable.again()];
    this.emit('ready', null);
  }

  // --- in -------------------------------------------------------------------------------------------------------------
  /** Throws BadFrame or TooFarBehind. @param {Frame} frame @param {number} now ms */
  receive(frame, now) {
    if (frame.type <= CONTROL) {
      for (const each of this.#reliable.receive(frame, now)) this.#deliver(each);
      if (this.#reliable.isAckDue(now)) this.#urge(this.#reliable.ack());
    } else if (frame.type === ACK) this.#reliable.acknowledged(frame.sequence);
    else if (frame.type === PING) this.#urge(makeFrame(PONG, 0, { timestamp: frame.timestamp }));
    else if (frame.type === PONG) this.emit('roundTrip', (Math.trunc(now) - frame.timestamp) >>> 0);
    else this.#media(frame);
  }

  /** @param {Frame} frame */
  #deliver(frame) {
    const text = this.#decoder.decode(frame.payload);
    if (frame.type === SIGNAL) {
      this.emit('signal', text);
      return;
    }
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      throw new BadFrame('a control message is JSON');
    }
    if (message.type === 'TrackOpened') this.#streams.set(message.stream, null);
    else if (message.type === 'TrackClosed') this.#streams.delete(message.stream);
    this.emit('control', message);
  }

  /** @param {Frame} frame */
  #media(frame) {
    const last = this.#streams.get(frame.stream);
    if (last === undefined) throw new BadFrame('the stream is not open');
    if (last !== null && !isNewer(frame.sequence, last)) return;
    this.#streams.set(frame.stream, frame.sequence);
    this.emit('media', { frame, lost: last === null ? 0 : (frame.sequence - last - 1) & 0xffff });
  }

  // --- out ------------------------------------------------------------------------------------------------------------
  /** Throws TooFarBehind. @param {string} text */
  signal(text) {
    this.#urgent.push(this.#reliable.send(SIGNAL, this.#encoder.encode(text)));
    this.emit('ready', null);
  }

  /** Throws TooFarBehind. @param {Control} message */
  control(message) {
    this.#urgent.push(this.#reliable.send(CONTROL, this.#encoder.encode(JSON.stringify(message))));
    this.emit('ready', null);
  }

  /** @param {Frame} frame @param {number} now ms */
  media(frame, now) {
    this.queue.put(frame, now);
    this.emit('ready', null);
  }

  /** @param {number} now ms */
  ping(now) {
    this.#urge(makeFrame(PING, 0, { timestamp: Math.trunc(now) >>> 0 }));
  }

  /** Unnumbered frames: a newer one of its type replaces an older. @param {Frame} frame */
  #urge(frame) {
    this.#urgent = this.#urgent.filter(({ type }) => type !== frame.type);
    this.#urgent.push(frame);
    this.emit('ready', null);
  }

  /** What goes now, at most about `room` bytes; stream 0 first. @param {number} now ms @param {number} room @returns {Frame[]} */
  outgoing(now, room) {
    if (this.#reliable.isAckDue(now)) this.#urge(this.#reliable.ack());
    const frames = [];
    let left = room;
    while (left > 0) {
      const frame = this.#urgent.shift() ?? this.queue.take(now);
      if (!frame) break;
      frames.push(frame);
      left -= sizeOf(frame);
    }
    return frames;
  }
}
