/**
 * Shapes of the signaling messages, camelCase as on the wire; docs/asyncapi.json is their source. Types only: this file
 * is read by the type check, never by a browser.
 */

export type Source = 'microphone' | 'camera' | 'screen' | 'screenAudio';
export type Role = 'host' | 'attendee' | 'viewer';
export type Quality = 'excellent' | 'good' | 'poor' | 'lost';
export type ConsentType = 'recording' | 'ai' | 'recording_ai';

/** What a test or another runtime may put in place of the browser's. */
export type Fetch = typeof globalThis.fetch;
export type SocketClass = typeof globalThis.WebSocket;
export type ConnectionClass = typeof globalThis.RTCPeerConnection;

export interface Envelope {
  type: string;
  payload: any;
  id?: string;
  replyTo?: string;
  seq?: number;
  traceparent?: string;
}

export interface TrackInfo {
  trackId: string;
  kind: 'audio' | 'video';
  source: Source;
  /** The m-section that carries it, in the SDP beside it. */
  mid?: string;
  participantId?: string;
  userId?: string;
}

export interface ParticipantInfo {
  userId: string;
  participantId: string;
  displayName: string;
  role: Role;
  joinedAt: string;
  isMuted?: boolean;
  isVideoOn?: boolean;
  isSharing?: boolean;
  isHandRaised?: boolean;
}

export interface Snapshot {
  roomId: string;
  participants: ParticipantInfo[];
  tracks: TrackInfo[];
  isRecording?: boolean;
  grants?: string[];
}

export interface RoomJoined {
  participantId: string;
  userId: string;
  snapshot: Snapshot;
  resumeSecret: string;
  topology: string;
  epoch: number;
  generation: string;
  seq: number;
  role?: Role;
  pingIntervalMs?: number;
  resumeWindowMs?: number;
}

export interface Resumed {
  participantId: string;
  resumeSecret: string;
  generation: string;
  seq: number;
  topology: string;
  epoch: number;
  snapshot?: Snapshot;
}

/** ReceiveOffer and ReceiveAnswer. */
export interface SessionDescription {
  sourceUserId: string;
  transportId: string;
  negotiationId: number;
  sdp: string;
  tracks?: TrackInfo[];
  epoch?: number;
}

/** Make before break: see topology.js. */
export interface SwitchTopology {
  to: 'mesh' | 'sfu';
  epoch: number;
  deadlineMs: number;
  reason: string;
}

/** What somebody said by TopologyReady. */
export interface PeerReady {
  userId: string;
  epoch: number;
  peers: string[];
}

/** A peer-to-peer link as one end sees it: lost fraction of what comes, round trip in milliseconds. */
export interface PeerLinkReport {
  userId: string;
  loss: number;
  rtt: number;
}

export interface SfuEndpoint {
  ip: string;
  port: number;
  transportId: string;
  nodeId: string;
  direction: 'publish' | 'subscribe';
}

/** How a track is shown: CSS pixels times device pixel ratio. */
export interface ReceiveTrack {
  trackId: string;
  width: number;
  height: number;
  visible: boolean;
  pinned: boolean;
}

/** Why a track does not come: it is not shown, beyond the last N videos, too much for the network, not decoded here. */
export type PauseReason = 'none' | 'hidden' | 'last-n' | 'bandwidth' | 'unsupported';

export interface ReceivedTrack {
  trackId: string;
  paused: PauseReason;
}

/** To this client only: what has changed. `none` at first, and after each join and resume. */
export interface ReceiveChanged {
  tracks: ReceivedTrack[];
}

export interface ConsentNeeded {
  type: ConsentType;
  text: string;
  version: string;
}

export interface ChatMessage {
  messageId: string;
  userId: string;
  displayName: string;
  text: string;
  sentAt: string;
}
