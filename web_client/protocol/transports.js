/**
 * The two peer connections of a call and what moves them to another SFU node.
 *
 * An SfuEndpoint with a new transport id makes a new connection beside the old one; the old one goes when the new one
 * is connected (make before break), so that a moved room keeps its sound. Local tracks and their ids move along.
 *
 * Events: `track` and `untrack` (Received), `state` ({publish, subscribe}), `failed` ({direction}), `error`.
 */

import { Emitter } from './events.js';
import { Publisher } from './publisher.js';
import { Subscriber } from './subscriber.js';
import { configurationOf, randomId } from './wire.js';

/** A new connection that is not up by then takes over all the same. */
const TAKE_OVER_MS = 10_000;

/**
 * @typedef {import('./messages.d.ts').Source} Source
 * @typedef {import('./messages.d.ts').SessionDescription} SessionDescription
 * @typedef {{track: MediaStreamTrack | null, trackId?: string}} Local
 */

export class Transports extends Emitter {
  /** @type {Publisher | null} */
  publisher = null;
  /** @type {Subscriber | null} */
  subscriber = null;
  /** @type {RTCIceServer[]} */
  iceServers = [];
  /** What is to be sent, by source. @type {Map<Source, Local>} */
  #local = new Map();
  #limit = 0;
  /** Connections that still play until their successor is up. @type {Set<Publisher | Subscriber>} */
  #retiring = new Set();

  /**
   * @param {object} options
   * @param {(type: string, payload: object) => void} options.send
   * @param {import('./messages.d.ts').ConnectionClass} [options.RTCPeerConnection]
   */
  constructor({ send, RTCPeerConnection = globalThis.RTCPeerConnection }) {
    super();
    this.send = send;
    this.RTCPeerConnection = RTCPeerConnection;
  }

  /** Connection states by direction. */
  get state() {
    return {
      publish: this.publisher?.connection.connectionState ?? 'new',
      subscribe: this.subscriber?.connection.connectionState ?? 'new',
    };
  }

  /** @param {import('./messages.d.ts').SfuEndpoint} endpoint @param {number} epoch */
  open({ direction, transportId }, epoch) {
    if (direction === 'publish' && this.publisher?.transportId !== transportId) this.#openPublish(transportId, epoch);
    if (direction === 'subscribe' && this.subscriber?.transportId !== transportId) this.#openSubscribe(transportId);
  }

  /** @param {string} transportId @param {number} epoch */
  #openPublish(transportId, epoch) {
    const { iceServers, send, RTCPeerConnection } = this;
    const old = this.publisher;
    const publisher = new Publisher({ transportId, iceServers, send, epoch, RTCPeerConnection });
    this.publisher = publisher;
    publisher.on('state', (state) => this.#changed('publish', publisher, state));
    publisher.on('error', (error) => this.emit('error', error));
    if (old) this.#retire(old, publisher);
    publisher.limit(this.#limit);
    for (const [source, { track, trackId }] of this.#local) publisher.setTrack(source, track, trackId);
    publisher.negotiate(); // also with nothing to send: the DataChannel lives here
  }

  /** @param {string} transportId */
  #openSubscribe(transportId) {
    const { iceServers, send, RTCPeerConnection } = this;
    const old = this.subscriber;
    const subscriber = new Subscriber({ transportId, iceServers, send, RTCPeerConnection });
    this.subscriber = subscriber;
    subscriber.on('state', (state) => this.#changed('subscribe', subscriber, state));
    subscriber.on('error', (error) => this.emit('error', error));
    subscriber.on('track', (received) => this.emit('track', received));
    subscriber.on('untrack', (received) => {
      if (this.subscriber === subscriber) this.emit('untrack', received);
    });
    if (old) this.#retire(old, subscriber);
  }

  /** @param {Publisher | Subscriber} old @param {Publisher | Subscriber} successor */
  #retire(old, successor) {
    this.#retiring.add(old);
    const finish = () => {
      clearTimeout(timer);
      if (!this.#retiring.delete(old)) return;
      old.close();
      if (old instanceof Subscriber && successor instanceof Subscriber) this.#dropMissing(old, successor);
    };
    const timer = setTimeout(finish, TAKE_OVER_MS);
    successor.on('state', (state) => {
      if (state === 'connected' || state === 'closed') finish();
    });
  }

  /** Tracks that the new connection does not carry end. @param {Subscriber} old @param {Subscriber} successor */
  #dropMissing(old, successor) {
    for (const [trackId, received] of old.received) {
      if (!successor.received.has(trackId)) this.emit('untrack', received);
    }
  }

  /** @param {'publish' | 'subscribe'} direction @param {Publisher | Subscriber} transport @param {RTCPeerConnectionState} state */
  #changed(direction, transport, state) {
    if (transport !== this.publisher && transport !== this.subscriber) return;
    this.emit('state', this.state);
    if (state === 'failed') this.emit('failed', { direction });
  }

