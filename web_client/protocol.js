/**
 * The protocol of Parley for browsers and other JavaScript runtimes: REST, sign-in, signaling, media, reconnection.
 *
 * No DOM is used: WebSocket, fetch and RTCPeerConnection come from globalThis or from `env`. Start with `Api` and `Call`;
 * see README.md in this folder for an example. Everything is an ES module, there is no build step.
 */

export { Api, Problem } from './protocol/api.js';
export { Backoff } from './protocol/backoff.js';
export { Call } from './protocol/call.js';
export { Emitter } from './protocol/events.js';
export { Room } from './protocol/room.js';
export { SignIn, claimsOf } from './protocol/signin.js';
export { Signaling } from './protocol/signaling.js';
export { StatsReporter } from './protocol/stats.js';
export { JoinTrace } from './protocol/trace.js';
export { Transports } from './protocol/transports.js';
export { MAX_CHAT, SFU, decode, encode, randomId } from './protocol/wire.js';
