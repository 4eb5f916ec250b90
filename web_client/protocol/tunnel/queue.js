/**
 * Media that waits for a wire dies by age: sound after 200 ms, pictures after 400, each with all that depend on it.
 *
 * Sound goes first. A frame gets its sequence when it leaves, so that a gap always means loss. `level` says what the link
 * carries by the age of what waits: `all`, `low`, `audio`, and back one step after five seconds of calm.
 */

import { AUDIO, DISCARDABLE, KEY, VIDEO, sizeOf } from './frame.js';

const AUDIO_MS = 200;
const VIDEO_MS = 400;
const LOW_MS = 100;
const SOUND_ONLY_MS = 300;
const CALM_MS = 5000;
const MAX_BYTES = 2_097_152;
const LEVELS = /** @type {const} */ (['all', 'low', 'audio']);

/**
 * @typedef {import('./frame.js').Frame} Frame
 * @typedef {'all' | 'low' | 'audio'} Level
 * @typedef {{frame: Frame, since: number}} Waiting
 */

export class MediaQueue {
  /** Frames that died here. */
  dropped = 0;
  /** @type {Level} */
  level = 'all';
  /** @type {Waiting[]} */
  #audio = [];
  /** @type {Waiting[]} */
  #video = [];
  #bytes = 0;
  /** @type {Map<number, number>} */
  #sequences = new Map();
  /** Streams of which nothing is sent before the next key frame. @type {Set<number>} */
  #broken = new Set();
  /** @type {Set<number>} */
  #wanted = new Set();
  /** @type {number | null} */
  #calmSince = null;

  get length() {
    return this.#audio.length + this.#video.length;
  }

  /** @param {Frame} frame @param {number} now ms */
  put(frame, now) {
    if (frame.type === VIDEO && this.#broken.has(frame.stream)) {
      if (!(frame.flags & KEY)) {
        this.dropped += 1;
        return;
      }
      this.#broken.delete(frame.stream);
    }
    (frame.type === AUDIO ? this.#audio : this.#video).push({ frame, since: now });
    this.#bytes += sizeOf(frame);
    while (this.#bytes > MAX_BYTES && this.length) this.#dropOldest();
    this.expire(now);
  }

  /** What goes next, with its sequence. @param {number} now ms @returns {Frame | null} */
  take(now) {
    this.expire(now);
    const waiting = this.#audio.shift() ?? this.#video.shift();
    if (!waiting) return null;
    const { frame } = waiting;
    this.#bytes -= sizeOf(frame);
    const sequence = this.#sequences.get(frame.stream) ?? 0;
    this.#sequences.set(frame.stream, (sequence + 1) & 0xffff);
    return { ...frame, sequence };
  }

  /** Lets die what is too old, and judges the link by the age of the oldest. @param {number} now ms */
  expire(now) {
    const ages = [this.#audio[0], this.#video[0]].map((waiting) => (waiting ? now - waiting.since : 0));
    this.#judge(Math.max(...ages), now);
    while (this.#audio.length && now - this.#audio[0].since > AUDIO_MS) this.#gone(this.#audio.shift());
    while (this.#video.length && now - this.#video[0].since > VIDEO_MS) this.#dropPicture();
  }

  /** Streams whose encoder is to make a key frame, each once. @returns {number[]} */
  keyFramesWanted() {
    const wanted = [...this.#wanted];
    this.#wanted.clear();
    return wanted;
  }

  /** The stream is closed. @param {number} stream */
  forget(stream) {
    for (const queue of [this.#audio, this.#video]) {
      const kept = queue.filter(({ frame }) => frame.stream !== stream);
      queue.splice(0, queue.length, ...kept);
    }
    this.#bytes = [...this.#audio, ...this.#video].reduce((sum, { frame }) => sum + sizeOf(frame), 0);
    this.#sequences.delete(stream);
    this.#broken.delete(stream);
    this.#wanted.delete(stream);
  }

  #dropOldest() {
    const [sound] = this.#audio;
    const [picture] = this.#video;
    if (!picture || (sound && sound.since < picture.since)) this.#gone(this.#audio.shift());
    else this.#dropPicture();
  }

  /** The oldest picture, and all that depend on it up to the next key frame of its stream. */
  #dropPicture() {
    const first = this.#video.shift();
    if (!first) return;
    this.#gone(first);
    if (first.frame.flags & DISCARDABLE) return;
    const { stream } = first.frame;
    let isBroken = true;
    this.#video = this.#video.filter((later) => {
      if (later.frame.stream !== stream) return true;
      if (later.frame.flags & KEY) isBroken = false;
      if (isBroken) this.#gone(later);
      return !isBroken;
    });
    if (!isBroken) return;
    this.#broken.add(stream);
    this.#wanted.add(stream);
  }

  /** @param {Waiting | undefined} waiting */
  #gone(waiting) {
    if (!waiting) return;
    this.#bytes -= sizeOf(waiting.frame);
    this.dropped += 1;
  }

  /** @param {number} age ms @param {number} now ms */
  #judge(age, now) {
    const found = age > SOUND_ONLY_MS ? 2 : age > LOW_MS ? 1 : 0;
    const present = LEVELS.indexOf(this.level);
    if (found > present) this.level = LEVELS[found];
    if (age > LOW_MS || this.level === 'all') this.#calmSince = null;
    else if (this.#calmSince === null) this.#calmSince = now;
    else if (now - this.#calmSince >= CALM_MS) {
      this.level = LEVELS[present - 1];
      this.#calmSince = now;
    }
  }
}