  /** @param {Source} source @param {MediaStreamTrack | null} track */
  async setTrack(source, track) {
    const known = this.#local.get(source);
    const isShare = source === 'screen' || source === 'screenAudio';
    const trackId = known?.trackId ?? (track ? randomId() : undefined);
    this.#local.set(source, { track, trackId: isShare && !track ? undefined : trackId });
    await this.publisher?.setTrack(source, track, this.#local.get(source)?.trackId);
  }

  /** Takes over what is to be sent. @param {Map<Source, Local>} local */
  adopt(local) {
    this.#local = new Map(local);
  }

  /** What is to be sent. @returns {Map<Source, Local>} */
  get local() {
    return this.#local;
  }

  /** @param {Source} source */
  isSending(source) {
    return Boolean(this.#local.get(source)?.track);
  }

  /** How much less is sent than could be, see Publisher; also on connections to come. @param {number} limit */
  limit(limit) {
    this.#limit = limit;
    this.publisher?.limit(limit);
  }

  /** @param {SessionDescription} offer */
  offered(offer) {
    if (offer.transportId === this.subscriber?.transportId) this.subscriber.offered(offer);
  }

  /** @param {SessionDescription} answer */
  answered(answer) {
    if (answer.transportId === this.publisher?.transportId) this.publisher.answered(answer);
  }

  /** @param {{transportId: string, candidate: RTCIceCandidateInit | null}} payload */
  candidate({ transportId, candidate }) {
    for (const transport of [this.publisher, this.subscriber]) {
      if (transport?.transportId === transportId) transport.addCandidate(candidate);
    }
  }

  /** The signaling connection was resumed: repeat what may have been lost with the socket. */
  resend() {
    this.publisher?.resend();
    this.subscriber?.resend();
  }

  /** New TURN credentials: they serve the next connection and the next ICE restart. @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    this.iceServers = iceServers;
    const configuration = configurationOf(iceServers);
    for (const transport of [this.publisher, this.subscriber]) transport?.connection.setConfiguration(configuration);
  }

  /** For StatsReporter: each connection with its tracks by mid. */
  forStats() {
    const { publisher, subscriber } = this;
    const sent = publisher?.connection.getTransceivers() ?? [];
    const received = subscriber ? [...subscriber.received.values()] : [];
    const byTrack = new Map([...this.#local.values()].map(({ track, trackId }) => [track, trackId ?? '']));
    return {
      publish: publisher && {
        connection: publisher.connection,
        trackIds: new Map(sent.map(({ mid, sender }) => [mid ?? '', byTrack.get(sender.track) ?? ''])),
      },
      subscribe: subscriber && {
        connection: subscriber.connection,
        trackIds: new Map(received.map(({ transceiver, info }) => [transceiver.mid ?? '', info.trackId])),
      },
    };
  }

  /** For LinkMeter: each connection, and who sends what is received. */
  forMeter() {
    const { publisher, subscriber } = this;
    const received = subscriber ? [...subscriber.received.values()] : [];
    return {
      publish: publisher && { connection: publisher.connection },
      subscribe: subscriber && {
        connection: subscriber.connection,
        publishers: new Map(received.map(({ transceiver, info }) => [transceiver.mid ?? '', info.userId ?? ''])),
      },
    };
  }

  /** The room's topology has changed: descriptions are of this epoch from now on. @param {number} epoch */
  setEpoch(epoch) {
    if (this.publisher) this.publisher.epoch = epoch;
  }

  /** Looks for another way to the SFU. */
  restart() {
    this.publisher?.negotiate({ restart: true });
  }

  /** The SFU is not needed any more; `open` begins anew. */
  reset() {
    const gone = [...(this.subscriber?.received.values() ?? [])];
    this.close();
    this.publisher = this.subscriber = null;
    for (const received of gone) this.emit('untrack', received);
    this.emit('state', this.state);
  }

  close() {
    for (const transport of [this.publisher, this.subscriber, ...this.#retiring]) transport?.close();
    this.#retiring.clear();
  }
}
