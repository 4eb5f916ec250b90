/**
 * How much later than the earliest packets come, so that what is played can wait for nearly all of them: the worst of each
 * half second is remembered for ten, and the very worst of these is not waited for (it is concealed). Pure; in samples.
 */

const SPAN = 24_000;
const SPANS = 20;
/** Clock and time stamps do not fit any more: the sender has another device, or nothing was played for a while. */
const JUMP = 24_000;

export class Lateness {
  /** Of the earliest packet. */
  earliest = 0;
  /** By how much nearly all of the others are later. */
  needed = 0;
  /** @type {{least: number, most: number}[]} */
  #spans = [];
  #begins = 0;

  /** A packet has come. @param {number} late its delay, from any origin @param {number} now */
  add(late, now) {
    if (this.#spans.length && (late < this.earliest - JUMP || late > this.earliest + this.needed + 4 * JUMP)) this.#spans = [];
    const last = this.#spans.at(-1);
    if (!last || now - this.#begins >= SPAN) {
      this.#spans.push({ least: late, most: late });
      this.#begins = now;
      if (this.#spans.length > SPANS) this.#spans.shift();
    } else {
      last.least = Math.min(last.least, late);
      last.most = Math.max(last.most, late);
    }
    this.earliest = Math.min(...this.#spans.map(({ least }) => least));
    const [worst, second = worst] = this.#spans.map(({ most }) => most).sort((some, other) => other - some);
    this.needed = second - this.earliest;
  }
}
