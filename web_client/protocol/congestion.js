/**
 * The client's side of congestion: measures the link each second and puts the steps of Adaptation into practice.
 *
 * Smaller pictures are asked for through the ReceivePlan, fewer layers are sent through the Transports. A camera that the
 * network has stopped is not one that the person switched off: what the person wants is kept, the others are told that
 * there is no video meanwhile, and it comes back by itself.
 *
 * Events: `change` ({step, level, isVideoPaused, wasVideoPaused, isOwnWish}).
 */

import { Adaptation, LEAST_RECEIVING, LEAST_SHARING, STEPS, isBadLink } from './adaptation.js';
import { Emitter } from './events.js';
import { LinkMeter } from './link_meter.js';

const MEASURE_MS = 1000;

/** @typedef {import('./transports.js').Transports | import('./switched_media.js').SwitchedMedia} Transports */
/** @typedef {import('./receive.js').ReceivePlan} ReceivePlan */

export class Congestion extends Emitter {
  #adaptation = new Adaptation();
  #meter = new LinkMeter();
  #isMeasuring = false;
  #hasVideo = true;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  /**
   * @param {object} options
   * @param {Transports} options.transports
   * @param {ReceivePlan} options.receive
   * @param {(isVideoOn: boolean) => void} options.tell tells the others whether there is video now
   * @param {() => number} [options.now] milliseconds
   */
  constructor({ transports, receive, tell, now = () => performance.now() }) {
    super();
    this.transports = transports;
    this.receive = receive;
    this.tell = tell;
    this.now = now;
    /** Whether the person wants to be seen. */
    this.wantsVideo = false;
  }

  get step() {
    return this.#adaptation.step;
  }

  /** The network keeps back the video that the person wants to send. */
  get isVideoPaused() {
    return this.wantsVideo && !this.#hasVideo;
  }

  start() {
    this.#timer ??= setInterval(() => this.measure(), MEASURE_MS);
  }

  /** Measures once, also where the time has not come. @returns {Promise<void>} */
  async measure() {
    if (this.#isMeasuring) return;
    this.#isMeasuring = true;
    const link = await this.#meter.measure(this.transports.forMeter(), this.now()).catch(() => null);
    this.#isMeasuring = false;
    if (link && this.#timer !== undefined) this.take({ now: this.now(), ...link });
  }

  /**
   * A measurement. Loss that may be somebody else's never costs what one sends, nor keeps it back.
   * @param {{now: number, loss: number, ownLoss?: number, roundTripS: number}} measured
   */
  take({ now, loss, ownLoss = loss, roundTripS }) {
    const least = isBadLink(ownLoss, roundTripS) ? this.#least() : LEAST_RECEIVING;
    const counted = this.#adaptation.level > LEAST_RECEIVING ? ownLoss : loss;
    if (this.#adaptation.take({ now, loss: counted, roundTripS, least })) this.#apply();
  }

  /** The lowest step that changes anything. */
  #least() {
    if (this.transports.isSending('camera')) return STEPS.length - 1;
    return this.transports.isSending('screen') ? LEAST_SHARING : LEAST_RECEIVING;
  }

  /**
   * What the others are to be told when the person switches the camera.
   * @param {boolean} isVideoOn @returns {boolean}
   */
  want(isVideoOn) {
    this.wantsVideo = isVideoOn;
    return isVideoOn && this.#hasVideo;
  }

  /** The person wants to be seen whatever the link is like. */
  keepVideo() {
    if (this.#adaptation.keepVideo(this.now())) this.#apply(true);
  }

  /** @param {boolean} [isOwnWish] the person asked for it */
  #apply(isOwnWish = false) {
    const { step, level } = this.#adaptation;
    const wasVideoPaused = this.isVideoPaused;
    this.receive.limit(level >= LEAST_RECEIVING ? 'thumbnails' : level > 0 ? 'half' : 'none');
    this.transports.limit(Math.max(0, level - LEAST_RECEIVING));
    this.#hasVideo = step !== 'no-video';
    const { isVideoPaused } = this;
    if (isVideoPaused !== wasVideoPaused) this.tell(!isVideoPaused);
    this.emit('change', { step, level, isVideoPaused, wasVideoPaused, isOwnWish });
  }

  close() {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
