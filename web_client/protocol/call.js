/**
 * A call: joins a meeting by REST and signaling, keeps the room's state, moves media and comes back after losses.
 *
 * Usage: `const call = new Call({api, meetingId, userId, displayName}); call.on(...); await call.join({password})`, then
 * `setTrack`, `update`, `sendChat` ... and `leave`. The law of reconnection: a lost socket is resumed; a lost session
 * is joined again with a new token; media goes on meanwhile, and what a person typed or switched is sent afterwards.
 *
 * Events: `state` (CallState), `room` (the room changed), `speakers`, `track` and `untrack` (Received), `chat`
 * (ChatMessage with `isPending`), `moderated` ({action, userId, byUserId, role}), `consent` (ConsentNeeded[]), `error`
 * ({code, message}), `media` ({publish, subscribe}), `adapted` (Congestion's change), `ended` ({code}).
 */

import { Problem } from './api.js';
import { Backoff } from './backoff.js';
import { HANDLERS } from './call_messages.js';
import { Congestion } from './congestion.js';
import { Emitter } from './events.js';
import { FirstFrame } from './first_frame.js';
import { Ladder } from './ladder.js';
import { Mesh } from './mesh.js';
import { MeshMeter } from './mesh_meter.js';
import { ReceivePlan } from './receive.js';
import { Room } from './room.js';
import { Signaling } from './signaling.js';
import { StatsReporter } from './stats.js';
import { SwitchedMedia } from './switched_media.js';
import { Topology } from './topology.js';
import { JoinTrace } from './trace.js';
import { Transports } from './transports.js';
import { randomId } from './wire.js';

const STATS_MS = 10_000;
/** The room is told again when it has oneself wrong for so long, and no more often than this. */
const CORRECT_MS = 400;
/** Refusals of a join that a new token may cure; all others end the call. */
const TRY_AGAIN = new Set(['network', 'rate-limited', 'unavailable', 'sfu-unavailable']);
/** A token that was refused so often in a row is not tried again. */
const MAX_REFUSALS = 3;
/** A first join that finds no signaling server so often in a row is given up, unless another way is being looked for. */
const MAX_ENTRIES = 5;
/** Opening messages carry the trace of the join. */
const TRACED = new Set(['SendOffer', 'SendAnswer', 'SendIceCandidate']);

/**
 * @typedef {'idle' | 'joining' | 'connected' | 'reconnecting' | 'ended'} CallState
 * @typedef {import('./messages.d.ts').Source} Source
 * @typedef {import('./messages.d.ts').ChatMessage & {isPending?: boolean}} Chat
 * @typedef {{isMuted: boolean, isVideoOn: boolean, isSharing: boolean, isHandRaised: boolean}} OwnState
 * @typedef {object} CallEnv what a test or another runtime may replace
 * @property {import('./messages.d.ts').SocketClass} [WebSocket]
 * @property {import('./messages.d.ts').ConnectionClass} [RTCPeerConnection]
 * @property {() => number} [random]
 * @property {() => number} [now] milliseconds
 * @property {import('./ladder.js').LadderOptions} [ladder] takes the HTTP tunnel where WebRTC does not get through
 */

export class Call extends Emitter {
  /** @type {CallState} */
  state = 'idle';
  userId = '';
  participantId = '';
  /** @type {import('./messages.d.ts').Role} */
  role = 'attendee';
  room = new Room();
  /** What the others are told about oneself. @type {OwnState} */
  own = { isMuted: true, isVideoOn: false, isSharing: false, isHandRaised: false };
  /** Chat as it was received; own messages are pending until they come back. @type {Chat[]} */
  chat = [];
  #refusals = 0;
  #entries = 0;
  #rejoining = false;
  #stats = new StatsReporter();
  #backoff;
  /** @type {{password?: string, consentToken?: string}} */
  #admission = {};
  /** @type {{resolve: () => void, reject: (reason: Problem) => void} | null} */
  #joining = null;
  /** @type {ReturnType<typeof setInterval> | undefined} */
  #statsTimer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #retryTimer;
  /** Ends the waiting for the next try. @type {(() => void) | undefined} */
  #hurry;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #correction;
  /** @type {import('./trace.js').Span | null} */
  #joinSpan = null;

