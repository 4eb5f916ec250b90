/**
 * The signaling wire: the envelope `{type, id?, replyTo?, seq?, payload, traceparent?}` and close codes.
 *
 * The shapes of the payloads are in messages.d.ts. Unknown server messages are handed on as they
 * are, so that an older client survives a newer server. No DOM, no network here.
 */

/** @typedef {import('./messages.d.ts').Envelope} Envelope */

/** `targetUserId` and `sourceUserId` of the SFU. */
export const SFU = 'sfu';
export const SUBPROTOCOL = 'parley.v1';
/** Characters of one chat message. */
export const MAX_CHAT = 4000;

/**
 * Of every connection. Also to be given whole to `setConfiguration`: what is left out there is taken for a change to the
 * default, and no connection may change its bundle policy.
 * @param {RTCIceServer[]} iceServers @returns {RTCConfiguration}
 */
export const configurationOf = (iceServers) => ({ iceServers, bundlePolicy: 'max-bundle' });

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
