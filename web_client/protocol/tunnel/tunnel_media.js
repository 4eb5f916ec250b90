/**
 * A call's media by the tunnel, with the face of `Transports`: tracks go out and come in as encoded frames.
 *
 * The gateway is the WebRTC client (docs/tunnel-protocol.md, Frames), so there is no peer connection here, and nothing to
 * negotiate. Encoders run in a worker; received frames are decoded to tracks that play as any other's.
 *
 * Events: `track` and `untrack` (Received), `state` ({publish, subscribe}), `failed` ({direction}), `error`.
 */

import { Emitter } from '../events.js';
import { randomId } from '../wire.js';
import { activeLayers, layersOf } from './encoding.js';
import { AUDIO, DISCARDABLE, KEY, VIDEO, makeFrame } from './frame.js';
import { AudioPlayer, VideoPlayer, closeAudio } from './players.js';

const TICK_MS = 50;
/** The most that a client may have open before its stream numbers begin anew. */
const LAST_STREAM = 65_535;

/**
 * @typedef {import('../messages.d.ts').Source} Source
 * @typedef {import('../transports.js').Local} Local
 * @typedef {import('../subscriber.js').Received} Received
 * @typedef {import('./encoding.js').Layer & {stream: number}} OpenLayer
 * @typedef {{trackId: string, isVideo: boolean, layers: OpenLayer[], playing: MediaStreamTrack | null, active: string, isMuted: boolean}} Opened
 * @typedef {{info: import('../messages.d.ts').TrackInfo, player: AudioPlayer | VideoPlayer, received: Received | null}} Remote
 * @typedef {{track: MediaStreamTrack, end: () => void}} Captured
 * @typedef {'all' | 'low' | 'audio'} Level
 */

