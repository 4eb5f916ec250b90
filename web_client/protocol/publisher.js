/**
 * The `publish` peer connection: the client offers, the SFU answers.
 *
 * It carries the DataChannel `parley` (negotiated, id 0) and one sender a source. A camera that is switched off keeps
 * its sender (replaceTrack(null)); a share that ends is unpublished and its m-section is reused by the next one. Offers
 * are serialised: one is outstanding at most and what changes meanwhile goes into the next.
 *
 * A layer is encoded where the SFU wants it (SetSend) and one's own link carries it (`limit`).
 */

import { Emitter } from './events.js';
import { SFU, candidateOf, configurationOf, randomId } from './wire.js';

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

/** What `limit` takes: everything, without the top layer, the lowest one, no camera. */
const MAX_LIMIT = 3;

/**
 * @typedef {object} Slot
 * @property {RTCRtpTransceiver} transceiver
 * @property {string} trackId
 * @property {boolean} published
 * @property {RTCRtpEncodingParameters[]} full the encodings where nothing limits them
 * @property {Record<string, boolean>} wanted the layers of SetSend
 * @property {Promise<void>} applying
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

/**
 * The encodings that are sent: what both the SFU and one's own link allow.
 *
 * Each step of `limit` takes one layer from the top; where only one is left, half of its rate. A share is never taken
 * away altogether. Where the SFU wants only layers that the link does not carry, the highest that it does carries on in
 * their place, so that nobody's picture stands still.
 * @param {import('./messages.d.ts').Source} source
 * @param {RTCRtpEncodingParameters[]} full lowest first
 * @param {number} limit
 * @param {Record<string, boolean>} wanted by rid; a layer that is not named is wanted
 * @returns {{active: boolean, maxBitrate: number | undefined}[]}
 */
export function allowedEncodings(source, full, limit, wanted) {
  const steps = source === 'camera' || source === 'screen' ? limit : 0;
  const isStopped = source === 'camera' && steps >= MAX_LIMIT;
  const taken = Math.min(steps, MAX_LIMIT - 1);
  const count = isStopped ? 0 : Math.max(1, full.length - taken);
  const halvings = Math.max(0, taken - (full.length - 1));
  const sole = full.length === 1 ? Object.values(wanted)[0] : undefined;
  const isWanted = full.map(({ rid = '' }) => wanted[rid] ?? sole ?? true);
  const highest = isWanted.some(Boolean) && !isWanted.slice(0, count).some(Boolean) ? count - 1 : -1;
  return full.map(({ maxBitrate }, index) => ({
    active: index < count && (isWanted[index] || index === highest),
    maxBitrate: maxBitrate && maxBitrate / 2 ** halvings,
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
  #limit = 0;
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
    this.connection = new RTCPeerConnection(configurationOf(iceServers));
    this.channel = this.connection.createDataChannel('parley', { negotiated: true, id: 0 });
    this.connection.onicecandidate = ({ candidate }) => {
      this.send('SendIceCandidate', { targetUserId: SFU, transportId, candidate: candidateOf(candidate), epoch: this.epoch });
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
      slot.wanted = {};
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
    const full = encodingsFor(source, track.getSettings());
    const allowed = allowedEncodings(source, full, this.#limit, {});
    const sendEncodings = full.map((encoding, index) => ({ ...encoding, ...allowed[index] }));
    const transceiver = this.connection.addTransceiver(track, { direction: 'sendonly', sendEncodings });
    const slot = { transceiver, trackId, published: true, full, wanted: {}, applying: Promise.resolve() };
    this.#slots.set(source, slot);
    this.negotiate();
  }

  /** Which layers the SFU wants: others are not encoded. @param {string} trackId @param {Record<string, boolean>} layers */
  async setLayers(trackId, layers) {
    for (const [source, slot] of this.#slots) {
      if (slot.trackId !== trackId) continue;
      slot.wanted = layers;
      await this.#apply(source, slot);
    }
  }

  /** How much less the link carries: 0 for everything to 3 for no camera. @param {number} limit */
  async limit(limit) {
    this.#limit = limit;
    await Promise.all([...this.#slots].map(([source, slot]) => this.#apply(source, slot)));
  }

  /** One after the other: parameters may be set only by who read them last. @param {import('./messages.d.ts').Source} source @param {Slot} slot */
  #apply(source, slot) {
    slot.applying = slot.applying.then(async () => {
      const { sender } = slot.transceiver;
      const parameters = sender.getParameters();
      const allowed = allowedEncodings(source, slot.full, this.#limit, slot.wanted);
      let isChanged = false;
      for (const [index, encoding] of parameters.encodings.entries()) {
        const next = allowed[index];
        if (!next || (next.active === encoding.active && next.maxBitrate === encoding.maxBitrate)) continue;
        encoding.active = next.active;
        if (next.maxBitrate) encoding.maxBitrate = next.maxBitrate;
        isChanged = true;
      }
      if (isChanged) await sender.setParameters(parameters);
    });
    slot.applying = slot.applying.catch((error) => this.emit('error', error));
    return slot.applying;
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
