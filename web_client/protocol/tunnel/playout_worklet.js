/** The audio thread's side of AudioPlayer: plays a JitterBuffer, and tells ten times a second what is playing. */

import { JitterBuffer } from './jitter.js';

const TELL_BLOCKS = 38; // of 128 samples at 48 kHz

/** What an AudioWorklet has and a page has not. @type {any} */
const scope = globalThis;

class Playout extends scope.AudioWorkletProcessor {
  #buffer = new JitterBuffer();
  #blocks = 0;
  #isOpen = true;

  constructor() {
    super();
    this.port.onmessage = (/** @type {MessageEvent} */ { data }) => {
      if (data === null) this.#isOpen = false;
      else this.#buffer.put(data.timestamp, data.samples);
    };
  }

  /** @param {Float32Array[][]} inputs @param {Float32Array[][]} outputs */
  process(inputs, [[out]]) {
    this.#buffer.pull(out);
    this.#blocks += 1;
    if (this.#blocks % TELL_BLOCKS === 0) {
      const { position, dry, dropped, concealed } = this.#buffer;
      this.port.postMessage({ position, dry, dropped, concealed });
    }
    return this.#isOpen;
  }
}

scope.registerProcessor('parley-playout', Playout);
