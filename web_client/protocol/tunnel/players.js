/**
 * What comes in frames becomes tracks that elements play: sound by an AudioWorklet, pictures by a generator.
 *
 * Sound leads: it is played as its JitterBuffer allows, and a picture is shown when the sound of its instant is played.
 * Without sound or clocks pictures have a constant delay. Where there is no MediaStreamTrackGenerator a canvas is painted.
 */

import { KEY } from './frame.js';

const RATE = 48_000;
/** A picture waits no longer for its sound. */
const MAX_WAIT_MS = 300;
const ALONE_MS = 40;
const MAX_FRAMES = 12;
const MAX_QUEUE = 30;
const ASK_MS = 500;
const CODECS = /** @type {Record<string, string>} */ ({ vp8: 'vp8', h264: 'avc1.42E01F' });

/** What TypeScript does not know yet. @type {any} */
const scope = globalThis;

/** @typedef {import('./frame.js').Frame} Frame */

/** RTP time stamps without their wrap. */
class Unwrapped {
  #last = 0;

  /** @param {number} timestamp @returns {number} */
  of(timestamp) {
    this.#last += (timestamp - (this.#last % 2 ** 32)) | 0;
    return this.#last;
  }
}

/** The one AudioContext of a tunnel, with the worklet loaded. @type {Promise<AudioContext> | null} */
let audio = null;

function audioContext() {
  audio ??= (async () => {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
    await context.audioWorklet.addModule(new URL('./playout_worklet.js', import.meta.url));
    return context;
  })();
  return audio;
}

/** Gives the sound card back; the next player begins anew. */
export function closeAudio() {
  audio?.then((context) => context.close()).catch(() => {}); // it never came up
  audio = null;
}

export class AudioPlayer {
  /** @type {MediaStreamTrack | null} */
  media = null;
  /** What is being played: a time stamp, and when that was said. @type {{timestamp: number, at: number} | null} */
  played = null;
  /** The last level octet's -dBov. */
  level = 127;
  /** How often the sound ran dry, samples that were left out of it, and samples in the place of lost ones. */
  dry = 0;
  dropped = 0;
  concealed = 0;
  /** When something was decoded last, ms. */
  decodedAt = -Infinity;
  #clock = new Unwrapped();
  /** @type {AudioWorkletNode | null} */
  #node = null;
  /** @type {AudioDecoder | null} */
  #decoder = null;
  /** Time stamps of the packets in the decoder. It gives one piece of sound a packet, and counts on as if none were lost. @type {number[]} */
  #stamps = [];

  async open() {
    const context = await audioContext();
    context.resume().catch(() => {}); // the click on Join allows it; closed meanwhile: nothing is to be played
    const node = new AudioWorkletNode(context, 'parley-playout', { numberOfInputs: 0, outputChannelCount: [1] });
    const destination = context.createMediaStreamDestination();
    destination.channelCount = 1;
    node.connect(destination);
    node.port.onmessage = ({ data: { position, dry, dropped, concealed } }) => {
      Object.assign(this, { dry, dropped, concealed });
      this.played = position === null ? null : { timestamp: position, at: performance.now() };
    };
    this.#node = node;
    [this.media] = destination.stream.getAudioTracks();
  }

  /** @param {Frame} frame */
  take({ payload, timestamp }) {
    if (!this.#node || payload.length < 2) return;
    this.level = payload[0] & 0x7f;
    if (this.#decoder?.state !== 'configured') this.#restart();
    const decoder = /** @type {AudioDecoder} */ (this.#decoder);
    if (decoder.decodeQueueSize > MAX_QUEUE) return;
    const microseconds = Math.round((this.#clock.of(timestamp) * 1000) / 48);
    this.#stamps.push(timestamp);
    decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: microseconds, data: payload.subarray(1) }));
  }

  #restart() {
    this.#stamps = [];
    this.#decoder = new AudioDecoder({ output: (data) => this.#decoded(data), error: () => {} }); // the next packet restarts
    this.#decoder.configure({ codec: 'opus', sampleRate: RATE, numberOfChannels: 1 });
  }

  /** @param {AudioData} data */
  #decoded(data) {
    const samples = new Float32Array(data.numberOfFrames);
    data.copyTo(samples, { planeIndex: 0, format: 'f32-planar' });
    data.close();
    const timestamp = this.#stamps.shift();
    if (timestamp === undefined) return;
    this.decodedAt = performance.now();
    this.#node?.port.postMessage({ timestamp, samples }, [samples.buffer]);
  }

