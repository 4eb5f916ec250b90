/**
 * Stream 0: signal and control frames reach the other side once and in order, whatever wires come and go.
 *
 * What is not acknowledged is kept and sent again on a new wire; both directions are bounded, and beyond that the
 * session ends (TooFarBehind).
 */

import { ACK, isNewer, makeFrame } from './frame.js';

export const MAX_FRAMES = 512;
export const MAX_BYTES = 1_048_576;
const ACK_EVERY = 16;
const ACK_AFTER_MS = 100;

/** @typedef {import('./frame.js').Frame} Frame */

export class TooFarBehind extends Error {}

export class Reliable {
  /** @type {Frame[]} */
  #kept = [];
  #bytes = 0;
  #nextOut = 0;
  #expected = 0;
  /** @type {Map<number, Frame>} */
  #early = new Map();
  #unacknowledged = 0;
  /** @type {number | null} */
  #oldestAt = null;

  /** A frame with its number, kept until it is acknowledged. @param {number} type @param {Uint8Array} payload */
  send(type, payload) {
    if (this.#kept.length >= MAX_FRAMES || this.#bytes + payload.length > MAX_BYTES) {
      throw new TooFarBehind('the other side does not acknowledge what it is sent');
    }
    const frame = makeFrame(type, 0, { payload, sequence: this.#nextOut });
    this.#nextOut = (this.#nextOut + 1) & 0xffff;
    this.#kept.push(frame);
    this.#bytes += payload.length;
    return frame;
  }

  /** The peer has everything before `expected`. @param {number} expected */
  acknowledged(expected) {
    const pending = (this.#nextOut - expected) & 0xffff;
    while (pending < 0x8000 && this.#kept.length > pending) {
      this.#bytes -= this.#kept.shift()?.payload.length ?? 0;
    }
  }

  /** What a new wire begins with, after the acknowledgement. */
  again() {
    return [...this.#kept];
  }

  /** The frames that are next, in order; none for a repetition. @param {Frame} frame @param {number} now ms */
  receive(frame, now) {
    this.#unacknowledged += 1;
    this.#oldestAt ??= now;
    const ahead = (frame.sequence - this.#expected) & 0xffff;
    if (ahead && !isNewer(frame.sequence, (this.#expected - 1) & 0xffff)) return [];
    if (ahead >= MAX_FRAMES) throw new TooFarBehind('too much is missing in between');
    if (!this.#early.has(frame.sequence)) this.#early.set(frame.sequence, frame);
    const ready = [];
    for (;;) {
      const next = this.#early.get(this.#expected);
      if (!next) return ready;
      this.#early.delete(this.#expected);
      ready.push(next);
      this.#expected = (this.#expected + 1) & 0xffff;
    }
  }

  /** An acknowledgement of all that came. */
  ack() {
    this.#unacknowledged = 0;
    this.#oldestAt = null;
    return makeFrame(ACK, 0, { sequence: this.#expected });
  }

  /** @param {number} now ms */
  isAckDue(now) {
    const isOld = this.#oldestAt !== null && now >= this.#oldestAt + ACK_AFTER_MS;
    return this.#unacknowledged >= ACK_EVERY || isOld;
  }
}
