/**
 * One peer-to-peer connection of a mesh, negotiated over signaling.
 *
 * Perfect negotiation (W3C WebRTC, section 10.7): both ends may offer at any time, the polite one gives way. Each end has
 * one sender a source; what the other sends comes on m-sections of its own, described by `tracks` beside the SDP. A link
 * is named by `transportId`, chosen by who offers first: a peer that starts anew has another name.
 *
 * Events: `state` (RTCPeerConnectionState), `track` and `untrack` (Received), `error`.
 */

import { Emitter } from './events.js';
import { encodingsFor } from './publisher.js';
import { candidateOf, configurationOf } from './wire.js';

/** A connection that stays disconnected for so long is restarted without waiting for `failed`. */
const RESTART_AFTER_MS = 3000;
/** A description sent so shortly before a socket was lost may not have arrived. */
const UNSURE_MS = 30_000;
/** Each peer costs an encoder: what is larger is scaled down. */
const MESH_WIDTH = 640;
const MESH_BITRATE = 700_000;

/**
 * @typedef {import('./messages.d.ts').Source} Source
 * @typedef {import('./messages.d.ts').TrackInfo} TrackInfo
 * @typedef {import('./messages.d.ts').SessionDescription} SessionDescription
 * @typedef {import('./subscriber.js').Received} Received
 * @typedef {{transceiver: RTCRtpTransceiver, trackId: string, published: boolean}} Sending
 */

/**
 * One encoding, of a size that several encoders can take.
 * @param {Source} source @param {MediaStreamTrack} track @returns {RTCRtpEncodingParameters[]}
 */
export function meshEncodings(source, track) {
  const settings = track.getSettings();
  if (source !== 'camera') return encodingsFor(source, settings);
  const { width = 0 } = settings;
  return [{ scaleResolutionDownBy: Math.max(1, width / MESH_WIDTH), maxBitrate: MESH_BITRATE }];
}

export class PeerLink extends Emitter {
  /** @type {Map<string, Received>} */
  received = new Map();
  /** @type {Map<Source, Sending>} */
  #sending = new Map();
  #isOffering = false;
  #isIgnoring = false;
  #negotiationId = 0;
  /** @type {{type: string, payload: object, at: number} | null} */
  #last = null;
  /** Remote descriptions and candidates are taken one after the other. */
  #queue = Promise.resolve();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #restartTimer;

  /**
   * @param {object} options
   * @param {string} options.userId of the other end
   * @param {string} options.transportId
   * @param {boolean} options.isPolite
   * @param {RTCIceServer[]} options.iceServers
   * @param {(type: string, payload: object) => void} options.send
   * @param {() => number} options.epoch the room's now
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   * @param {() => number} [options.now]
   */
  constructor({ userId, transportId, isPolite, iceServers, send, epoch, RTCPeerConnection, now = Date.now }) {
    super();
    this.userId = userId;
    this.transportId = transportId;
    this.isPolite = isPolite;
    this.send = send;
    this.epoch = epoch;
    this.now = now;
    const Connection = RTCPeerConnection ?? globalThis.RTCPeerConnection;
    this.connection = new Connection(configurationOf(iceServers));
    // There is something to connect also where nobody sends.
    this.connection.createDataChannel('parley', { negotiated: true, id: 0 });
    this.connection.onnegotiationneeded = () => this.#offer();
    this.connection.onicecandidate = ({ candidate }) => {
      this.#tell('SendIceCandidate', { candidate: candidateOf(candidate) });
    };
    this.connection.onconnectionstatechange = () => this.#stateChanged();
  }