  close() {
    this.#node?.port.postMessage(null);
    this.#node?.disconnect();
    this.#node = null;
    if (this.#decoder && this.#decoder.state !== 'closed') this.#decoder.close();
    this.media?.stop();
  }
}

export class VideoPlayer {
  /** @type {MediaStreamTrack | null} */
  media = null;
  decodedAt = -Infinity;
  decoded = 0;
  level = 127;
  #needsKey = true;
  #askedAt = -Infinity;
  #clock = new Unwrapped();
  /** The least of arrival minus time stamp: how early a picture can be. */
  #base = Infinity;
  /** @type {{frame: VideoFrame, due: number}[]} */
  #waiting = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {VideoDecoder | null} */
  #decoder = null;
  /** @type {((frame: VideoFrame) => void) | null} */
  #show = null;

  /**
   * @param {object} options
   * @param {string} options.codec `vp8` or `h264`
   * @param {() => void} options.askKeyFrame
   * @param {(timestamp: number) => number | null} options.dueOf when (ms of performance.now) a picture's sound is played
   */
  constructor({ codec, askKeyFrame, dueOf }) {
    this.codec = codec;
    this.askKeyFrame = askKeyFrame;
    this.dueOf = dueOf;
  }

  async open() {
    const { media, show } = scope.MediaStreamTrackGenerator ? generated() : painted();
    this.media = media;
    this.#show = show;
  }

  /** @param {Frame} frame @param {number} lost frames before it */
  take({ payload, timestamp, flags }, lost) {
    if (!this.#show) return;
    if (lost || (this.#decoder && this.#decoder.decodeQueueSize > MAX_QUEUE)) this.#needsKey = true;
    const isKey = Boolean(flags & KEY);
    if (this.#needsKey && !isKey) {
      this.#ask();
      return;
    }
    if (this.#decoder?.state !== 'configured') {
      this.#restart();
      if (!isKey) return;
    }
    this.#needsKey = false;
    const microseconds = Math.round((this.#clock.of(timestamp) * 1000) / 90);
    const chunk = new EncodedVideoChunk({ type: isKey ? 'key' : 'delta', timestamp: microseconds, data: payload });
    /** @type {VideoDecoder} */ (this.#decoder).decode(chunk);
  }

  #ask() {
    const now = performance.now();
    if (now - this.#askedAt < ASK_MS) return;
    this.#askedAt = now;
    this.askKeyFrame();
  }

  #restart() {
    this.#needsKey = true;
    const error = () => {
      this.#needsKey = true;
      this.#ask();
    };
    this.#decoder = new VideoDecoder({ output: (frame) => this.#decoded(frame), error });
    this.#decoder.configure({ codec: CODECS[this.codec] ?? 'vp8', optimizeForLatency: true });
  }

  /** @param {VideoFrame} frame */
  #decoded(frame) {
    const now = performance.now();
    this.decodedAt = now;
    this.decoded += 1;
    const sound = this.dueOf(Math.round(frame.timestamp * 0.09) >>> 0);
    const due = sound ?? this.#alone(frame.timestamp / 1000, now);
    this.#waiting.push({ frame, due: Math.min(Math.max(due, now), now + MAX_WAIT_MS) });
    while (this.#waiting.length > MAX_FRAMES) this.#waiting.shift()?.frame.close();
    this.#play();
  }

  /** Without sound: as long after its time stamp as each other. @param {number} at ms @param {number} now */
  #alone(at, now) {
    this.#base = Math.min(now - at, this.#base + 0.05); // the two clocks drift
    return at + this.#base + ALONE_MS;
  }

  #play() {
    clearTimeout(this.#timer);
    const now = performance.now();
    while (this.#waiting.length > 1 && this.#waiting[1].due <= now) this.#waiting.shift()?.frame.close(); // late
    const [first] = this.#waiting;
    if (!first) return;
    if (first.due <= now) {
      this.#waiting.shift();
      this.#show?.(first.frame);
    }
    const [next] = this.#waiting;
    if (next) this.#timer = setTimeout(() => this.#play(), Math.max(1, next.due - performance.now()));
  }

  close() {
    clearTimeout(this.#timer);
    for (const { frame } of this.#waiting) frame.close();
    this.#waiting = [];
    this.#show = null;
    if (this.#decoder && this.#decoder.state !== 'closed') this.#decoder.close();
    this.media?.stop();
  }
}

/** @returns {{media: MediaStreamTrack, show: (frame: VideoFrame) => void}} */
function generated() {
  const media = new scope.MediaStreamTrackGenerator({ kind: 'video' });
  const writer = media.writable.getWriter();
  return {
    media,
    show: (frame) => {
      writer.write(frame).catch(() => frame.close()); // the track was stopped
    },
  };
}

/** @returns {{media: MediaStreamTrack, show: (frame: VideoFrame) => void}} */
function painted() {
  const canvas = document.createElement('canvas');
  const context = canvas.getContext('2d');
  const [media] = canvas.captureStream().getVideoTracks();
  return {
    media,
    show: (frame) => {
      if (canvas.width !== frame.displayWidth) canvas.width = frame.displayWidth;
      if (canvas.height !== frame.displayHeight) canvas.height = frame.displayHeight;
      context?.drawImage(frame, 0, 0);
      frame.close();
    },
  };
}