  /**
   * @param {object} options
   * @param {import('./api.js').Api} options.api
   * @param {string} options.meetingId
   * @param {string} options.userId the caller's user id
   * @param {string} options.displayName at most 64 characters
   * @param {string} [options.signalingUrl] used where the join answer names none
   * @param {CallEnv} [options.env]
   */
  constructor({ api, meetingId, userId, displayName, signalingUrl = '', env = {} }) {
    super();
    this.api = api;
    this.meetingId = meetingId;
    this.userId = userId;
    this.displayName = displayName.slice(0, 64);
    this.signalingUrl = signalingUrl;
    this.trace = new JoinTrace();
    this.#backoff = new Backoff({ random: env.random });
    this.signaling = new Signaling(env);
    const send = (/** @type {string} */ type, /** @type {object} */ payload) => this.#send(type, payload);
    const direct = new Transports({ send, ...env });
    const switched = env.ladder ? new SwitchedMedia(direct) : null;
    this.transports = switched ?? direct;
    this.mesh = new Mesh({ send, epoch: () => this.epoch, local: () => this.transports.local, ...env });
    this.topology = new Topology({ transports: this.transports, mesh: this.mesh, send });
    this.meter = new MeshMeter({ topology: this.topology, send, hear: (type, payload) => this.#received({ type, payload }) });
    this.receive = new ReceivePlan((payload) => this.signaling.send('SetReceive', payload));
    const { transports, receive } = this;
    this.congestion = new Congestion({ transports, receive, tell: (isVideoOn) => this.#tell({ isVideoOn }), now: env.now });
    this.firstFrame = new FirstFrame(this.topology, this.trace, (report) => this.#reportTrace(report));
    this.#listen();
    this.ladder = env.ladder && switched ? new Ladder({ ...env.ladder, call: this, media: switched }) : null;
  }

  // --- joining --------------------------------------------------------------------------------------------------------
  /**
   * Joins. Throws Problem where the API or signaling refuses.
   * @param {{password?: string, consentToken?: string}} [admission]
   * @returns {Promise<void>}
   */
  async join(admission = {}) {
    this.#admission = admission;
    this.#setState('joining');
    try {
      await this.ladder?.begin();
      await this.#enter();
      await new Promise((resolve, reject) => {
        this.#joining = { resolve: () => resolve(undefined), reject };
      });
    } catch (error) {
      if (this.state === 'joining') this.#setState('idle');
      throw error;
    }
  }

  /** A token from REST, then JoinRoom on signaling. */
  async #enter() {
    const rest = this.trace.start('rest.join');
    const { traceparent } = rest;
    const grant = await this.api.join(this.meetingId, { userId: this.userId, ...this.#admission }, { traceparent });
    rest.end();
    delete this.#admission.consentToken; // it was for this join; the store knows the decision from now on
    this.role = grant.role ?? this.role;
    this.setIceServers(grant.iceServers ?? []);
    this.#joinSpan = this.trace.start('signaling.join');
    const isDirect = this.ladder?.way !== 'tunnel';
    const payload = {
      roomId: this.meetingId,
      token: grant.signalingToken ?? grant.token,
      displayName: this.displayName,
      capabilities: { simulcast: true, dataChannel: isDirect, mesh: isDirect },
    };
    this.signaling.join(grant.signalingUrl || this.signalingUrl, payload, this.#joinSpan.traceparent);
  }

  #listen() {
    const { signaling, transports, mesh, topology } = this;
    signaling.on('message', (message) => this.#received(message));
    signaling.on('joined', (joined) => this.#joined(joined));
    signaling.on('resumed', (resumed) => this.#resumed(resumed));
    signaling.on('refused', (error) => this.#refused(error));
    signaling.on('lost', ({ reason }) => this.#lost(reason));
    signaling.on('closed', ({ code }) => this.#end(code));
    signaling.on('state', (state) => {
      if (state === 'reconnecting' && this.state === 'connected') this.#setState('reconnecting');
    });
    topology.on('track', (received) => {
      this.room.received(received.info); // TrackPublished may come after the offer, or not at all
      this.emit('track', received);
    });
    topology.on('untrack', (received) => {
      if (topology.side === 'mesh') this.room.forget(received.info.trackId);
      this.emit('untrack', received);
      if (topology.side === 'mesh') this.#roomChanged();
    });
    for (const media of [transports, mesh]) {
      media.on('error', (error) => this.emit('error', { code: 'media', message: String(error?.message ?? error) }));
      media.on('state', () => this.emit('media', topology.state));
    }
    this.congestion.on('change', (change) => this.emit('adapted', change));
    transports.on('failed', ({ direction }) => {
      // The SFU offers on subscribe, so only a new session can bring a failed one back.
      const isNeeded = direction === 'subscribe' && topology.side === 'sfu';
      if (isNeeded && this.signaling.state === 'connected') this.#lost('media-failed');
    });
  }

  /** @param {import('./messages.d.ts').RoomJoined} joined */
  #joined(joined) {
    this.#joinSpan?.end();
    this.#refusals = 0;
    this.#backoff.reset();
    this.userId = joined.userId;
    this.participantId = joined.participantId;
    this.role = joined.role ?? this.role;
    this.room.reset(joined.snapshot);
    this.topology.joined(joined, [...this.room.people.keys()].filter((userId) => userId !== this.userId));
    this.transports.setEpoch(joined.epoch);
    this.meter.start();
    if (this.role === 'viewer') this.#watchOnly();
    this.#statsTimer ??= setInterval(() => this.#report(), STATS_MS);
    this.firstFrame.watch();
    this.congestion.start();
    this.#online();
    this.#joining?.resolve();
    this.#joining = null;
  }

  /** A viewer sends nothing, whatever was prepared. */
  #watchOnly() {
    this.congestion.want(false);
    Object.assign(this.own, { isMuted: true, isVideoOn: false, isSharing: false });
    for (const source of /** @type {const} */ (['microphone', 'camera', 'screen', 'screenAudio'])) {
      this.setTrack(source, null);
    }
  }

  /** @param {import('./messages.d.ts').Resumed} resumed */
  #resumed(resumed) {
    this.switched({ to: resumed.topology, epoch: resumed.epoch });
    if (resumed.snapshot) this.room.reset(resumed.snapshot);
    for (const { info } of this.topology.received.values()) this.room.received(info);
    this.transports.resend();
    this.mesh.resend();
    this.topology.repeat();
    this.#online();
  }

  /** The connection is up: say again what the server may have missed. */
  #online() {
    this.#setState('connected');
    this.#own();
    this.#send('UpdateState', this.own);
    for (const { messageId, text } of this.chat.filter((message) => message.isPending)) {
      this.#send('SendMessage', { messageId, text });
    }
    this.receive.repeat();
    this.room.pauses.clear(); // what is kept back now is told anew
    this.#roomChanged();
  }

  /** Oneself as the room has it, also where the snapshot lists the others only. */
  #own() {
    const { userId, participantId, displayName, role } = this;
    if (!this.room.people.has(userId)) {
      this.room.apply('ParticipantJoined', { userId, participantId, displayName, role, joinedAt: '' });
    }
    const me = this.room.people.get(userId);
    if (me) this.room.change(me, this.own);
  }

  /** JoinRoom or Resume was answered by an Error. @param {{code: string, message: string, retryable?: boolean}} error */
  #refused({ code, message, retryable }) {
    if (!this.#joining || retryable) return;
    this.#joining.reject(new Problem(code, message));
    this.#joining = null;
    this.signaling.leave();
  }

  /** Joins again, by another way. @param {string} reason */
  rejoin(reason) {
    this.#entries = 0;
    this.#backoff.reset();
    if (this.#rejoining) this.#hurry?.(); // it waits for its next try
    else this.#lost(reason);
  }

  /** The session is gone: join again, as often as it takes. @param {string} reason */
  async #lost(reason) {
    if (this.state === 'ended' || this.#rejoining) return;
    if (reason === 'token-refused' && (this.#refusals += 1) > MAX_REFUSALS) {
      this.#end('token-refused');
      return;
    }
    if (this.#joining && (this.#entries += 1) >= MAX_ENTRIES && !this.ladder?.mayHelp) {
      this.#end('network');
      return;
    }
    if (this.state === 'connected') this.#setState('reconnecting');
    this.#rejoining = true;
    await new Promise((resolve) => {
      this.#hurry = () => resolve(undefined);
      this.#retryTimer = setTimeout(resolve, this.#backoff.next());
    });
    clearTimeout(this.#retryTimer);
    this.#rejoining = false;
    if (/** @type {CallState} */ (this.state) === 'ended') return;
    try {
      await this.#enter();
    } catch (error) {
      const problem = error instanceof Problem ? error : new Problem('network', String(error));
      if (problem.isRetryable || TRY_AGAIN.has(problem.code)) this.#lost(problem.code);
      else this.#end(problem.code, problem.detail);
    }
  }

  // --- messages -------------------------------------------------------------------------------------------------------
  /** @param {import('./wire.js').Envelope} message */
  #received({ type, payload }) {
    if (type === 'TrackUnpublished' && this.topology.holds(payload.trackId)) return; // it ended on the SFU only
    const changed = this.room.apply(type, payload);
    if (type === 'StateChanged' && payload.userId === this.userId) this.#correct();
    HANDLERS[type]?.(this, payload);
    if (type === 'ActiveSpeakers') this.emit('speakers', payload.speakers);
    else if (changed) this.#roomChanged();
  }

  /**
   * A take-over may reset one's state after the new connection has told it. Only a mute is never taken back here: it may
   * be the host's.
   */
  #correct() {
    this.#correction ??= setTimeout(() => {
      this.#correction = undefined;
      const me = this.room.people.get(this.userId);
      const { isMuted, isVideoOn, isSharing, isHandRaised } = this.own;
      if (!me || this.state === 'ended') return;
      const isWrong = me.isVideoOn !== isVideoOn || me.isSharing !== isSharing || me.isHandRaised !== isHandRaised;
      if (!isWrong && !(isMuted && !me.isMuted)) return;
      this.update({ isVideoOn, isSharing, isHandRaised, ...(isMuted ? { isMuted } : {}) });
    }, CORRECT_MS);
  }

  #roomChanged() {
    const me = this.room.people.get(this.userId);
    if (me) this.role = me.role;
    this.topology.know(this.room.people);
    this.receive.retain(this.room.tracks);
    this.emit('room', this.room);
  }

  /** Of the room's topology. */
  get epoch() {
    return this.topology.epoch;
  }

  /** The room changes between mesh and SFU. @param {{to: string, epoch: number}} news */
  switched({ to, epoch }) {
    if (epoch >= this.epoch) this.transports.setEpoch(epoch);
    this.topology.switched({ to: to === 'mesh' ? 'mesh' : 'sfu', epoch });
  }

  /** They serve the next connections and ICE restarts. @param {RTCIceServer[]} iceServers */
  setIceServers(iceServers) {
    this.transports.setIceServers(iceServers);
    this.mesh.setIceServers(iceServers);
  }

  /** A chat message arrived, own ones included. @param {Chat} message */
  received(message) {
    const index = this.chat.findIndex(({ messageId }) => messageId === message.messageId);
    if (index < 0) this.chat.push(message);
    else this.chat[index] = message;
    this.emit('chat', message);
  }

  /** @param {string} type @param {object} payload @param {object} [extra] */
  #send(type, payload, extra = {}) {
    const traced = TRACED.has(type) && !this.trace.reported && this.#joinSpan;
    return this.signaling.send(type, payload, traced ? { traceparent: traced.traceparent, ...extra } : extra);
  }

  /** @param {{spans: object[]}} report */
  #reportTrace(report) {
    this.signaling.send('ReportTrace', report, { traceparent: this.trace.root.traceparent });
  }

  // --- what a person does ---------------------------------------------------------------------------------------------
  /** Publishes or pauses a source (`null`). @param {Source} source @param {MediaStreamTrack | null} track */
  async setTrack(source, track) {
    await this.transports.setTrack(source, track);
    const local = this.transports.local.get(source);
    if (local) await this.mesh.setTrack(source, local);
  }

  /**
   * Tells the others. Video that the network keeps back is told when it goes out again.
   * @param {Partial<OwnState>} change
   */
  update(change) {
    const { isVideoOn } = change;
    this.#tell(isVideoOn === undefined ? change : { ...change, isVideoOn: this.congestion.want(isVideoOn) });
  }

  /** @param {Partial<OwnState>} change */
  #tell(change) {
    Object.assign(this.own, change);
    const me = this.room.people.get(this.userId);
    if (me) this.room.change(me, change);
    this.#send('UpdateState', change);
    this.emit('room', this.room);
  }

  /** Sends a chat message, now or when the connection is back. @param {string} text @returns {Chat} */
  sendChat(text) {
    const sentAt = new Date().toISOString();
    const message = { messageId: randomId(), userId: this.userId, displayName: this.displayName, text, sentAt };
    this.received({ ...message, isPending: true });
    this.#send('SendMessage', { messageId: message.messageId, text });
    return message;
  }

  /**
   * Host only. @param {'mute' | 'remove' | 'role'} action @param {string} targetUserId
   * @param {import('./messages.d.ts').Role} [role]
   */
  moderate(action, targetUserId, role) {
    return this.#send('Moderate', { action, targetUserId, ...(role ? { role } : {}) }, { id: randomId() });
  }

  /** Ends the meeting for everybody. */
  async end() {
    await this.api.endMeeting(this.meetingId);
    this.#end('room-ended');
  }

  /** Leaves this call; the meeting goes on. */
  leave() {
    if (this.state === 'ended') return;
    this.#report(true);
    this.signaling.leave();
    this.#end('left');
  }

  /** The network changed: do not wait for time-outs. */
  networkChanged() {
    this.ladder?.networkChanged();
    this.signaling.hurry();
    if (this.topology.side === 'mesh') this.mesh.restart();
    else this.transports.restart();
  }

  /** @param {boolean} [isLast] */
  async #report(isLast = false) {
    const report = await this.#stats.report(this.transports.forStats(), isLast).catch(() => null);
    if (!report) return;
    const channel = this.transports.publisher?.channel;
    if (channel?.readyState === 'open') channel.send(JSON.stringify({ type: 'stats', report }));
    else this.#send('Stats', { report });
  }

  // --- ending ---------------------------------------------------------------------------------------------------------
  /** @param {string} code @param {string} [message] */
  #end(code, message = '') {
    if (this.#joining) {
      this.#joining.reject(new Problem(code, message));
      this.#joining = null;
    }
    if (this.state === 'ended') return;
    this.#setState('ended'); // first: closing below comes back here
    clearInterval(this.#statsTimer);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#correction);
    this.firstFrame.close();
    this.meter.close();
    this.topology.close();
    this.congestion.close();
    this.receive.close();
    this.signaling.leave();
    this.transports.close();
    this.emit('ended', { code, message });
  }

  /** @param {CallState} state */
  #setState(state) {
    if (this.state === state) return;
    this.state = state;
    this.emit('state', state);
  }
}
