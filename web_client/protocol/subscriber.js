/**
 * The `subscribe` peer connection: the SFU offers, the client answers.
 *
 * The offer's `tracks` map each m-section (mid) to a track of the room. An m-section may be reused for another track, so
 * the map of the newest offer replaces the older one; `track` and `untrack` tell the difference.
 */

import { Emitter } from './events.js';
import { SFU, candidateOf, configurationOf } from './wire.js';

/** An answer sent so shortly before a socket was lost may not have arrived. */
const UNSURE_MS = 30_000;

/**
 * @typedef {{info: import('./messages.d.ts').TrackInfo, media: MediaStreamTrack, transceiver: RTCRtpTransceiver}} Received
 */

export class Subscriber extends Emitter {
  /** @type {Map<string, Received>} */
  received = new Map();
  #queue = Promise.resolve();
  /** @type {{payload: object, at: number} | null} */
  #lastAnswer = null;

  /**
   * Events: `state` (RTCPeerConnectionState), `track` (Received), `untrack` (Received), `error`.
   * @param {object} options
   * @param {string} options.transportId
   * @param {RTCIceServer[]} options.iceServers
   * @param {(type: string, payload: object) => void} options.send
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   * @param {() => number} [options.now]
   */
  constructor({ transportId, iceServers, send, RTCPeerConnection = globalThis.RTCPeerConnection, now = Date.now }) {
    super();
    this.transportId = transportId;
    this.send = send;
    this.now = now;
    this.connection = new RTCPeerConnection(configurationOf(iceServers));
    this.connection.onicecandidate = ({ candidate }) => {
      this.send('SendIceCandidate', { targetUserId: SFU, transportId, candidate: candidateOf(candidate) });
    };
    this.connection.onconnectionstatechange = () => this.emit('state', this.connection.connectionState);
  }

  /** Offers are taken one after the other. @param {import('./messages.d.ts').SessionDescription} offer @returns {Promise<void>} */
  offered(offer) {
    this.#queue = this.#queue.then(() => this.#answer(offer)).catch((error) => this.emit('error', error));
    return this.#queue;
  }

  /** @param {import('./messages.d.ts').SessionDescription} offer */
  async #answer({ sdp, negotiationId, tracks = [], epoch = 0 }) {
    if (this.connection.signalingState === 'closed') return;
    await this.connection.setRemoteDescription({ type: 'offer', sdp });
    await this.connection.setLocalDescription(await this.connection.createAnswer());
    const payload = {
      targetUserId: SFU,
      transportId: this.transportId,
      negotiationId,
      sdp: this.connection.localDescription?.sdp ?? '',
      epoch,
    };
    this.#lastAnswer = { payload, at: this.now() };
    this.send('SendAnswer', payload);
    this.#map(tracks);
  }

  /** @param {import('./messages.d.ts').TrackInfo[]} tracks */
  #map(tracks) {
    const byMid = new Map(this.connection.getTransceivers().map((transceiver) => [transceiver.mid, transceiver]));
    /** @type {Map<string, Received>} */
    const next = new Map();
    for (const info of tracks) {
      const transceiver = byMid.get(info.mid ?? '');
      if (transceiver) next.set(info.trackId, { info, transceiver, media: transceiver.receiver.track });
    }
    const before = this.received;
    this.received = next;
    for (const [trackId, old] of before) {
      if (next.get(trackId)?.media !== old.media) this.emit('untrack', old);
    }
    for (const [trackId, now] of next) {
      if (before.get(trackId)?.media !== now.media) this.emit('track', now);
    }
  }

  /** After a resume: an answer that the lost socket may have swallowed is sent again; the SFU ignores a repetition. */
  resend() {
    if (this.#lastAnswer && this.now() - this.#lastAnswer.at < UNSURE_MS)
      this.send('SendAnswer', this.#lastAnswer.payload);
  }

  /** @param {RTCIceCandidateInit | null} candidate */
  addCandidate(candidate) {
    if (candidate) this.connection.addIceCandidate(candidate).catch(() => {}); // it is in the SDP as well
  }

  close() {
    this.connection.onconnectionstatechange = this.connection.onicecandidate = null;
    this.connection.close();
  }
}
