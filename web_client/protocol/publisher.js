/**
 * The `publish` peer connection: the client offers, the SFU answers.
 *
 * It carries the DataChannel `parley` (negotiated, id 0) and one sender a source. A camera that is switched off keeps
 * its sender (replaceTrack(null)); a share that ends is unpublished and its m-section is reused by the next one. Offers
 * are serialised: one is outstanding at most and what changes meanwhile goes into the next.
 */

import { Emitter } from './events.js';
import { SFU, candidateOf, randomId } from './wire.js';

/**
 * The layers of a camera by the width of its capture: rid and divisor. libwebrtc sends no more layers than its table of
 * resolutions allows (640x360 two, 960x540 three) and drops the largest of those that are too many.
 */
const LAYERS = /** @type {const} */ ([
  [960, [['q', 4], ['h', 2], ['f', 1]]],
  [480, [['q', 2], ['f', 1]]],
]);
const VIDEO_BITRATES = /** @type {const} */ ([
  [1280, 1_700_000],
  [960, 1_000_000],
  [640, 700_000],
  [320, 250_000],
]);
const SCREEN_BITRATE = 2_500_000;
const SPEECH_BITRATE = 40_000;
/** A connection that stays disconnected for so long is restarted without waiting for `failed`. */
const RESTART_AFTER_MS = 4000;

/**
 * @typedef {{transceiver: RTCRtpTransceiver, trackId: string, published: boolean}} Slot
 * @typedef {{targetUserId: string, transportId: string, negotiationId: number, sdp: string, tracks: object[], epoch: number}} Offer
 */

/** @param {number} width @returns {number} */
function bitrateFor(width) {
  return VIDEO_BITRATES.find(([least]) => width >= least)?.[1] ?? 150_000;
}

/**
 * The encodings for a track of a source.
 * @param {import('./messages.d.ts').Source} source
 * @param {{width?: number}} size
 * @returns {RTCRtpEncodingParameters[]}
 */
export function encodingsFor(source, { width = 0 }) {
  if (source === 'microphone') return [{ maxBitrate: SPEECH_BITRATE, networkPriority: 'high' }];
  if (source === 'screenAudio') return [{ maxBitrate: 96_000 }];
  if (source === 'screen') return [{ maxBitrate: SCREEN_BITRATE, maxFramerate: 15 }];
  const layers = LAYERS.find(([least]) => width >= least)?.[1];
  if (!layers) return [{ maxBitrate: bitrateFor(width) }];
  return layers.map(([rid, divisor]) => ({
    rid,
    scaleResolutionDownBy: divisor,
    maxBitrate: bitrateFor(width / divisor),
  }));
}

export class Publisher extends Emitter {
  /** @type {Map<import('./messages.d.ts').Source, Slot>} */
  #slots = new Map();
  #negotiationId = 0;
  /** @type {Offer | null} */
  #outstanding = null;
  #again = false;
  #restart = false;
  #busy = false;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;

  /**
   * Events: `state` (RTCPeerConnectionState), `track` ({source, trackId} or with trackId null), `error`.
   * @param {object} options
   * @param {string} options.transportId
   * @param {RTCIceServer[]} options.iceServers
   * @param {(type: string, payload: object) => void} options.send
   * @param {number} [options.epoch]
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   */
  constructor({ transportId, iceServers, send, epoch = 0, RTCPeerConnection = globalThis.RTCPeerConnection }) {
    super();
    this.transportId = transportId;
    this.send = send;
    this.epoch = epoch;
    this.connection = new RTCPeerConnection({ iceServers, bundlePolicy: 'max-bundle' });
    this.channel = this.connection.createDataChannel('parley', { negotiated: true, id: 0 });
    this.connection.onicecandidate = ({ candidate }) => {
      this.send('SendIceCandidate', { targetUserId: SFU, transportId, candidate: candidateOf(candidate), epoch });
    };
    this.connection.onconnectionstatechange = () => this.#stateChanged();
  }

