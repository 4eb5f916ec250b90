/** The audio thread's side of `capture.js`: one channel in blocks of 10 ms. */

const BLOCK = 480;

/** What an AudioWorklet has and a page has not. @type {any} */
const scope = globalThis;

class Capture extends scope.AudioWorkletProcessor {
  #block = new Float32Array(BLOCK);
  #filled = 0;
  #count = 0;

  /** @param {Float32Array[][]} inputs */
  process([channels]) {
    const length = channels[0]?.length ?? 0;
    for (let index = 0; index < length; index += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[index];
      this.#block[this.#filled] = sum / channels.length;
      this.#filled += 1;
      if (this.#filled === BLOCK) this.#give();
    }
    return true;
  }

  #give() {
    const samples = this.#block;
    this.port.postMessage({ samples, timestamp: this.#count * 10_000 }, [samples.buffer]);
    this.#block = new Float32Array(BLOCK);
    this.#filled = 0;
    this.#count += 1;
  }
}

scope.registerProcessor('parley-capture', Capture);
