/**
 * A call's media by the way that is taken now, with the face of `Transports`: WebRTC, or the HTTP tunnel. What is to be
 * sent, ids of tracks included, moves along; what was received by the former way ends.
 *
 * Events: `track` and `untrack` (Received), `state` ({publish, subscribe}), `failed` ({direction}), `error`.
 */

import { Emitter } from './events.js';

/**
 * @typedef {import('./transports.js').Transports} Transports
 * @typedef {import('./tunnel/tunnel_media.js').TunnelMedia} TunnelMedia
 * @typedef {import('./messages.d.ts').Source} Source
 */

const PASSED_ON = /** @type {const} */ (['track', 'untrack', 'state', 'failed', 'error']);

export class SwitchedMedia extends Emitter {
  /** @type {Transports | TunnelMedia} */
  #media;
  #limit = 0;

  /** @param {Transports} direct */
  constructor(direct) {
    super();
    this.direct = direct;
    this.#media = direct;
    this.#listen(direct);
  }

  /** @param {Transports | TunnelMedia} media */
  #listen(media) {
    for (const name of PASSED_ON) media.on(name, (detail) => this.emit(name, detail));
  }

  /** Media goes that way from now on; none: by WebRTC again. @param {TunnelMedia | null} tunnelled */
  take(tunnelled) {
    const former = this.#media;
    const next = tunnelled ?? this.direct;
    if (next === former) return;
    next.adopt(former.local);
    next.limit(this.#limit);
    if (former === this.direct) this.direct.reset();
    else former.close();
    if (tunnelled) this.#listen(tunnelled);
    this.#media = next;
    this.emit('state', this.state);
  }

  get isTunnelled() {
    return this.#media !== this.direct;
  }

  /** The tunnel that carries media, where one does. */
  get tunnel() {
    return this.isTunnelled ? /** @type {TunnelMedia} */ (this.#media).tunnel : null;
  }

  // --- the face of Transports -----------------------------------------------------------------------------------------
  get publisher() {
    return this.#media.publisher;
  }

  get subscriber() {
    return this.#media.subscriber;
  }

  get state() {
    return this.#media.state;
  }

  get local() {
    return this.#media.local;
  }

  /** @param {Source} source @param {MediaStreamTrack | null} track */
  setTrack(source, track) {
    return this.#media.setTrack(source, track);
  }

  /** @param {Source} source */
  isSending(source) {
    return this.#media.isSending(source);
  }

  /** @param {number} limit */
  limit(limit) {
    this.#limit = limit;
    this.#media.limit(limit);
  }

  /** @param {number} epoch */
  setEpoch(epoch) {
    this.#media.setEpoch(epoch);
  }

  /** @param {RTCIceServer[]} iceServers kept also while they are not used */
  setIceServers(iceServers) {
    this.direct.setIceServers(iceServers);
  }

  /** @param {import('./messages.d.ts').SfuEndpoint} endpoint @param {number} epoch */
  open(endpoint, epoch) {
    this.#media.open(endpoint, epoch);
  }

  /** @param {import('./messages.d.ts').SessionDescription} offer */
  offered(offer) {
    this.#media.offered(offer);
  }

  /** @param {import('./messages.d.ts').SessionDescription} answer */
  answered(answer) {
    this.#media.answered(answer);
  }

  /** @param {{transportId: string, candidate: RTCIceCandidateInit | null}} payload */
  candidate(payload) {
    this.#media.candidate(payload);
  }

  resend() {
    this.#media.resend();
  }

  restart() {
    this.#media.restart();
  }

  reset() {
    this.#media.reset();
  }

  forStats() {
    return this.#media.forStats();
  }

  forMeter() {
    return this.#media.forMeter();
  }

  close() {
    this.#media.close();
    if (this.#media !== this.direct) this.direct.close();
  }
}
