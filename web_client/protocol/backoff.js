/**
 * Waiting times between tries: at once, then 0.5, 1, 2, 4, 5, 5 ... seconds, each with jitter.
 *
 * Jitter takes up to half of a step away, so that the clients of a server that went down do not come back in one wave.
 */

export class Backoff {
  #tries = 0;

  /** @param {{random?: () => number, firstMs?: number, capMs?: number}} [options] */
  constructor({ random = Math.random, firstMs = 500, capMs = 5000 } = {}) {
    this.random = random;
    this.firstMs = firstMs;
    this.capMs = capMs;
  }

  /** Milliseconds to wait before the next try. @returns {number} */
  next() {
    const step = this.#tries === 0 ? 0 : Math.min(this.capMs, this.firstMs * 2 ** (this.#tries - 1));
    this.#tries += 1;
    return step * (1 - this.random() / 2);
  }

  reset() {
    this.#tries = 0;
  }
}
