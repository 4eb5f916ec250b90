/**
 * Where each person's media comes from, mesh or SFU, and how a room changes from one to the other without a gap.
 *
 * SwitchTopology: connect by the new topology while the old one plays. A person is taken over when both ends have said
 * TopologyReady about each other (PeerReady tells); until then what the new topology brings of them is kept, not played.
 * `received` is what plays, by track. Nobody can stop a peer-to-peer link but its ends: what the room says of a person
 * (muted, gone) is done here.
 *
 * Events: `track` and `untrack` (Received, of what plays), `changed` ({topology, epoch}).
 */

import { Emitter } from './events.js';

const LOOK_MS = 100;
/** What came so long ago does not come any more. */
const FLOWING_MS = 1000;
/** Two sounds overlap while one fades into the other; then the former link goes. */
const OVERLAP_MS = 400;
/** Of one TopologyReady. */
const MAX_PEERS = 32;

/**
 * @typedef {'mesh' | 'sfu'} Side
 * @typedef {import('./subscriber.js').Received} Received
 * @typedef {import('./transports.js').Transports | import('./switched_media.js').SwitchedMedia} Transports
 * @typedef {import('./mesh.js').Mesh} Mesh
 */

/** Whether media of a track was played out a moment ago. @param {Received} received @returns {boolean} */
export function isFlowing({ transceiver }) {
  const { receiver } = transceiver;
  const sources = receiver.getSynchronizationSources?.() ?? [];
  // Browsers count either from the page's beginning or from 1970.
  return sources.some(({ timestamp }) =>
    [performance.now(), Date.now()].some((now) => Math.abs(now - timestamp) < FLOWING_MS),
  );
}

export class Topology extends Emitter {
  /** What plays, by track. @type {Map<string, Received>} */
  received = new Map();
  /** @type {Side} */
  side = 'sfu';
  epoch = 0;
  /** What there is, by side and track. @type {Record<Side, Map<string, Received>>} */
  #sides = { mesh: new Map(), sfu: new Map() };
  /** People who are still played from the former side. @type {Map<string, Side>} */
  #pinned = new Map();
  /** Who was there when the room changed: the only ones to be reported to the SFU's many. @type {Set<string>} */
  #former = new Set();
  /** Who has said, at this epoch, that they decode oneself. @type {Set<string>} */
  #decodedBy = new Set();
  #said = '';
  /** @type {Set<string>} */
  #people = new Set();
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;
  /** @type {Set<ReturnType<typeof setTimeout>>} */
  #ending = new Set();