  get #isClosed() {
    return this.connection.signalingState === 'closed';
  }

  get isUp() {
    return this.connection.connectionState === 'connected';
  }

  // --- what we send ---------------------------------------------------------------------------------------------------
  /** Sends, replaces or pauses a source; `null` ends a share. @param {Source} source @param {MediaStreamTrack | null} track @param {string} [trackId] */
  async setTrack(source, track, trackId = '') {
    const sending = this.#sending.get(source);
    if (!sending) {
      if (track) this.#add(source, track, trackId);
      return;
    }
    const isShare = source === 'screen' || source === 'screenAudio';
    if (track && !sending.published) {
      Object.assign(sending, { published: true, trackId });
      sending.transceiver.direction = 'sendonly';
    } else if (!track && isShare && sending.published) {
      sending.published = false;
      sending.transceiver.direction = 'inactive';
    }
    await sending.transceiver.sender.replaceTrack(track);
  }

  /** @param {Source} source @param {MediaStreamTrack} track @param {string} trackId */
  #add(source, track, trackId) {
    const sendEncodings = meshEncodings(source, track);
    const transceiver = this.connection.addTransceiver(track, { direction: 'sendonly', sendEncodings });
    this.#sending.set(source, { transceiver, trackId, published: true });
  }

  #describe() {
    return [...this.#sending]
      .filter(([, { published, transceiver }]) => published && transceiver.mid !== null)
      .map(([source, { transceiver, trackId }]) => ({
        mid: transceiver.mid,
        trackId,
        kind: transceiver.receiver.track.kind,
        source,
      }));
  }

  // --- negotiation ----------------------------------------------------------------------------------------------------
  async #offer() {
    if (this.#isOffering || this.connection.signalingState !== 'stable') return; // asked for again when it is
    this.#isOffering = true;
    try {
      await this.connection.setLocalDescription();
      this.#negotiationId += 1;
      this.#describeTo('SendOffer', this.#negotiationId);
    } catch (error) {
      if (!this.#isClosed) this.emit('error', error);
    } finally {
      this.#isOffering = false;
    }
  }

  /** @param {string} type @param {number} negotiationId */
  #describeTo(type, negotiationId) {
    const sdp = this.connection.localDescription?.sdp ?? '';
    const payload = { negotiationId, sdp, tracks: this.#describe() };
    this.#last = { type, payload, at: this.now() };
    this.#tell(type, payload);
  }

  /** @param {string} type @param {object} payload */
  #tell(type, payload) {
    const { userId: targetUserId, transportId } = this;
    this.send(type, { targetUserId, transportId, epoch: this.epoch(), ...payload });
  }

  /** @param {SessionDescription} offer */
  offered(offer) {
    return this.#enqueue(async () => {
      const { connection } = this;
      const isCollision = this.#isOffering || connection.signalingState !== 'stable';
      this.#isIgnoring = !this.isPolite && isCollision;
      if (this.#isIgnoring || this.#isClosed) return;
      await connection.setRemoteDescription({ type: 'offer', sdp: offer.sdp });
      this.#map(offer.tracks ?? []);
      await connection.setLocalDescription();
      this.#describeTo('SendAnswer', offer.negotiationId);
    });
  }

  /** @param {SessionDescription} answer */
  answered(answer) {
    return this.#enqueue(async () => {
      if (this.connection.signalingState !== 'have-local-offer' || answer.negotiationId !== this.#negotiationId) return;
      await this.connection.setRemoteDescription({ type: 'answer', sdp: answer.sdp });
      this.#map(answer.tracks ?? []);
    });
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  addCandidate(candidate) {
    return this.#enqueue(async () => {
      const isOurs = !this.#isIgnoring && this.connection.remoteDescription;
      if (candidate && isOurs) await this.connection.addIceCandidate(candidate).catch(() => {}); // of a former restart
    });
  }

  /** @param {() => Promise<void>} step */
  #enqueue(step) {
    this.#queue = this.#queue.then(step).catch((error) => this.emit('error', error));
    return this.#queue;
  }

  /** @param {TrackInfo[]} tracks */
  #map(tracks) {
    const byMid = new Map(this.connection.getTransceivers().map((transceiver) => [transceiver.mid, transceiver]));
    /** @type {Map<string, Received>} */
    const next = new Map();
    for (const info of tracks) {
      const transceiver = byMid.get(info.mid ?? '');
      if (!transceiver) continue;
      const media = transceiver.receiver.track;
      next.set(info.trackId, { info: { ...info, userId: this.userId }, transceiver, media });
    }
    const before = this.received;
    this.received = next;
    for (const [trackId, old] of before) if (next.get(trackId)?.media !== old.media) this.emit('untrack', old);
    for (const [trackId, now] of next) if (before.get(trackId)?.media !== now.media) this.emit('track', now);
  }

  /** After a resume: a description that the lost socket may have swallowed is sent again. */
  resend() {
    if (this.#last && this.now() - this.#last.at < UNSURE_MS) this.#tell(this.#last.type, this.#last.payload);
  }

  /** Looks for another way to the peer; also after a change of network. */
  restart() {
    if (!this.#isClosed) this.connection.restartIce();
  }

  #stateChanged() {
    const state = this.connection.connectionState;
    clearTimeout(this.#restartTimer);
    if (state === 'failed') this.restart();
    else if (state === 'disconnected') this.#restartTimer = setTimeout(() => this.restart(), RESTART_AFTER_MS);
    this.emit('state', state);
  }

  close() {
    clearTimeout(this.#restartTimer);
    const { connection } = this;
    connection.onconnectionstatechange = connection.onicecandidate = connection.onnegotiationneeded = null;
    connection.close();
    for (const received of this.received.values()) this.emit('untrack', received);
    this.received = new Map();
  }
}
