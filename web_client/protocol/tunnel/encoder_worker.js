/**
 * Encodes what is sent in frames, off the page's thread: takes the readables of MediaStreamTrackProcessors, or what
 * `capture.js` gives in their place, and gives chunks. A track is read on while its encoder is made anew.
 *
 * In: `read` ({source, readable}) and `release` ({source}), or else `picture` ({source, frame}) and `sound` ({source, samples,
 * sampleRate, timestamp}); `start` ({source, layers, active}), `stop` ({source}), `active` ({source, active}), `keyFrame`
 * ({stream}), `forget` ({stream}).
 * Out: `chunk` ({stream, timestamp, isKey, isDiscardable, data}), where sound begins with its level octet; `clock`
 * ({stream, timestamp, ntpMs}) every two seconds; `error` ({message}).
 */

import { RtpClock, inside, levelOf } from './encoding.js';

const CLOCK_MS = 2000;
/** Raw pictures that wait in the encoder; more are left out. */
const MAX_WAITING = 3;
/** A key frame is made of the last picture where no new one comes by then, as of a share that stands still. */
const STILL_MS = 300;
/** An encoder that failed is made anew, no more often than this. */
const REOPEN_MS = 1000;
const OPUS = { format: 'opus', frameDuration: 20_000, application: 'voip', usedtx: false };

/** @typedef {import('./encoding.js').Layer & {stream: number}} OpenLayer */

/** Clocks outlive their encoders: a stream goes on with another device. @type {Map<number, RtpClock>} */
const clocks = new Map();
/** What is encoded. @type {Map<string, VideoSource | AudioSource>} */
const sources = new Map();
/** What reads the tracks. @type {Map<string, Reader>} */
const readers = new Map();
/** The worker's own scope. @type {any} */
const scope = globalThis;

/** @param {number} stream @param {number} kilohertz @returns {RtpClock} */
function clockOf(stream, kilohertz) {
  const clock = clocks.get(stream) ?? new RtpClock(kilohertz);
  clocks.set(stream, clock);
  return clock;
}

/** @param {unknown} error */
function failed(error) {
  scope.postMessage({ type: 'error', message: String(/** @type {any} */ (error)?.message ?? error) });
}

const unixMs = () => performance.timeOrigin + performance.now();

/** Takes what a track gives to its encoder, as long as there is one, until the track ends or `stop`. */
class Reader {
  #isOpen = true;
  #reader;

  /** @param {string} source @param {ReadableStream} readable */
  constructor(source, readable) {
    this.#reader = readable.getReader();
    this.#run(source).catch(failed);
  }

  /** @param {string} source */
  async #run(source) {
    for (;;) {
      const { done, value } = await this.#reader.read();
      if (done) return;
      if (this.#isOpen) take(source, value);
      else value.close();
    }
  }

  stop() {
    this.#isOpen = false;
    this.#reader.cancel().catch(() => {}); // the track may have ended already
  }
}

/** @param {string} source @param {any} data a VideoFrame or AudioData, which is closed */
function take(source, data) {
  try {
    sources.get(source)?.take(data);
  } finally {
    data.close();
  }
}

/** What both kinds share. */
class Source {
  #toldAt = 0;

  /** @param {OpenLayer[]} layers */
  constructor(layers) {
    this.layers = layers;
  }

  /** @param {any} data a VideoFrame or AudioData, closed afterwards */
  take(data) {
    void data;
  }

  /** Which instant a time stamp was. @param {number} stream @param {number} timestamp */
  tellClock(stream, timestamp) {
    scope.postMessage({ type: 'clock', stream, timestamp, ntpMs: unixMs() });
  }

  isClockDue() {
    if (performance.now() - this.#toldAt < CLOCK_MS) return false;
    this.#toldAt = performance.now();
    return true;
  }

  /** @param {boolean[]} active by layer */
  setActive(active) {
    void active;
  }

  stop() {}
}

class VideoSource extends Source {
  outputs = this.layers.map((layer) => new VideoLayer(layer));

  /** @override @param {VideoFrame} frame */
  take(frame) {
    const isClockDue = this.isClockDue();
    for (const output of this.outputs) {
      const timestamp = output.encode(frame);
      if (isClockDue && timestamp !== null) this.tellClock(output.layer.stream, timestamp);
    }
  }

  /** @override @param {boolean[]} active */
  setActive(active) {
    for (const [index, output] of this.outputs.entries()) {
      if (active[index] && !output.isActive) output.wantsKey = true;
      output.isActive = active[index];
    }
  }

