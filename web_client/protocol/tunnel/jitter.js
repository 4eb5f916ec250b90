/**
 * Sound that waits to be played: takes packets as the network brings them and gives samples as the sound card wants them.
 *
 * Where it runs dry, what comes then is played later, by as much as it was late. What is later than packets need (Lateness)
 * is made up for: a pitch period is left out at a time, so that a burst does not stay as delay. What is missing between two
 * packets, and what comes after the last one where it runs dry, is concealed. Pure: runs in the AudioWorklet and in Node.
 */

import { BLEND, CONCEALED, LONGEST, LOOK, SHORTEST, blend, continued, periodOf } from './concealment.js';
import { Lateness } from './lateness.js';

const RATE = 48_000;
const MS = RATE / 1000;
/** What waits when playing begins: a packet, and a little. */
const BEGIN = 30 * MS;
/** Beyond what packets need. */
const SPARE = 10 * MS;
/** Between two periods that are left out. */
const FASTER = 40 * MS;
/** A pause in the time stamps after which what still waits belongs to the former talk. */
const PAUSE = 200 * MS;
const FULL = 1000 * MS;
/** The longest gap between two packets that is filled; a longer one is a pause of the sender. */
const GAP = 120 * MS;
const NOTHING = new Float32Array(0);

export class JitterBuffer {
  /** Samples that wait. */
  waiting = 0;
  /** Samples that were left out. */
  dropped = 0;
  /** How often it ran dry. */
  dry = 0;
  /** Samples that stand in the place of lost ones. */
  concealed = 0;
  #isPlaying = false;
  /** What came last, and the time stamp behind it. @type {Float32Array} */
  #last = NOTHING;
  #end = 0;
  /** What is played while it is dry. @type {Float32Array} */
  #tail = NOTHING;
  /** @type {{timestamp: number, samples: Float32Array, at: number}[]} */
  #chunks = [];
  /** Samples that were asked for, and what the time stamps were to begin with. */
  #clock = 0;
  /** @type {number | null} */
  #origin = null;
  #lateness = new Lateness();
  /** Played since something was left out. */
  #sinceLeftOut = 0;

  /** @param {number} timestamp RTP, 48 kHz @param {Float32Array} samples */
  put(timestamp, samples) {
    this.#origin ??= this.#clock - timestamp;
    this.#lateness.add(this.#delayOf(timestamp), this.#clock);
    const last = this.#chunks.at(-1);
    if (!this.#isPlaying && last && ((timestamp - last.timestamp) | 0) > PAUSE) this.#skip(this.waiting);
    this.#fill(timestamp, samples);
    this.#last = samples.slice();
    this.#end = timestamp + samples.length;
    this.#push(timestamp, samples);
    if (this.waiting > FULL) this.#skip(this.waiting - FULL);
    if (!this.#isPlaying && this.waiting >= BEGIN) this.#begin();
  }

  /** What was played while it was dry goes over into what waits. */
  #begin() {
    this.#isPlaying = true;
    const [{ samples, at }] = this.#chunks;
    if (this.#tail.length) blend(this.#tail, samples.subarray(at));
    this.#tail = NOTHING;
  }

  /** @param {number} timestamp @param {Float32Array} samples */
  #push(timestamp, samples) {
    this.#chunks.push({ timestamp, samples, at: 0 });
    this.waiting += samples.length;
  }

  /** What is missing before `samples`, while something plays or waits. @param {number} timestamp @param {Float32Array} samples */
  #fill(timestamp, samples) {
    const gap = (timestamp - this.#end) | 0;
    if (gap <= 0 || gap > GAP || !this.#last.length || !this.#chunks.length) return;
    const filling = continued(this.#last, gap + BLEND);
    blend(filling.subarray(gap), samples);
    this.#push(this.#end >>> 0, filling.subarray(0, gap));
    this.concealed += gap;
  }

  /** How long after its time stamp now is. @param {number} timestamp */
  #delayOf(timestamp) {
    return (this.#clock - timestamp - (this.#origin ?? 0)) | 0;
  }

  /** The RTP time stamp of the next sample; null while nothing plays. @returns {number | null} */
  get position() {
    const [first] = this.#chunks;
    return this.#isPlaying && first ? (first.timestamp + first.at) >>> 0 : null;
  }

  /** Fills `out`, with silence where there is nothing. @param {Float32Array} out */
  pull(out) {
    this.#hurry(out.length);
    this.#clock += out.length;
    let filled = 0;
    while (this.#isPlaying && filled < out.length) {
      const [first] = this.#chunks;
      if (!first) {
        this.#ranDry();
        break;
      }
      const part = first.samples.subarray(first.at, first.at + out.length - filled);
      out.set(part, filled);
      filled += part.length;
      this.#advance(part.length);
    }
    const tail = this.#tail.subarray(0, out.length - filled);
    out.set(tail, filled);
    out.fill(0, filled + tail.length);
    this.#tail = this.#tail.subarray(tail.length);
  }

  #ranDry() {
    this.#isPlaying = false;
    this.#tail = continued(this.#last, CONCEALED);
    this.dry += 1;
  }

  /** Leaves out periods of what is played next, where that is later than need be. @param {number} played samples, from now on */
  #hurry(played) {
    this.#sinceLeftOut += played;
    const { position } = this;
    if (position === null || this.#sinceLeftOut < FASTER || this.waiting < LOOK) return;
    const { earliest, needed } = this.#lateness;
    const surplus = this.#delayOf(position) - earliest - needed - SPARE;
    if (surplus < SHORTEST) return;
    this.#sinceLeftOut = 0;
    const next = this.#next(LOOK);
    const period = periodOf(next);
    const count = period * Math.floor(Math.min(LONGEST, surplus) / period);
    if (!count) return;
    this.#skip(count);
    const [{ samples, at }] = this.#chunks;
    const rest = samples.subarray(at, at + BLEND);
    blend(next, rest, rest.length);
  }

  /** A copy of what is played next. @param {number} count no more than waits @returns {Float32Array} */
  #next(count) {
    const out = new Float32Array(count);
    let filled = 0;
    for (const { samples, at } of this.#chunks) {
      const part = samples.subarray(at, at + count - filled);
      out.set(part, filled);
      filled += part.length;
      if (filled === count) break;
    }
    return out;
  }

  /** @param {number} count */
  #skip(count) {
    this.dropped += count;
    while (count > 0) {
      const [first] = this.#chunks;
      const part = Math.min(count, first.samples.length - first.at);
      this.#advance(part);
      count -= part;
    }
  }

  /** @param {number} count within the first chunk */
  #advance(count) {
    const [first] = this.#chunks;
    first.at += count;
    this.waiting -= count;
    if (first.at >= first.samples.length) this.#chunks.shift();
  }
}
