/**
 * What is sent in frames, as numbers: layers of a picture, RTP time stamps, the audio level. Pure.
 *
 * A camera goes in two layers where it is large enough, at L1T2 each; a share in one. Rates are in bit/s.
 */

/** @typedef {import('../messages.d.ts').Source} Source */
/** @typedef {{rid: string, width: number, height: number, bitrate: number}} Layer */

const LOW = { height: 180, bitrate: 150_000 };
const HIGH = { height: 360, bitrate: 500_000 };
/** A camera of fewer lines is sent in one layer. */
const TWO_FROM = 270;
const SCREEN = { height: 720, bitrate: 1_200_000 };
const AUDIO = { rid: '', width: 0, height: 0, bitrate: 32_000 };
const VOICE_DBOV = 50;

/** The layers of a source, lowest first. @param {Source} source @param {{width?: number, height?: number}} [size] @returns {Layer[]} */
export function layersOf(source, { width = 640, height = 360 } = {}) {
  if (source === 'microphone' || source === 'screenAudio') return [AUDIO];
  const layer = (/** @type {string} */ rid, /** @type {{height: number, bitrate: number}} */ limits) => ({
    rid,
    ...fit(width, height, limits.height),
    bitrate: limits.bitrate,
  });
  if (source === 'screen') return [layer('', SCREEN)];
  return height < TWO_FROM ? [layer('', LOW)] : [layer('q', LOW), layer('h', HIGH)];
}

/** The size at no more than so many lines, even numbers. @param {number} width @param {number} height @param {number} most */
export function fit(width, height, most) {
  const scale = Math.min(1, most / height);
  const even = (/** @type {number} */ value) => Math.max(2, Math.round((value * scale) / 2) * 2);
  return { width: even(width), height: even(height) };
}

/** The size of a picture that is shown whole in a box, as large as it can be. @param {number} width @param {number} height @param {number} wide of the box @param {number} high @returns {[number, number]} */
export function inside(width, height, wide, high) {
  const scale = Math.min(wide / width, high / height);
  return [width * scale, height * scale];
}

/**
 * Which layers are encoded: those that the SFU wants, as far as the queue allows; the next lower one where the wanted one
 * is not allowed. A share has no lower layer and goes on at `low`.
 * @param {string[]} rids lowest first @param {Record<string, boolean>} wanted @param {'all' | 'low' | 'audio'} level
 * @returns {boolean[]}
 */
export function activeLayers(rids, wanted, level) {
  const isWanted = (/** @type {string} */ rid) =>
    rid ? wanted[rid] !== false : !Object.values(wanted).length || Object.values(wanted).some(Boolean);
  const wishes = rids.map(isWanted);
  if (level === 'audio') return rids.map(() => false);
  if (level === 'all' || rids.length === 1) return wishes;
  return rids.map((_, index) => index === 0 && wishes.some(Boolean));
}

/** RTP time stamps of a stream from a capture clock, which may begin anew with another device. */
export class RtpClock {
  #offset = 0;
  /** @type {number | null} */
  #last = null;

  /** @param {number} kilohertz 48 or 90 */
  constructor(kilohertz) {
    this.kilohertz = kilohertz;
  }

  /** @param {number} microseconds @returns {number} modulo 2^32 */
  at(microseconds) {
    let value = Math.round((microseconds * this.kilohertz) / 1000) + this.#offset;
    if (this.#last !== null && value <= this.#last) {
      const step = this.#last + 20 * this.kilohertz - value;
      this.#offset += step;
      value += step;
    }
    this.#last = value;
    return ((value % 2 ** 32) + 2 ** 32) % 2 ** 32;
  }
}

/** The level octet of RFC 6464: the V bit and -dBov. @param {number} power mean of the squared samples @returns {number} */
export function levelOf(power) {
  const below = power > 0 ? Math.min(127, Math.max(0, Math.round(-10 * Math.log10(power)))) : 127;
  return below < VOICE_DBOV ? 0x80 | below : below;
}