  /** @override */
  stop() {
    for (const output of this.outputs) output.close();
  }
}

/**
 * One spatial layer. The encoder scales by itself, which is far cheaper than a canvas and does not hold up the sound; a
 * canvas is there for pictures of another shape, which get bars.
 */
class VideoLayer {
  isActive = true;
  wantsKey = true;
  /** RTP time stamps of the pictures in the encoder, by their own. @type {Map<number, number>} */
  #stamps = new Map();
  #at = 0;
  #drawnAt = 0;
  #openedAt = 0;
  /** The last picture. @type {VideoFrame | null} */
  #picture = null;
  /** @type {OffscreenCanvasRenderingContext2D | null} */
  #canvas = null;

  /** @param {OpenLayer} layer */
  constructor(layer) {
    this.layer = layer;
    this.clock = clockOf(layer.stream, 90);
    this.encoder = this.#open();
    this.timer = setInterval(() => this.#still(), STILL_MS);
  }

  #open() {
    const { width, height, bitrate } = this.layer;
    const encoder = new VideoEncoder({ output: (chunk, metadata) => this.#encoded(chunk, metadata), error: failed });
    encoder.configure({
      codec: 'vp8',
      width,
      height,
      bitrate,
      framerate: 30,
      latencyMode: 'realtime',
      scalabilityMode: 'L1T2',
    });
    this.#openedAt = performance.now();
    this.wantsKey = true;
    this.#stamps.clear();
    return encoder;
  }

  /** @param {VideoFrame} frame @returns {number | null} its RTP time stamp, if it is encoded */
  encode(frame) {
    if (!this.isActive || this.encoder.encodeQueueSize >= MAX_WAITING) return null;
    this.#picture?.close();
    this.#picture = this.#shaped(frame);
    return this.#encode(this.#picture, frame.timestamp);
  }

  /** The picture in the layer's shape. @param {VideoFrame} frame @returns {VideoFrame} */
  #shaped(frame) {
    const { width, height } = this.layer;
    const [wide, high] = inside(frame.displayWidth, frame.displayHeight, width, height);
    if (wide > width - 2 && high > height - 2) return frame.clone();
    this.#canvas ??= new OffscreenCanvas(width, height).getContext('2d', { alpha: false });
    const canvas = /** @type {OffscreenCanvasRenderingContext2D} */ (this.#canvas);
    canvas.clearRect(0, 0, width, height);
    canvas.drawImage(frame, (width - wide) / 2, (height - high) / 2, wide, high);
    return new VideoFrame(canvas.canvas, { timestamp: frame.timestamp });
  }

  /** @param {VideoFrame} shaped @param {number} at microseconds @returns {number | null} its RTP time stamp, if it is encoded */
  #encode(shaped, at) {
    if (this.encoder.state !== 'configured') {
      if (performance.now() - this.#openedAt < REOPEN_MS) return null;
      this.encoder = this.#open();
    }
    const timestamp = this.clock.at(at);
    this.#stamps.set(at, timestamp);
    const picture = new VideoFrame(shaped, { timestamp: at });
    this.encoder.encode(picture, { keyFrame: this.wantsKey });
    picture.close();
    this.wantsKey = false;
    this.#at = at;
    this.#drawnAt = performance.now();
    return timestamp;
  }

  #still() {
    const elapsed = performance.now() - this.#drawnAt;
    if (!this.wantsKey || !this.isActive || !this.#picture || elapsed <= STILL_MS) return;
    this.#encode(this.#picture, Math.round(this.#at + elapsed * 1000));
  }

  /** @param {EncodedVideoChunk} chunk @param {any} metadata */
  #encoded(chunk, metadata) {
    const timestamp = this.#stamps.get(chunk.timestamp);
    for (const at of this.#stamps.keys()) if (at <= chunk.timestamp) this.#stamps.delete(at);
    if (timestamp === undefined) return;
    const data = new ArrayBuffer(chunk.byteLength);
    chunk.copyTo(data);
    const isKey = chunk.type === 'key';
    const isDiscardable = !isKey && (metadata?.svc?.temporalLayerId ?? 0) > 0;
    const { stream } = this.layer;
    scope.postMessage({ type: 'chunk', stream, timestamp, isKey, isDiscardable, data }, [data]);
  }

  close() {
    clearInterval(this.timer);
    this.#picture?.close();
    this.#picture = null;
    if (this.encoder.state !== 'closed') this.encoder.close();
  }
}

class AudioSource extends Source {
  clock = clockOf(this.layers[0].stream, 48);
  isActive = true;
  /** @type {AudioEncoder | null} */
  encoder = null;
  #openedAt = -Infinity;
  #power = 0;
  #samples = 0;

  /** @override @param {AudioData} data */
  take(data) {
    if (!this.isActive) return;
    const samples = this.#mono(data);
    const { sampleRate, timestamp, numberOfFrames } = data;
    for (const sample of samples) this.#power += sample * sample;
    this.#samples += numberOfFrames;
    if (this.encoder?.state !== 'configured') {
      if (performance.now() - this.#openedAt < REOPEN_MS) return;
      this.encoder = this.#open(sampleRate);
    }
    const format = 'f32-planar';
    const mono = new AudioData({ format, sampleRate, numberOfFrames, numberOfChannels: 1, timestamp, data: samples });
    this.encoder.encode(mono);
    mono.close();
  }

  /** @param {AudioData} data @returns {Float32Array<ArrayBuffer>} */
  #mono(data) {
    const { numberOfFrames, numberOfChannels } = data;
    const sum = new Float32Array(numberOfFrames);
    const one = new Float32Array(numberOfFrames);
    for (let planeIndex = 0; planeIndex < numberOfChannels; planeIndex += 1) {
      data.copyTo(one, { planeIndex, format: 'f32-planar' });
      for (let index = 0; index < numberOfFrames; index += 1) sum[index] += one[index] / numberOfChannels;
    }
    return sum;
  }

  /** @param {number} sampleRate */
  #open(sampleRate) {
    this.#openedAt = performance.now();
    const encoder = new AudioEncoder({ output: (chunk) => this.#encoded(chunk), error: failed });
    const [{ bitrate }] = this.layers;
    const config = { codec: 'opus', sampleRate, numberOfChannels: 1, bitrate, opus: OPUS };
    encoder.configure(/** @type {AudioEncoderConfig} */ (config));
    return encoder;
  }

  /** @param {EncodedAudioChunk} chunk */
  #encoded(chunk) {
    const timestamp = this.clock.at(chunk.timestamp);
    const bytes = new Uint8Array(1 + chunk.byteLength);
    bytes[0] = levelOf(this.#samples ? this.#power / this.#samples : 0);
    chunk.copyTo(bytes.subarray(1));
    this.#power = this.#samples = 0;
    const [{ stream }] = this.layers;
    const { buffer } = bytes;
    scope.postMessage({ type: 'chunk', stream, timestamp, isKey: false, isDiscardable: false, data: buffer }, [buffer]);
    if (this.isClockDue()) this.tellClock(stream, timestamp);
  }

  /** @override @param {boolean[]} active */
  setActive([isActive]) {
    this.isActive = isActive;
  }

  /** @override */
  stop() {
    if (this.encoder && this.encoder.state !== 'closed') this.encoder.close();
  }
}

/** What the page asks for. @type {Record<string, (message: any) => void>} */
const HANDLERS = {
  read: ({ source, readable }) => {
    readers.get(source)?.stop();
    readers.set(source, new Reader(source, readable));
  },
  release: ({ source }) => {
    readers.get(source)?.stop();
    readers.delete(source);
  },
  start: ({ source, layers, active }) => {
    sources.get(source)?.stop();
    const isVideo = source === 'camera' || source === 'screen';
    const opened = isVideo ? new VideoSource(layers) : new AudioSource(layers);
    opened.setActive(active);
    sources.set(source, opened);
  },
  picture: ({ source, frame }) => take(source, frame),
  sound: ({ source, samples, sampleRate, timestamp }) => {
    const numberOfFrames = samples.length;
    const format = 'f32-planar';
    const data = { format, sampleRate, numberOfFrames, numberOfChannels: 1, timestamp, data: samples };
    take(source, new AudioData(/** @type {AudioDataInit} */ (data)));
  },
  stop: ({ source }) => {
    sources.get(source)?.stop();
    sources.delete(source);
  },
  active: ({ source, active }) => sources.get(source)?.setActive(active),
  forget: ({ stream }) => clocks.delete(stream),
  keyFrame: ({ stream }) => {
    for (const source of sources.values()) {
      const outputs = source instanceof VideoSource ? source.outputs : [];
      for (const output of outputs) if (output.layer.stream === stream) output.wantsKey = true;
    }
  },
};

scope.onmessage = (/** @type {MessageEvent} */ { data }) => {
  try {
    HANDLERS[data.type]?.(data);
  } catch (error) {
    failed(error);
  }
};