  /**
   * @param {object} options
   * @param {Transports} options.transports
   * @param {Mesh} options.mesh
   * @param {(type: string, payload: object) => void} options.send
   * @param {(received: Received) => boolean} [options.isFlowing]
   */
  constructor({ transports, mesh, send, isFlowing: flows = isFlowing }) {
    super();
    this.transports = transports;
    this.mesh = mesh;
    this.send = send;
    this.isFlowing = flows;
    for (const [side, source] of /** @type {const} */ ([['mesh', mesh], ['sfu', transports]])) { // prettier-ignore
      source.on('track', (received) => this.#came(side, received));
      source.on('untrack', (received) => this.#went(side, received));
    }
    mesh.on('state', () => this.look());
    transports.on('state', () => this.look());
  }

  // --- what the room says ---------------------------------------------------------------------------------------------
  /**
   * One has joined, maybe again.
   * @param {{topology: string, epoch: number, userId: string}} joined @param {Iterable<string>} people without oneself
   */
  joined({ topology, epoch, userId }, people) {
    this.mesh.userId = userId;
    this.mesh.close(); // of an earlier session: the others have forgotten it
    this.#begin(/** @type {Side} */ (topology), epoch);
    this.#pinned.clear();
    this.#former.clear();
    this.#people = new Set(people);
    if (topology === 'mesh') for (const other of this.#people) this.mesh.call(other);
    this.#watch();
  }

  /** @param {{to: Side, epoch: number}} news */
  switched({ to, epoch }) {
    if (epoch === this.epoch && to === 'sfu' && !this.#isSfuUp()) this.transports.restart(); // a reminder
    if (epoch < this.epoch || (epoch === this.epoch && to === this.side)) return;
    this.#former = new Set(this.#people);
    for (const userId of this.#people) if (!this.#pinned.has(userId)) this.#pinned.set(userId, this.side);
    this.#begin(to, epoch);
    for (const [userId, side] of this.#pinned) if (side === to) this.#pinned.delete(userId);
    if (to === 'mesh') for (const userId of this.#people) this.#meet(userId);
    this.#watch();
    this.emit('changed', { topology: to, epoch });
  }

  /** @param {string} userId */
  #meet(userId) {
    if (this.mesh.links.get(userId)?.isUp) return;
    if (userId < this.mesh.userId) this.mesh.call(userId);
    else this.mesh.expect(userId);
  }

  /** @param {Side} side @param {number} epoch */
  #begin(side, epoch) {
    this.side = side;
    this.epoch = epoch;
    this.#decodedBy.clear();
    this.#said = '';
    for (const timer of this.#ending) clearTimeout(timer);
    this.#ending.clear();
  }

  /** @param {{userId: string, epoch: number, peers: string[]}} news */
  peerReady({ userId, epoch, peers }) {
    if (epoch !== this.epoch) return;
    if (peers.includes(this.mesh.userId)) this.#decodedBy.add(userId);
    else this.#decodedBy.delete(userId);
    this.look();
  }

  /**
   * Who is in the room now. Whoever is not any more is heard no longer; a newcomer begins.
   * @param {Map<string, {isMuted: boolean}>} people by user id
   */
  know(people) {
    const others = new Set([...people.keys()].filter((userId) => userId !== this.mesh.userId));
    for (const userId of this.#people) if (!others.has(userId)) this.#gone(userId);
    for (const userId of others) {
      if (!this.#people.has(userId) && this.side === 'mesh') this.mesh.expect(userId);
    }
    this.#people = others;
    this.#silence(people);
    this.look();
  }

  /** A peer that was muted is silent here, whatever it sends. @param {Map<string, {isMuted: boolean}>} people */
  #silence(people) {
    for (const { info, media } of this.#sides.mesh.values()) {
      const isMuted = info.source === 'microphone' && people.get(info.userId ?? '')?.isMuted === true;
      if (media.enabled === isMuted) media.enabled = !isMuted;
    }
  }

  /** @param {string} userId */
  #gone(userId) {
    this.mesh.drop(userId);
    this.#pinned.delete(userId);
    this.#decodedBy.delete(userId);
  }

  /** A track of the mesh that the SFU's end does not end. @param {string} trackId */
  holds(trackId) {
    return this.#sides.mesh.has(trackId);
  }

  // --- what comes -----------------------------------------------------------------------------------------------------
  /** The side from which a person is played. @param {string | undefined} userId @returns {Side} */
  via(userId) {
    return this.#pinned.get(userId ?? '') ?? this.side;
  }

  /** @param {Side} side @param {Received} received */
  #came(side, received) {
    const { trackId, userId } = received.info;
    this.#sides[side].set(trackId, received);
    if (this.via(userId) === side) this.#play(received);
    this.look();
  }

  /** @param {Received} received */
  #play(received) {
    this.received.set(received.info.trackId, received);
    this.emit('track', received);
  }

  /** @param {Side} side @param {Received} received */
  #went(side, received) {
    const { trackId } = received.info;
    if (this.#sides[side].get(trackId)?.media !== received.media) return;
    this.#sides[side].delete(trackId);
    if (this.received.get(trackId)?.media !== received.media) return;
    const other = this.#sides[side === 'mesh' ? 'sfu' : 'mesh'].get(trackId);
    if (other) {
      this.#play(other); // better from there than not at all
      return;
    }
    this.received.delete(trackId);
    this.emit('untrack', received);
  }

  // --- readiness ------------------------------------------------------------------------------------------------------
  #watch() {
    this.#timer ??= setInterval(() => this.look(), LOOK_MS);
    this.look();
  }

  /** Says what is ready, takes over who is, and gives up what is not needed any more. */
  look() {
    if (this.#timer === undefined) return;
    const isUp = this.side === 'mesh' || this.#isSfuUp();
    const ready = this.#readyPeople(isUp);
    const said = isUp ? ready.join() || '-' : '';
    if (said && said !== this.#said && (this.side === 'mesh' || this.epoch > 1)) {
      this.#said = said;
      this.send('TopologyReady', { epoch: this.epoch, peers: ready });
    }
    for (const [userId, former] of [...this.#pinned]) {
      const isLost = former === 'mesh' && !this.mesh.links.get(userId)?.isUp;
      if (ready.includes(userId) && (isLost || this.#decodedBy.has(userId))) this.#takeOver(userId);
    }
    this.#release();
  }

  /** @param {boolean} isUp */
  #readyPeople(isUp) {
    const counted = this.side === 'mesh' ? this.#people : this.#former;
    const ready = isUp ? [...counted].filter((userId) => this.#people.has(userId) && this.#isReady(userId)) : [];
    return ready.sort().slice(0, MAX_PEERS);
  }

  /** After a resume everything is said again. */
  repeat() {
    this.#said = '';
    this.look();
  }

  #isSfuUp() {
    const { publish, subscribe } = this.transports.state;
    return publish === 'connected' && subscribe === 'connected';
  }

  /** Whether one decodes a person by the room's topology, or there is nothing of them to decode. @param {string} userId */
  #isReady(userId) {
    const { side } = this;
    if (side === 'mesh' && !this.mesh.links.get(userId)?.isUp) return false;
    const former = this.#pinned.get(userId);
    if (!former) return true;
    const flowing = [...this.#sides[former].values()].filter(
      (received) => received.info.userId === userId && this.isFlowing(received),
    );
    return flowing.every(({ info }) => {
      const here = this.#sides[side].get(info.trackId);
      return here !== undefined && this.isFlowing(here);
    });
  }

  /** @param {string} userId */
  #takeOver(userId) {
    this.#pinned.delete(userId);
    for (const received of this.#sides[this.side].values()) {
      if (received.info.userId === userId) this.#play(received);
    }
  }

  /** What nobody is played from any more ends, when one sound has faded into the other. */
  #release() {
    const pinned = [...this.#pinned.values()];
    const over = [...this.mesh.links.keys()].filter((userId) => !this.#pinned.has(userId));
    if (this.side === 'sfu') {
      if (over.length) this.#later(() => over.forEach((userId) => this.mesh.drop(userId)));
    } else if (this.transports.publisher && !pinned.includes('sfu') && this.#areAllMutual()) {
      this.#later(() => this.transports.reset());
    }
  }

  #areAllMutual() {
    return [...this.#people].every((userId) => this.mesh.links.get(userId)?.isUp && this.#decodedBy.has(userId));
  }

  /** @param {() => unknown} work */
  #later(work) {
    if (this.#ending.size) return; // one at a time; `look` comes by again
    const timer = setTimeout(() => {
      this.#ending.delete(timer);
      work();
    }, OVERLAP_MS);
    this.#ending.add(timer);
  }

  /** Connection states as the page shows them. */
  get state() {
    if (this.side === 'sfu') return this.transports.state;
    const links = [...this.mesh.links.values()].map(({ connection }) => connection.connectionState);
    const isDown = links.length > 0 && links.every((state) => state === 'failed' || state === 'disconnected');
    const state = /** @type {RTCPeerConnectionState} */ (isDown ? 'disconnected' : 'connected');
    return { publish: state, subscribe: state };
  }

  /** All connections by which something is received. @returns {{connection: RTCPeerConnection, received: Map<string, Received>}[]} */
  get sources() {
    const { subscriber } = this.transports;
    return [...(subscriber ? [subscriber] : []), ...this.mesh.links.values()];
  }

  close() {
    clearInterval(this.#timer);
    this.#timer = undefined;
    for (const timer of this.#ending) clearTimeout(timer);
    this.#ending.clear();
    this.mesh.close();
  }
}