  /** Published tracks by source. @returns {Map<import('./messages.d.ts').Source, string>} */
  get trackIds() {
    const published = [...this.#slots].filter(([, slot]) => slot.published);
    return new Map(published.map(([source, slot]) => [source, slot.trackId]));
  }

  /**
   * Publishes, replaces or pauses what a source sends. `null` pauses a camera or microphone and ends a share.
   * @param {import('./messages.d.ts').Source} source
   * @param {MediaStreamTrack | null} track
   * @param {string} [trackId] keeps the id of an earlier connection
   * @returns {Promise<void>}
   */
  async setTrack(source, track, trackId) {
    const slot = this.#slots.get(source);
    if (!slot) {
      if (track) this.#add(source, track, trackId);
      return;
    }
    const isShare = source === 'screen' || source === 'screenAudio';
    if (track && !slot.published) {
      slot.trackId = trackId ?? randomId();
      slot.published = true;
      slot.transceiver.direction = 'sendonly';
      this.negotiate();
    } else if (!track && isShare && slot.published) {
      slot.published = false;
      slot.transceiver.direction = 'inactive';
      this.negotiate();
    }
    await slot.transceiver.sender.replaceTrack(track);
  }

  /** @param {import('./messages.d.ts').Source} source @param {MediaStreamTrack} track @param {string} [trackId] */
  #add(source, track, trackId = randomId()) {
    if ('contentHint' in track && track.kind === 'video') track.contentHint = source === 'screen' ? 'detail' : 'motion';
    const sendEncodings = encodingsFor(source, track.getSettings());
    const transceiver = this.connection.addTransceiver(track, { direction: 'sendonly', sendEncodings });
    this.#slots.set(source, { transceiver, trackId, published: true });
    this.negotiate();
  }

  /** Which layers the SFU wants: others are not encoded. @param {string} trackId @param {Record<string, boolean>} layers */
  async setLayers(trackId, layers) {
    const slot = [...this.#slots.values()].find((candidate) => candidate.trackId === trackId);
    if (!slot) return;
    const parameters = slot.transceiver.sender.getParameters();
    for (const [index, encoding] of parameters.encodings.entries()) {
      const wanted =
        layers[encoding.rid ?? ''] ?? (parameters.encodings.length === 1 ? Object.values(layers)[index] : undefined);
      if (wanted !== undefined) encoding.active = wanted;
    }
    await slot.transceiver.sender.setParameters(parameters).catch((error) => this.emit('error', error));
  }

  /** Offers what changed; at once, or after the outstanding offer is answered. @param {{restart?: boolean}} [options] */
  negotiate({ restart = false } = {}) {
    this.#restart ||= restart;
    this.#again = true;
    queueMicrotask(() => this.#offer());
  }

  async #offer() {
    if (this.#busy || this.#outstanding || !this.#again || this.connection.signalingState === 'closed') return;
    this.#busy = true;
    this.#again = false;
    try {
      const offer = await this.connection.createOffer({ iceRestart: this.#restart });
      this.#restart = false;
      await this.connection.setLocalDescription(offer);
      this.#negotiationId += 1;
      this.#outstanding = {
        targetUserId: SFU,
        transportId: this.transportId,
        negotiationId: this.#negotiationId,
        sdp: this.connection.localDescription?.sdp ?? '',
        tracks: this.#describe(),
        epoch: this.epoch,
      };
      this.send('SendOffer', this.#outstanding);
    } catch (error) {
      this.emit('error', error);
    } finally {
      this.#busy = false;
    }
  }

  #describe() {
    return [...this.#slots]
      .filter(([, slot]) => slot.published && slot.transceiver.mid !== null)
      .map(([source, slot]) => ({
        mid: slot.transceiver.mid,
        trackId: slot.trackId,
        kind: slot.transceiver.receiver.track.kind,
        source,
      }));
  }

  /** After a resume: an offer that the lost socket may have swallowed is sent again. */
  resend() {
    if (this.#outstanding) this.send('SendOffer', this.#outstanding);
  }

  /** @param {import('./messages.d.ts').SessionDescription} answer */
  async answered(answer) {
    if (answer.negotiationId !== this.#outstanding?.negotiationId) return;
    this.#outstanding = null;
    try {
      await this.connection.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
    } catch (error) {
      this.emit('error', error);
    }
    this.#offer();
  }

  /** The server refused the outstanding offer; the next change offers again. */
  async refused() {
    if (!this.#outstanding) return;
    this.#outstanding = null;
    if (this.connection.signalingState === 'have-local-offer') {
      await this.connection.setLocalDescription({ type: 'rollback' }).catch(() => {});
    }
    this.#offer();
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  addCandidate(candidate) {
    if (candidate) this.connection.addIceCandidate(candidate).catch(() => {}); // it is in the SDP as well
  }

  #stateChanged() {
    const state = this.connection.connectionState;
    clearTimeout(this.#restartTimer);
    if (state === 'failed') this.negotiate({ restart: true });
    else if (state === 'disconnected') {
      this.#restartTimer = setTimeout(() => this.negotiate({ restart: true }), RESTART_AFTER_MS);
    }
    this.emit('state', state);
  }

  close() {
    clearTimeout(this.#restartTimer);
    this.connection.onconnectionstatechange = this.connection.onicecandidate = null;
    this.connection.close();
  }
}
