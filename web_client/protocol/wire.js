/**
 * The signaling wire: message shapes, the envelope `{type, id?, replyTo?, seq?, payload, traceparent?}` and close codes.
 *
 * The shapes are those of the server's message table (docs/asyncapi.json). Unknown server messages are handed on as they
 * are, so that an older client survives a newer server. No DOM, no network here.
 */

/**
 * @typedef {'microphone' | 'camera' | 'screen' | 'screenAudio'} Source
 * @typedef {'host' | 'attendee' | 'viewer'} Role
 * @typedef {'excellent' | 'good' | 'poor' | 'lost'} Quality
 * @typedef {'recording' | 'ai' | 'recording_ai'} ConsentType
 *
 * @typedef {object} TrackInfo
 * @property {string} trackId
 * @property {'audio' | 'video'} kind
 * @property {Source} source
 * @property {string} [mid] the m-section that carries it, in the SDP beside it
 * @property {string} [participantId]
 * @property {string} [userId]
 *
 * @typedef {object} ParticipantInfo
 * @property {string} userId
 * @property {string} participantId
 * @property {string} displayName
 * @property {Role} role
 * @property {string} joinedAt
 * @property {boolean} [isMuted]
 * @property {boolean} [isVideoOn]
 * @property {boolean} [isSharing]
 * @property {boolean} [isHandRaised]
 *
 * @typedef {object} Snapshot
 * @property {string} roomId
 * @property {ParticipantInfo[]} participants
 * @property {TrackInfo[]} tracks
 * @property {boolean} [isRecording]
 * @property {string[]} [grants]
 *
 * @typedef {object} RoomJoined
 * @property {string} participantId
 * @property {string} userId
 * @property {Snapshot} snapshot
 * @property {string} resumeSecret
 * @property {string} topology
 * @property {number} epoch
 * @property {string} generation
 * @property {number} seq
 * @property {Role} [role]
 * @property {number} [pingIntervalMs]
 * @property {number} [resumeWindowMs]
 *
 * @typedef {object} Resumed
 * @property {string} participantId
 * @property {string} resumeSecret
 * @property {string} generation
 * @property {number} seq
 * @property {string} topology
 * @property {number} epoch
 * @property {Snapshot} [snapshot]
 *
 * @typedef {object} SessionDescription ReceiveOffer and ReceiveAnswer
 * @property {string} sourceUserId
 * @property {string} transportId
 * @property {number} negotiationId
 * @property {string} sdp
 * @property {TrackInfo[]} [tracks]
 * @property {number} [epoch]
 *
 * @typedef {object} SfuEndpoint
 * @property {string} ip
 * @property {number} port
 * @property {string} transportId
 * @property {string} nodeId
 * @property {'publish' | 'subscribe'} direction
 *
 * @typedef {object} ReceiveTrack
 * @property {string} trackId
 * @property {number} width CSS pixels times device pixel ratio
 * @property {number} height
 * @property {boolean} visible
 * @property {boolean} pinned
 *
 * @typedef {object} ConsentNeeded
 * @property {ConsentType} type
 * @property {string} text
 * @property {string} version
 *
 * @typedef {object} ChatMessage
 * @property {string} messageId
 * @property {string} userId
 * @property {string} displayName
 * @property {string} text
 * @property {string} sentAt
 *
 * @typedef {object} Envelope
 * @property {string} type
 * @property {any} payload
 * @property {string} [id]
 * @property {string} [replyTo]
 * @property {number} [seq]
 * @property {string} [traceparent]
 */

/**
 * What a test or another runtime may put in place of the browser's.
 * @typedef {typeof globalThis.fetch} Fetch
 * @typedef {typeof globalThis.WebSocket} SocketClass
 * @typedef {typeof globalThis.RTCPeerConnection} ConnectionClass
 */

/** `targetUserId` and `sourceUserId` of the SFU. */
export const SFU = 'sfu';
export const SUBPROTOCOL = 'parley.v1';
/** Characters of one chat message. */
export const MAX_CHAT = 4000;

/** Close codes that end the call, with the slug the page explains. */
export const FINAL_CLOSE = new Map([
  [4403, 'removed'],
  [4409, 'duplicate'],
  [4410, 'room-ended'],
]);
/** The token or the resume secret is refused: a new token from REST may help. */
export const CLOSE_TOKEN_REFUSED = 4401;
export const CLOSE_TOO_MANY = 4429;
export const CLOSE_TRY_AGAIN = 1013;

/**
 * @param {string} type
 * @param {object} payload
 * @param {{id?: string, traceparent?: string}} [extra]
 * @returns {string}
 */
export function encode(type, payload, extra = {}) {
  return JSON.stringify({ type, payload, ...extra });
}

/**
 * The message in `text`, or null where it is not one (a server never sends that; a proxy's error page might).
 * @param {unknown} text
 * @returns {Envelope | null}
 */
export function decode(text) {
  if (typeof text !== 'string') return null;
  try {
    const message = JSON.parse(text);
    if (typeof message?.type !== 'string') return null;
    return { ...message, payload: message.payload ?? {} };
  } catch {
    return null;
  }
}

/** A random id for messages and tracks, 32 hexadecimal characters. @returns {string} */
export function randomId() {
  return randomHex(16);
}

/** @param {number} bytes @returns {string} */
export function randomHex(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, '0')).join('');
}

/** A candidate as the wire carries it; null is the end of candidates. @param {RTCIceCandidate | null} candidate */
export function candidateOf(candidate) {
  if (!candidate) return null;
  const { sdpMid, sdpMLineIndex, usernameFragment } = candidate;
  return { candidate: candidate.candidate, sdpMid, sdpMLineIndex, usernameFragment };
}
