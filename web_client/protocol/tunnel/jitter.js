/**
 * Sound that waits to be played: takes packets as the network brings them and gives samples as the sound card wants them.
 *
 * Playing begins when `target` is waiting; where it runs dry, more is waited for the next time. What was never needed for
 * two seconds is left out again, so that a burst does not stay as delay. Pure: runs in the AudioWorklet and in Node.
 */

const RATE = 48_000;
const MS = RATE / 1000;
const FIRST = 60 * MS;
const LEAST = 40 * MS;
const MOST = 200 * MS;
const STEP = 20 * MS;
const SPARE = 40 * MS;
const WINDOW = 2000 * MS;
/** A pause in the time stamps after which what still waits belongs to the former talk. */
const PAUSE = 200 * MS;
const FULL = 1000 * MS;

export class JitterBuffer {
  /** Samples to wait for before playing begins. */
  target = FIRST;
  /** Samples that wait. */
  waiting = 0;
  /** Samples that were left out. */
  dropped = 0;
  /** How often it ran dry. */
  dry = 0;
  #isPlaying = false;
  /** @type {{timestamp: number, samples: Float32Array, at: number}[]} */
  #chunks = [];
  #least = Infinity;
  #window = 0;

  /** @param {number} timestamp RTP, 48 kHz @param {Float32Array} samples */
  put(timestamp, samples) {
    const last = this.#chunks.at(-1);
    if (!this.#isPlaying && last && ((timestamp - last.timestamp) | 0) > PAUSE) this.#skip(this.waiting);
    this.#chunks.push({ timestamp, samples, at: 0 });
    this.waiting += samples.length;
    if (this.waiting > FULL) this.#skip(this.waiting - FULL);
    if (this.waiting >= this.target) this.#isPlaying = true;
  }

  /** The RTP time stamp of the next sample; null while nothing plays. @returns {number | null} */
  get position() {
    const [first] = this.#chunks;
    return this.#isPlaying && first ? (first.timestamp + first.at) >>> 0 : null;
  }

  /** Fills `out`, with silence where there is nothing. @param {Float32Array} out */
  pull(out) {
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
    out.fill(0, filled);
    if (this.#isPlaying) this.#judge(out.length);
  }

  #ranDry() {
    this.#isPlaying = false;
    this.dry += 1;
    this.target = Math.min(MOST, this.target + STEP);
    this.#least = Infinity;
    this.#window = 0;
  }

  /** @param {number} played samples */
  #judge(played) {
    this.#least = Math.min(this.#least, this.waiting);
    this.#window += played;
    if (this.#window < WINDOW) return;
    if (this.#least > SPARE) this.#skip(this.#least - SPARE);
    this.target = Math.max(LEAST, this.target - STEP / 4);
    this.#least = Infinity;
    this.#window = 0;
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
