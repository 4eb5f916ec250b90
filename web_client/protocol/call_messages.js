/** What the server's messages do to a call, beside changing its room. */

import { SFU } from './wire.js';

/** Who it is from. @param {import('./call.js').Call} call @param {{sourceUserId: string}} payload */
function mediaOf(call, { sourceUserId }) {
  return sourceUserId === SFU ? call.transports : call.mesh;
}

/** What a message does beside changing the room. @type {Record<string, (call: import('./call.js').Call, payload: any) => void>} */
export const HANDLERS = {
  SfuEndpoint: (call, endpoint) => {
    // A new transport keeps nothing back yet.
    const { subscriber } = call.transports;
    if (endpoint.direction === 'subscribe' && endpoint.transportId !== subscriber?.transportId) call.room.pauses.clear();
    call.transports.open(endpoint, call.epoch);
  },
  ReceiveOffer: (call, offer) => mediaOf(call, offer).offered(offer),
  ReceiveAnswer: (call, answer) => mediaOf(call, answer).answered(answer),
  IceCandidate: (call, payload) => mediaOf(call, payload).candidate(payload),
  IceServers: (call, { iceServers }) => call.setIceServers(iceServers),
  SwitchTopology: (call, news) => call.switched(news),
  PeerReady: (call, news) => call.topology.peerReady(news),
  SetSend: (call, { trackId, layers }) => call.transports.publisher?.setLayers(trackId, layers),
  MessageReceived: (call, message) => call.received(message),
  ConsentRequested: (call, { consentRequired }) => call.emit('consent', consentRequired),
  Moderated: (call, payload) => {
    if (payload.action === 'mute' && payload.userId === call.userId) call.own.isMuted = true;
    call.emit('moderated', payload);
  },
  Error: (call, error) => call.emit('error', error),
};
