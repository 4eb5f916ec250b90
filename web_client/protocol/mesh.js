/**
 * The links of a mesh: one PeerLink to each of the others, with what oneself sends on all of them.
 *
 * The newcomer offers to whoever is there; when a room comes back from the SFU, the one with the higher user id does. A
 * link that its peer does not begin in time is begun from here: a lost message must not keep two people apart.
 *
 * Events: `track` and `untrack` (Received), `state` ({userId, state}), `error`.
 */

import { Emitter } from './events.js';
import { PeerLink } from './peer_link.js';
import { configurationOf, randomId } from './wire.js';

/** How long the other end has to begin. */
const BEGIN_MS = 3000;

/**
 * @typedef {import('./messages.d.ts').Source} Source
 * @typedef {import('./messages.d.ts').SessionDescription} SessionDescription
 * @typedef {import('./transports.js').Local} Local
 */

export class Mesh extends Emitter {
  /** @type {Map<string, PeerLink>} */
  links = new Map();
  /** @type {Map<string, ReturnType<typeof setTimeout>>} */
  #waiting = new Map();
  /** @type {RTCIceServer[]} */
  iceServers = [];
  userId = '';

  /**
   * @param {object} options
   * @param {(type: string, payload: object) => void} options.send
   * @param {() => number} options.epoch
   * @param {() => Map<Source, Local>} options.local what is to be sent
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   */
  constructor({ send, epoch, local, RTCPeerConnection }) {
    super();
    this.send = send;
    this.epoch = epoch;
    this.local = local;
    this.RTCPeerConnection = RTCPeerConnection;
  }

  /** Begins a link now. @param {string} userId */
  call(userId) {
    this.#open(userId, randomId());
  }

  /** A link that the other end begins, or we do if it does not. @param {string} userId */
  expect(userId) {
    if (this.links.has(userId) || this.#waiting.has(userId)) return;
    const begin = () => {
      this.#waiting.delete(userId);
      this.call(userId);
    };
    this.#waiting.set(userId, setTimeout(begin, BEGIN_MS));
  }

  /** @param {string} userId @param {string} transportId @returns {PeerLink} */
  #open(userId, transportId) {
    this.drop(userId);
    const { iceServers, send, epoch, RTCPeerConnection } = this;
    const isPolite = this.userId < userId;
    const link = new PeerLink({ userId, transportId, isPolite, iceServers, send, epoch, RTCPeerConnection });
    this.links.set(userId, link);
    link.on('track', (received) => this.emit('track', received));
    link.on('untrack', (received) => this.emit('untrack', received));
    link.on('state', (state) => this.emit('state', { userId, state }));
    link.on('error', (error) => this.emit('error', error));
    for (const [source, { track, trackId }] of this.local()) link.setTrack(source, track, trackId);
    return link;
  }

  /** @param {Source} source @param {Local} local */
  async setTrack(source, { track, trackId }) {
    await Promise.all([...this.links.values()].map((link) => link.setTrack(source, track, trackId)));
  }

  // --- from the others ------------------------------------------------------------------------------------------------
  /** @param {SessionDescription} offer */
  offered(offer) {
    const { sourceUserId: userId, transportId } = offer;
    const known = this.links.get(userId);
    if (known?.transportId === transportId) return known.offered(offer);
    // Both began at once: the link of the impolite one stays. One that is up was begun anew by the other end.
    const isGlare = known && !known.isUp && known.connection.signalingState === 'have-local-offer';
    if (isGlare && !known.isPolite) return Promise.resolve();
    return this.#open(userId, transportId).offered(offer);
  }

  /** @param {SessionDescription} answer */
  answered(answer) {
    const link = this.links.get(answer.sourceUserId);
    if (link?.transportId === answer.transportId) link.answered(answer);
  }

  /** @param {{sourceUserId: string, transportId: string, candidate: RTCIceCandidateInit | null}} payload */
  candidate({ sourceUserId, transportId, candidate }) {
    const link = this.links.get(sourceUserId);
    if (link?.transportId === transportId) link.addCandidate(candidate);
  }

  // --- all links ------------------------------------------------------------------------------------------------------
  /** @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    this.iceServers = iceServers;
    for (const { connection } of this.links.values()) connection.setConfiguration(configurationOf(iceServers));
  }

  resend() {
    for (const link of this.links.values()) link.resend();
  }

  restart() {
    for (const link of this.links.values()) link.restart();
  }

  /** @param {string} userId */
  drop(userId) {
    clearTimeout(this.#waiting.get(userId));
    this.#waiting.delete(userId);
    const link = this.links.get(userId);
    this.links.delete(userId);
    link?.close();
  }

  close() {
    for (const userId of new Set([...this.links.keys(), ...this.#waiting.keys()])) this.drop(userId);
  }
}
