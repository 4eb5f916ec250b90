/**
 * Sound that waits to be played: takes packets as the network brings them and gives samples as the sound card wants them.
 *
 * Playing begins when `target` is waiting; where it runs dry, more is waited for the next time. What has not been needed
 * for two seconds but for `spare` is left out again, a pitch period at a time, so that a burst does not stay as delay. What is
 * missing between two packets, and what comes after the last one where it runs dry, is concealed. Pure: runs in the
 * AudioWorklet and in Node.
 */

import { BLEND, CONCEALED, LONGEST, LOOK, blend, continued, periodOf } from './concealment.js';

const RATE = 48_000;
const MS = RATE / 1000;
/** What may always wait: more each time that it runs dry, less in calm. */
const SPARE = { first: 20 * MS, least: 10 * MS, most: 180 * MS, more: 10 * MS, less: 1 * MS };
const PACKET = 20 * MS;
/** Between two periods that are left out. */
const FASTER = 40 * MS;
const WINDOW = 2000 * MS;
/** A pause in the time stamps after which what still waits belongs to the former talk. */
const PAUSE = 200 * MS;
const FULL = 1000 * MS;
/** The longest gap between two packets that is filled; a longer one is a pause of the sender. */
const GAP = 120 * MS;
const NOTHING = new Float32Array(0);

export class JitterBuffer {
  /** Samples that wait. */
  waiting = 0;
  /** Samples that may wait without being needed. */
  spare = SPARE.first;
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
  #least = Infinity;
  #window = 0;
  /** Samples that are to be left out, and played since the last were. */
  #surplus = 0;
  #sinceLeftOut = 0;

  /** @param {number} timestamp RTP, 48 kHz @param {Float32Array} samples */
  put(timestamp, samples) {
    const last = this.#chunks.at(-1);
    if (!this.#isPlaying && last && ((timestamp - last.timestamp) | 0) > PAUSE) this.#skip(this.waiting);
    this.#fill(timestamp, samples);
    this.#last = samples.slice();
    this.#end = timestamp + samples.length;
    this.#push(timestamp, samples);
    if (this.waiting > FULL) this.#skip(this.waiting - FULL);
    if (!this.#isPlaying && this.waiting >= this.target) this.#begin();
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

  /** Samples to wait for before playing begins. What is late enough to let it run dry has made room for its like. */
  get target() {
    return this.spare + PACKET;
  }

  /** The RTP time stamp of the next sample; null while nothing plays. @returns {number | null} */
  get position() {
    const [first] = this.#chunks;
    return this.#isPlaying && first ? (first.timestamp + first.at) >>> 0 : null;
  }

  /** Fills `out`, with silence where there is nothing. @param {Float32Array} out */
  pull(out) {
    if (this.#isPlaying) this.#hurry(out.length);
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
    if (this.#isPlaying) this.#judge(out.length);
  }

  #ranDry() {
    this.#isPlaying = false;
    this.#tail = continued(this.#last, CONCEALED);
    this.dry += 1;
    this.spare = Math.min(SPARE.most, this.spare + SPARE.more);
    this.#surplus = 0;
    this.#least = Infinity;
    this.#window = 0;
  }

  /** @param {number} played samples */
  #judge(played) {
    this.#least = Math.min(this.#least, this.waiting);
    this.#window += played;
    if (this.#window < WINDOW) return;
    this.#surplus = Math.max(0, this.#least - this.spare);
    this.spare = Math.max(SPARE.least, this.spare - SPARE.less);
    this.#least = Infinity;
    this.#window = 0;
  }

  /** Leaves out periods of what is played next, where it is time to. @param {number} played samples, from now on */
  #hurry(played) {
    this.#sinceLeftOut += played;
    if (this.#surplus <= 0 || this.#sinceLeftOut < FASTER || this.waiting < LOOK) return;
    const next = this.#next(LOOK);
    const period = periodOf(next);
    const count = period * Math.floor(Math.min(LONGEST, this.#surplus) / period);
    this.#surplus -= count || this.#surplus;
    this.#sinceLeftOut = 0;
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
