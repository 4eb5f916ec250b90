/**
 * A stand-in for signaling and SFU inside the page, with real peer connections: what is published comes back as the
 * tracks of a second person. It proves the client's negotiation (publish, subscribe, simulcast, share, DataChannel)
 * against the browser's own WebRTC stack.
 *
 * `globalThis.loopback` records the messages of the client and offers `drop`, `move` and `restart`.
 */

import { fakeSocket, person } from './fixtures.js';

class FakeSfu {
  /** @type {any} */
  socket = null;
  negotiationId = 0;
  generation = 0;
  /** @type {Map<string, any>} trackId -> {info, track} */
  tracks = new Map();
  /** @type {any[]} */
  messages = [];

  /** New endpoints, as after a join or a move to another node. */
  open() {
    this.generation += 1;
    this.tracks.clear();
    this.publish = new RTCPeerConnection();
    this.subscribe = new RTCPeerConnection();
    this.sent = new Map();
    this.channel = this.publish.createDataChannel('parley', { negotiated: true, id: 0 });
    this.channel.onmessage = ({ data }) => this.messages.push({ type: 'DataChannel', payload: JSON.parse(data) });
    for (const direction of ['publish', 'subscribe']) {
      const connection = this[direction];
      const transportId = `${direction}-${this.generation}`;
      connection.onicecandidate = ({ candidate }) =>
        this.socket.push('IceCandidate', { sourceUserId: 'sfu', transportId, candidate: candidate?.toJSON() ?? null });
      this.socket.push('SfuEndpoint', { ip: '127.0.0.1', port: 1, transportId, nodeId: 'n', direction });
    }
  }

  /** @param {any} message @param {any} socket */
  async received(message, socket) {
    this.socket = socket;
    this.messages.push(message);
    const { type, payload } = message;
    if (type === 'JoinRoom') this.open();
    if (type === 'SendOffer') await this.answer(payload);
    if (type === 'SendAnswer' && this.subscribe.signalingState === 'have-local-offer')
      await this.subscribe.setRemoteDescription({ type: 'answer', sdp: payload.sdp });
    if (type === 'SendIceCandidate' && payload.candidate) {
      const connection = payload.transportId.startsWith('publish') ? this.publish : this.subscribe;
      await connection.addIceCandidate(payload.candidate).catch(() => {});
    }
    if (type === 'UpdateState') socket.push('StateChanged', { userId: 'user-2', ...payload }, true);
  }

  /** @param {any} offer */
  async answer({ transportId, negotiationId, sdp, tracks }) {
    if (transportId !== `publish-${this.generation}`) return;
    await this.publish.setRemoteDescription({ type: 'offer', sdp });
    const answer = await this.publish.createAnswer();
    await this.publish.setLocalDescription(answer);
    this.socket.push('ReceiveAnswer', {
      sourceUserId: 'sfu',
      transportId,
      negotiationId,
      sdp: withSimulcast(answer.sdp, sdp),
    });
    const wanted = new Set(tracks.map((/** @type {any} */ { trackId }) => trackId));
    for (const info of tracks) {
      if (this.tracks.has(info.trackId)) continue;
      const transceiver = this.publish.getTransceivers().find(({ mid }) => mid === info.mid);
      this.tracks.set(info.trackId, { info, track: transceiver?.receiver.track });
      const track = {
        trackId: info.trackId,
        kind: info.kind,
        source: info.source,
        userId: 'user-2',
        participantId: 'participant-2',
      };
      this.socket.push('TrackPublished', { track }, true);
    }
    for (const trackId of [...this.tracks.keys()].filter((id) => !wanted.has(id))) {
      this.tracks.delete(trackId);
      this.socket.push('TrackUnpublished', { trackId, userId: 'user-2', participantId: 'participant-2' }, true);
    }
    await this.offer();
  }

  /** Offers what is published now; a freed m-section is used again. */
  async offer() {
    if (this.subscribe.signalingState !== 'stable') {
      this.subscribe.addEventListener('signalingstatechange', () => this.offer(), { once: true });
      return;
    }
    for (const [trackId, transceiver] of this.sent) {
      if (this.tracks.has(trackId)) continue;
      this.sent.delete(trackId);
      transceiver.direction = 'inactive';
      await transceiver.sender.replaceTrack(null);
    }
    for (const [trackId, { track }] of this.tracks) {
      if (this.sent.has(trackId)) continue;
      const used = new Set(this.sent.values());
      const free = this.subscribe
        .getTransceivers()
        .find((each) => !used.has(each) && each.receiver.track.kind === track.kind);
      if (free) {
        free.direction = 'sendonly';
        await free.sender.replaceTrack(track);
      }
      this.sent.set(trackId, free ?? this.subscribe.addTransceiver(track, { direction: 'sendonly' }));
    }
    const description = await this.subscribe.createOffer();
    await this.subscribe.setLocalDescription(description);
    const tracks = [...this.sent].map(([trackId, { mid }]) => {
      const { kind, source } = this.tracks.get(trackId).info;
      return { trackId, mid, kind, source, userId: 'user-2', participantId: 'participant-2' };
    });
    const transportId = `subscribe-${this.generation}`;
    this.negotiationId += 1;
    this.socket.push('ReceiveOffer', {
      sourceUserId: 'sfu',
      transportId,
      negotiationId: this.negotiationId,
      sdp: description.sdp,
      tracks,
    });
  }
}

/**
 * The browser's answer takes no simulcast; the lines that accept it go into the video section.
 * @param {string} answer @param {string} offer
 */
function withSimulcast(answer, offer) {
  const sections = (/** @type {string} */ sdp) => sdp.split(/(?=^m=)/m);
  const offered = sections(offer);
  return sections(answer)
    .map((section, index) => {
      const rids = [...(offered[index] ?? '').matchAll(/^a=rid:(\w+) send/gm)].map((match) => match[1]);
      if (!rids.length || section.includes('a=simulcast')) return section;
      return `${section}${rids.map((rid) => `a=rid:${rid} recv\r\n`).join('')}a=simulcast:recv ${rids.join(';')}\r\n`;
    })
    .join('');
}

/** @returns {typeof WebSocket} */
export function loopbackSocket() {
  const sfu = new FakeSfu();
  const people = [person(0), { ...person(1), isVideoOn: true, isMuted: false }];
  const Socket = fakeSocket({ people, onmessage: (message, socket) => sfu.received(message, socket) });
  Object.assign(globalThis, {
    loopback: {
      sfu,
      drop: () => Socket.last.close(1006),
      close: (/** @type {number} */ code) => Socket.last.close(code),
      move: () => sfu.open(),
    },
  });
  return /** @type {any} */ (Socket);
}