export class TunnelMedia extends Emitter {
  /** What of a Publisher is asked for by name. @type {any} */
  publisher = { channel: null, setLayers: (/** @type {string} */ id, /** @type {Record<string, boolean>} */ wanted) => this.#wanted.set(id, wanted) }; // prettier-ignore
  /** @type {import('./tunnel.js').Tunnel | null} */
  tunnel = null;
  /** @type {Map<Source, Local>} */
  #local = new Map();
  /** @type {Map<Source, Opened>} */
  #opened = new Map();
  /** By stream. @type {Map<number, Remote>} */
  #remote = new Map();
  /** By stream: a time stamp's instant. @type {Map<number, {timestamp: number, ntpMs: number}>} */
  #clocks = new Map();
  /** By track: the layers that the SFU wants. @type {Map<string, Record<string, boolean>>} */
  #wanted = new Map();
  /** @type {Worker | null} */
  #worker = null;
  /** What is being captured, and how that ends. @type {Map<Source, Captured>} */
  #captured = new Map();
  #stream = 1;
  #isJoined = false;
  #isClosed = false;
  #limit = 0;
  /** @type {Level} */
  #level = 'all';
  /** @type {{publish: RTCPeerConnectionState, subscribe: RTCPeerConnectionState}} */
  #states = { publish: 'new', subscribe: 'new' };
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #timer;

  // --- the tunnel -----------------------------------------------------------------------------------------------------
  /** Media goes by this tunnel from now on; what came by another one ends. @param {import('./tunnel.js').Tunnel} tunnel */
  attach(tunnel) {
    if (this.#isClosed) return; // whoever opened it finds that nobody waits, and closes it
    this.#forget();
    this.tunnel?.close();
    this.tunnel = tunnel;
    const mine = (/** @type {(value: any) => void} */ take) => (/** @type {any} */ value) => {
      if (this.tunnel === tunnel) take(value);
    };
    tunnel.on('control', mine((message) => CONTROLS[message.type]?.(this, message)));
    tunnel.on('media', mine(({ frame, lost }) => this.#remote.get(frame.stream)?.player.take(frame, lost)));
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
  }

  /** Nothing of a former session is known to the gateway. */
  #forget() {
    this.#isJoined = false;
    for (const source of [...this.#opened.keys()]) this.#shut(source);
    for (const stream of [...this.#remote.keys()]) this.trackClosed(stream);
    this.#clocks.clear();
    this.#wanted.clear();
    this.#stream = 1;
    this.#states = { publish: 'new', subscribe: 'new' };
  }

  /** @param {import('./session.js').Control} message */
  #control(message) {
    const { tunnel } = this;
    if (!tunnel || tunnel.isClosed) return;
    try {
      tunnel.session.control(message);
    } catch (error) {
      this.emit('error', error); // too far behind: the gateway ends the session, and the call joins again
    }
  }

  // --- what comes -----------------------------------------------------------------------------------------------------
  /** @param {{stream: number, trackId: string, userId: string, kind: 'audio' | 'video', source: Source, codec: string}} opened */
  async trackOpened({ stream, codec, trackId, userId, kind, source }) {
    const askKeyFrame = () => this.#control({ type: 'KeyFrame', stream });
    const dueOf = (/** @type {number} */ timestamp) => this.#dueOf(userId, source, stream, timestamp);
    const player = kind === 'audio' ? new AudioPlayer() : new VideoPlayer({ codec, askKeyFrame, dueOf });
    /** @type {Remote} */
    const remote = { info: { trackId, userId, kind, source }, player, received: null };
    this.#remote.set(stream, remote);
    try {
      await player.open();
    } catch (error) {
      this.emit('error', error);
    }
    if (this.#remote.get(stream) !== remote || !player.media) {
      player.close();
      return;
    }
    remote.received = received(remote, stream);
    this.emit('track', remote.received);
    if (kind === 'video') askKeyFrame(); // what came meanwhile was not kept
  }

  /** @param {number} stream */
  trackClosed(stream) {
    const remote = this.#remote.get(stream);
    if (!remote) return;
    this.#remote.delete(stream);
    this.#clocks.delete(stream);
    remote.player.close();
    if (remote.received) this.emit('untrack', remote.received);
  }

  /** @param {{stream: number, timestamp: number, ntpMs: number}} clock */
  clock({ stream, timestamp, ntpMs }) {
    if (this.#remote.has(stream)) this.#clocks.set(stream, { timestamp, ntpMs });
  }

  /** @param {{direction: 'publish' | 'subscribe', state: RTCPeerConnectionState}} news */
  mediaState({ direction, state }) {
    this.#states[direction] = state;
    this.emit('state', this.state);
    if (state === 'failed') this.emit('failed', { direction });
  }

  /** When the sound of a picture is played, ms of performance.now. @param {string} userId @param {Source} source @param {number} stream @param {number} timestamp */
  #dueOf(userId, source, stream, timestamp) {
    const wanted = source === 'screen' ? 'screenAudio' : 'microphone';
    for (const [other, { info, player }] of this.#remote) {
      if (info.userId !== userId || info.source !== wanted || !(player instanceof AudioPlayer) || !player.played) continue;
      const sound = this.#instantOf(other, player.played.timestamp, 48);
      const picture = this.#instantOf(stream, timestamp, 90);
      return sound === null || picture === null ? null : player.played.at + picture - sound;
    }
    return null;
  }

  /** @param {number} stream @param {number} timestamp @param {number} kilohertz @returns {number | null} epoch ms */
  #instantOf(stream, timestamp, kilohertz) {
    const clock = this.#clocks.get(stream);
    return clock ? clock.ntpMs + ((timestamp - clock.timestamp) | 0) / kilohertz : null;
  }

  // --- what goes ------------------------------------------------------------------------------------------------------
  /** @param {Source} source @param {MediaStreamTrack | null} track */
  async setTrack(source, track) {
    const known = this.#local.get(source);
    const isShare = source === 'screen' || source === 'screenAudio';
    const trackId = known?.trackId ?? (track ? randomId() : undefined);
    this.#local.set(source, { track, trackId: isShare && !track ? undefined : trackId });
    const opened = this.#opened.get(source);
    if (opened && isShare && !track) {
      this.#control({ type: 'CloseTrack', trackId: opened.trackId });
      this.#shut(source);
    }
    this.#send(source);
    if (!track) this.#release(source);
  }

  /** Opens what is to be sent and is not yet open, and encodes it. @param {Source} source */
  #send(source) {
    const { track = null, trackId } = this.#local.get(source) ?? {};
    if (!this.#isJoined) return;
    if (track && trackId && !this.#opened.has(source)) this.#open(source, track, trackId);
    const opened = this.#opened.get(source);
    if (!opened || opened.playing === track) return;
    opened.playing = track;
    opened.active = '';
    if (!track) this.#stopEncoding(source);
    else this.#encode(source, track, opened);
    this.#activate(source, opened);
  }

  /** @param {Source} source @param {MediaStreamTrack} track @param {string} trackId */
  #open(source, track, trackId) {
    const layers = layersOf(source, track.getSettings()).map((layer) => ({ ...layer, stream: this.#nextStream() }));
    const streams = layers.map(({ stream, rid, width, height }) => ({ stream, rid, width, height }));
    const isVideo = source === 'camera' || source === 'screen';
    const kind = isVideo ? 'video' : 'audio';
    this.#opened.set(source, { trackId, isVideo, layers, playing: null, active: '', isMuted: false });
    this.#control({ type: 'OpenTrack', trackId, kind, source, codec: isVideo ? 'vp8' : 'opus', streams });
  }

  #nextStream() {
    const stream = this.#stream;
    this.#stream = stream + 2 > LAST_STREAM ? 1 : stream + 2;
    return stream;
  }

  /** @param {Source} source @param {MediaStreamTrack} track @param {Opened} opened */
  #encode(source, track, { layers }) {
    this.#worker ??= this.#start();
    const active = layers.map(() => false); // until it is known which
    this.#worker.postMessage({ type: 'start', source, layers, active });
    // A capture outlives its encoder: in Chromium 156 about one in thirty processors that follow another on the same track
    // gets one picture and no more, until the worker of the former ones ends.
    if (this.#captured.get(source)?.track !== track) this.#capture(source, track, this.#worker);
  }

  /** @param {Source} source @param {MediaStreamTrack} track @param {Worker} worker */
  #capture(source, track, worker) {
    this.#release(source);
    /** @type {Captured} */
    const captured = { track, end: () => worker.postMessage({ type: 'release', source }) };
    this.#captured.set(source, captured);
    const { MediaStreamTrackProcessor: Processor } = /** @type {any} */ (globalThis);
    if (Processor) {
      const { readable } = new Processor({ track });
      worker.postMessage({ type: 'read', source, readable }, [readable]);
      return;
    }
    this.#captureInPage(source, captured, worker).catch((error) => {
      if (this.#captured.get(source) === captured) this.#captured.delete(source);
      this.emit('error', error);
    });
  }

  /** Where the browser has no MediaStreamTrackProcessor. @param {Source} source @param {Captured} captured @param {Worker} worker */
  async #captureInPage(source, captured, worker) {
    captured.end = () => {}; // until it is up
    const { capture } = await import('./capture.js');
    const type = captured.track.kind === 'video' ? 'picture' : 'sound';
    const give = (/** @type {object} */ data, /** @type {Transferable[]} */ transfer) => worker.postMessage({ type, source, ...data }, transfer); // prettier-ignore
    const end = await capture(captured.track, give);
    if (this.#captured.get(source) === captured) captured.end = end;
    else end();
  }

  /** @param {Source} source */
  #release(source) {
    const captured = this.#captured.get(source);
    this.#captured.delete(source);
    captured?.end();
  }

  #start() {
    const worker = new Worker(new URL('./encoder_worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data }) => {
      if (data.type === 'chunk') this.#encoded(data);
      else if (data.type === 'clock') this.#tellClock(data);
      else this.emit('error', new Error(data.message));
    };
    worker.onerror = ({ message }) => this.emit('error', new Error(message || 'the encoder has failed'));
    return worker;
  }

  /** @param {{stream: number, timestamp: number, ntpMs: number}} clock */
  #tellClock({ stream, timestamp, ntpMs }) {
    this.#control({ type: 'Clock', stream, timestamp, ntpMs });
  }

  /** @param {{stream: number, timestamp: number, isKey: boolean, isDiscardable: boolean, data: ArrayBuffer}} chunk */
  #encoded({ stream, timestamp, isKey, isDiscardable, data }) {
    const { tunnel } = this;
    const opened = [...this.#opened.values()].find(({ layers }) => layers.some((layer) => layer.stream === stream));
    if (!tunnel || tunnel.isClosed || !opened?.playing || opened.isMuted) return;
    const flags = (isKey ? KEY : 0) | (isDiscardable ? DISCARDABLE : 0);
    const payload = new Uint8Array(data);
    tunnel.session.media(makeFrame(opened.isVideo ? VIDEO : AUDIO, stream, { payload, timestamp, flags }), tunnel.now());
  }

  /** @param {number} stream */
  keyFrame(stream) {
    this.#worker?.postMessage({ type: 'keyFrame', stream });
  }

  /** @param {Source} source */
  #shut(source) {
    const opened = this.#opened.get(source);
    this.#opened.delete(source);
    this.#stopEncoding(source);
    for (const { stream } of opened?.layers ?? []) {
      this.tunnel?.session.queue.forget(stream);
      this.#worker?.postMessage({ type: 'forget', stream });
    }
  }

  /** @param {Source} source */
  #stopEncoding(source) {
    this.#worker?.postMessage({ type: 'stop', source });
  }

  /** Looks after what is sent: mutes, layers, key frames. */
  #tick() {
    const queue = this.tunnel?.session.queue;
    if (!queue || !this.tunnel) return;
    queue.expire(this.tunnel.now());
    for (const stream of queue.keyFramesWanted()) this.keyFrame(stream);
    if (queue.level !== this.#level) {
      this.#level = queue.level;
      if (this.#isJoined) this.#control({ type: 'Queue', level: queue.level });
    }
    for (const [source, opened] of this.#opened) this.#activate(source, opened);
  }

  /** @param {Source} source @param {Opened} opened */
  #activate(source, opened) {
    const { playing, layers, isVideo, trackId } = opened;
    const isMuted = !playing || (!isVideo && !playing.enabled);
    if (isMuted !== opened.isMuted) {
      opened.isMuted = isMuted;
      for (const { stream } of layers) this.#control({ type: 'Muted', stream, muted: isMuted });
    }
    const level = this.#limit > 0 && this.#level === 'all' ? 'low' : this.#level;
    const rids = layers.map(({ rid }) => rid);
    const active = isVideo ? activeLayers(rids, this.#wanted.get(trackId) ?? {}, level) : [!isMuted];
    if (active.join() === opened.active) return;
    opened.active = active.join();
    this.#worker?.postMessage({ type: 'active', source, active });
  }

  // --- the face of Transports -----------------------------------------------------------------------------------------
  /** What of a Subscriber is asked for: what is received, and statistics that say what was decoded. @returns {any} */
  get subscriber() {
    const all = [...this.#remote].flatMap(([stream, { received, player }]) => (received ? [{ stream, received, player }] : []));
    const entries = all.map(({ stream, received, player }) => {
      const { kind } = received.info;
      return [`${stream}`, { id: `${stream}`, type: 'inbound-rtp', kind, mid: received.transceiver.mid, ...counted(player) }];
    });
    return {
      transportId: '',
      received: new Map(all.map((one) => [one.received.info.trackId, one.received])),
      connection: { connectionState: this.#states.subscribe, getStats: async () => new Map(/** @type {any} */ (entries)) },
    };
  }

  /** Connection states by direction; with nothing to publish that way is as good as up. */
  get state() {
    const { publish, subscribe } = this.#states;
    return { publish: this.#opened.size || publish === 'failed' ? publish : subscribe, subscribe };
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

  /** @param {number} limit 0 for everything */
  limit(limit) {
    this.#limit = limit;
  }

  /** The session is joined: only now the gateway takes tracks. */
  setEpoch() {
    if (!this.tunnel || this.tunnel.isClosed) return;
    this.#isJoined = true;
    for (const source of this.#local.keys()) this.#send(source);
  }

  /** The queue's age tells of the link; there are no statistics of connections. @returns {{publish: null, subscribe: null}} */
  forMeter() {
    return { publish: null, subscribe: null };
  }

  /** @returns {{publish: null, subscribe: null}} */
  forStats() {
    return { publish: null, subscribe: null };
  }

  // The gateway negotiates, looks for ways and sends again.
  open() {}
  offered() {}
  answered() {}
  candidate() {}
  resend() {}
  restart() {}
  reset() {}

  /** For good. */
  close() {
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#forget();
    for (const source of [...this.#captured.keys()]) this.#release(source);
    closeAudio();
    this.#worker?.terminate();
    this.#worker = null;
    this.tunnel?.close();
    this.tunnel = null;
  }
}

/** 0 to 1. @param {AudioPlayer | VideoPlayer} player */
function levelOf(player) {
  return player.level >= 127 ? 0 : 10 ** (-player.level / 20);
}

/** By the names of webrtc-stats. @param {AudioPlayer | VideoPlayer} player */
function counted(player) {
  if (player instanceof VideoPlayer) return { framesDecoded: player.decoded };
  const { dry, dropped, concealed } = player;
  const level = levelOf(player);
  return { concealmentEvents: dry, concealedSamples: concealed, removedSamplesForAcceleration: dropped, audioLevel: level };
}

/** As of a Subscriber, so that nobody who plays it needs to know. @param {Remote} remote @param {number} stream @returns {Received} */
function received({ info, player }, stream) {
  const getSynchronizationSources = () =>
    player.decodedAt > -Infinity
      ? [{ timestamp: player.decodedAt, source: stream, rtpTimestamp: 0, audioLevel: levelOf(player) }]
      : [];
  const transceiver = { mid: `tunnel-${stream}`, receiver: { track: player.media, getSynchronizationSources } };
  return /** @type {any} */ ({ info, media: player.media, transceiver });
}

/** What the gateway says. @type {Record<string, (media: TunnelMedia, message: any) => void>} */
const CONTROLS = {
  TrackOpened: (media, message) => media.trackOpened(message),
  TrackClosed: (media, { stream }) => media.trackClosed(stream),
  KeyFrame: (media, { stream }) => media.keyFrame(stream),
  Clock: (media, message) => media.clock(message),
  MediaState: (media, message) => media.mediaState(message),
};
