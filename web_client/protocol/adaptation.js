/**
 * What a client gives up on a slow link, and when it takes it back: a state machine without clocks or I/O.
 *
 * It is fed with what getStats measured. Loss over 5 % or a round trip over 400 ms that lasts 5 s goes one step down: it
 * receives smaller pictures, then sends fewer layers, then no camera. A link that stays good goes one step up after
 * 10 s. A step up that does not hold doubles the wait, to 60 s at most, and one that holds halves it again, so that a
 * link that carries one step and not the next does not swing between the two.
 */

/** From everything to the least, in the order in which it is given up. */
export const STEPS = /** @type {const} */ ([
  'full',
  'half-size',
  'thumbnails',
  'fewer-layers',
  'lowest-layer',
  'no-video',
]);
/** The lowest step that has an effect where no camera is sent, and where nothing is. */
export const LEAST_SHARING = STEPS.indexOf('lowest-layer');
export const LEAST_RECEIVING = STEPS.indexOf('thumbnails');

const MAX_LOSS = 0.05;
const MAX_ROUND_TRIP_S = 0.4;
const DOWN_AFTER_MS = 5000;
const UP_AFTER_MS = 10_000;
const UP_AFTER_AT_MOST_MS = 60_000;
/** A link that has carried everything for so long counts as recovered: what fails later is a new event. */
const PROVED_AFTER_MS = 60_000;
/** Samples further apart say nothing about the time between them (a machine that slept). */
const MAX_GAP_MS = 10_000;

/**
 * @typedef {(typeof STEPS)[number]} Step
 * @typedef {object} Sample
 * @property {number} now milliseconds on any clock that does not go back
 * @property {number} loss 0 to 1, the larger of both directions
 * @property {number} roundTripS seconds
 * @property {number} [least] the lowest step that has an effect now, an index of STEPS
 */

/** Whether a link with these numbers is a bad one. @param {number} loss @param {number} roundTripS */
export function isBadLink(loss, roundTripS) {
  return loss > MAX_LOSS || roundTripS > MAX_ROUND_TRIP_S;
}

export class Adaptation {
  #level = 0;
  #last = Number.NEGATIVE_INFINITY;
  /** Since when the link has been good, or bad, without a break. */
  #since = 0;
  #isBad = false;
  #wait = UP_AFTER_MS;
  /** The last step went up and nothing has proved yet that the link carries it. */
  #isTrying = false;
  #keepsVideo = false;

  /** 0 for everything, an index of STEPS. @returns {number} */
  get level() {
    return this.#level;
  }

  /** @returns {Step} */
  get step() {
    return STEPS[this.#level];
  }

  /** How long the link must stay good before the next step up, milliseconds. */
  get waitMs() {
    return this.#wait;
  }

  /** @param {Sample} sample @returns {boolean} whether the step changed */
  take({ now, loss, roundTripS, least = STEPS.length - 1 }) {
    const isBad = isBadLink(loss, roundTripS);
    if (isBad !== this.#isBad || now - this.#last > MAX_GAP_MS || now < this.#last) this.#since = now;
    this.#isBad = isBad;
    this.#last = now;
    return isBad ? this.#down(now, least) : this.#up(now);
  }

  /** @param {number} now @param {number} least */
  #down(now, least) {
    const lowest = this.#keepsVideo ? Math.min(least, LEAST_SHARING) : least;
    if (now - this.#since < DOWN_AFTER_MS || this.#level >= lowest) return false;
    if (this.#isTrying) this.#wait = Math.min(UP_AFTER_AT_MOST_MS, this.#wait * 2);
    this.#isTrying = false;
    return this.#go(this.#level + 1, now);
  }

  /** @param {number} now */
  #up(now) {
    const goodFor = now - this.#since;
    if (this.#level === 0) {
      if (goodFor >= PROVED_AFTER_MS) {
        this.#wait = UP_AFTER_MS;
        this.#isTrying = false;
      }
      return false;
    }
    if (goodFor < this.#wait) return false;
    if (this.#isTrying) this.#wait = Math.max(UP_AFTER_MS, this.#wait / 2);
    this.#isTrying = true;
    return this.#go(this.#level - 1, now);
  }

  /** @param {number} level @param {number} now */
  #go(level, now) {
    this.#level = level;
    this.#since = now;
    if (level === 0) this.#keepsVideo = false;
    return true;
  }

  /**
   * The person wants to be seen whatever the link is like: a camera that was given up comes back at its lowest layer and
   * stays until the link has recovered and fails anew. @param {number} now @returns {boolean} whether the step changed
   */
  keepVideo(now) {
    if (this.#level <= LEAST_SHARING) return false;
    this.#keepsVideo = true;
    this.#isTrying = false; // not the link's own success or failure
    return this.#go(LEAST_SHARING, now);
  }
}
