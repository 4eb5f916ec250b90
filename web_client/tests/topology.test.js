import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Emitter } from '../protocol/events.js';
import { Mesh } from '../protocol/mesh.js';
import { MeshMeter, qualityOf } from '../protocol/mesh_meter.js';
import { PeerLink } from '../protocol/peer_link.js';
import { Topology } from '../protocol/topology.js';

const settled = (ms = 10) => new Promise((resolve) => setTimeout(resolve, ms));

/** A received track; `flows` says whether its media arrives. */
const received = (trackId, userId, source = 'camera') => ({
  info: { trackId, userId, source, kind: source === 'camera' ? 'video' : 'audio' },
  media: { id: `${trackId}-${Math.random()}`, enabled: true },
  transceiver: { receiver: {} },
  flows: true,
});

/** A topology over a fake mesh and fake transports. */
function setUp() {
  const sent = [];
  const mesh = Object.assign(new Emitter(), {
    userId: '',
    links: new Map(),
    calls: [],
    expected: [],
    call: (userId) => mesh.calls.push(userId),
    expect: (userId) => mesh.expected.push(userId),
    drop: (userId) => mesh.links.delete(userId),
    close: () => mesh.links.clear(),
    link: (userId) => mesh.links.set(userId, { isUp: true, connection: { connectionState: 'connected' } }),
  });
  const transports = Object.assign(new Emitter(), {
    publisher: null,
    state: { publish: 'new', subscribe: 'new' },
    restarts: 0,
    resets: 0,
    restart: () => (transports.restarts += 1),
    reset: () => ((transports.publisher = null), (transports.resets += 1)),
    connect: () => {
      transports.publisher = {};
      transports.state = { publish: 'connected', subscribe: 'connected' };
      transports.emit('state', transports.state);
    },
  });
  const send = (type, payload) => sent.push({ type, ...payload });
  const topology = new Topology({ transports, mesh, send, isFlowing: ({ flows }) => flows });
  const people = (...ids) => new Map(['me', ...ids].map((id) => [id, { isMuted: false }]));
  const joined = (side, epoch, ...ids) => topology.joined({ topology: side, epoch, userId: 'me' }, ids);
  const ready = () => sent.filter(({ type }) => type === 'TopologyReady');
  return { topology, mesh, transports, sent, people, joined, ready };
}

test('a newcomer calls everybody, and expects those who come later', () => {
  const { topology, mesh, people, joined } = setUp();
  joined('mesh', 1, 'a', 'b');
  assert.deepEqual(mesh.calls, ['a', 'b']);
  topology.know(people('a', 'b', 'c'));
  assert.deepEqual(mesh.expected, ['c']);
  topology.close();
});

test('a person is played from the mesh until both ends decode each other over the SFU', async () => {
  const { topology, mesh, transports, joined, ready } = setUp();
  const played = [];
  topology.on('track', ({ media }) => played.push(media.id));
  joined('mesh', 1, 'a');
  mesh.link('a');
  const direct = received('t', 'a');
  mesh.emit('track', direct);
  assert.deepEqual(ready().at(-1), { type: 'TopologyReady', epoch: 1, peers: ['a'] });

  topology.switched({ to: 'sfu', epoch: 2 });
  const relayed = received('t', 'a');
  relayed.flows = false;
  transports.emit('track', relayed);
  transports.connect();
  assert.deepEqual(ready().at(-1), { type: 'TopologyReady', epoch: 2, peers: [] });
  relayed.flows = true;
  topology.look();
  assert.deepEqual(ready().at(-1), { type: 'TopologyReady', epoch: 2, peers: ['a'] });
  assert.equal(topology.received.get('t'), direct);

  topology.peerReady({ userId: 'a', epoch: 2, peers: ['me'] });
  assert.equal(topology.received.get('t'), relayed);
  assert.deepEqual(played, [direct.media.id, relayed.media.id]);
  assert.equal(mesh.links.size, 1, 'the two sounds overlap for a moment');
  await settled(500);
  assert.equal(mesh.links.size, 0);
  topology.close();
});

test('one end alone gives nothing up, and an answer of another epoch counts for nothing', () => {
  const { topology, mesh, transports, joined } = setUp();
  joined('mesh', 1, 'a');
  mesh.link('a');
  const direct = received('t', 'a');
  mesh.emit('track', direct);
  topology.switched({ to: 'sfu', epoch: 2 });
  topology.peerReady({ userId: 'a', epoch: 2, peers: ['me'] });
  topology.peerReady({ userId: 'a', epoch: 1, peers: [] });
  transports.connect();
  assert.equal(topology.received.get('t'), direct, 'its media has not come over the SFU yet');
  topology.close();
});

test('where the link is lost the SFU takes over without being asked', () => {
  const { topology, mesh, transports, joined } = setUp();
  joined('mesh', 1, 'a');
  mesh.link('a');
  const direct = received('t', 'a');
  mesh.emit('track', direct);
  topology.switched({ to: 'sfu', epoch: 2 });
  mesh.links.get('a').isUp = false;
  const relayed = received('t', 'a');
  transports.emit('track', relayed);
  transports.connect();
  assert.equal(topology.received.get('t'), relayed);
  topology.close();
});

test('back in the mesh, the SFU goes when every pair is ready and not before', async () => {
  const { topology, mesh, transports, joined } = setUp();
  joined('sfu', 4, 'a', 'z');
  transports.connect();
  for (const userId of ['a', 'z']) transports.emit('track', received(`t-${userId}`, userId));
  topology.switched({ to: 'mesh', epoch: 5 });
  assert.deepEqual([mesh.calls, mesh.expected], [['a'], ['z']], 'the higher user id begins');
  for (const userId of ['a', 'z']) {
    mesh.link(userId);
    mesh.emit('track', received(`t-${userId}`, userId));
  }
  topology.peerReady({ userId: 'a', epoch: 5, peers: ['me'] });
  await settled(500);
  assert.equal(transports.resets, 0);
  topology.peerReady({ userId: 'z', epoch: 5, peers: ['a', 'me'] });
  await settled(500);
  assert.equal(transports.resets, 1);
  topology.close();
});

test('whoever joined on the SFU tells the room of no peers, however many there are', () => {
  const { topology, transports, joined, people, ready } = setUp();
  joined('sfu', 3, 'a', 'b');
  transports.connect();
  topology.know(people('a', 'b', 'c'));
  topology.look();
  assert.deepEqual(ready(), [{ type: 'TopologyReady', epoch: 3, peers: [] }]);
  topology.close();
});

test('a room that has always been on the SFU hears nothing of readiness', () => {
  const { topology, transports, joined, ready } = setUp();
  joined('sfu', 1, 'a');
  transports.connect();
  assert.deepEqual(ready(), []);
  topology.close();
});

test('a reminder makes a client look for another way', () => {
  const { topology, transports, joined } = setUp();
  joined('sfu', 2, 'a');
  topology.switched({ to: 'sfu', epoch: 2 });
  assert.equal(transports.restarts, 1);
  topology.close();
});

test('a muted peer is silent here whatever it sends, and one who left is dropped', () => {
  const { topology, mesh, joined, people } = setUp();
  joined('mesh', 1, 'a');
  mesh.link('a');
  const voice = received('v', 'a', 'microphone');
  mesh.emit('track', voice);
  const muted = people('a');
  muted.get('a').isMuted = true;
  topology.know(muted);
  assert.equal(voice.media.enabled, false);
  topology.know(people('a'));
  assert.equal(voice.media.enabled, true);
  topology.know(people());
  assert.equal(mesh.links.size, 0);
  topology.close();
});

// --- links -----------------------------------------------------------------------------------------------------------
/** Signaling states and descriptions of RTCPeerConnection, without a network. */
class Connection {
  constructor() {
    this.signalingState = 'stable';
    this.connectionState = 'new';
    this.transceivers = [];
    this.localDescription = this.remoteDescription = null;
    this.restarts = 0;
  }
  createDataChannel() {
    queueMicrotask(() => this.onnegotiationneeded?.());
    return {};
  }
  addTransceiver(track, { direction }) {
    const sender = { replaceTrack: async (next) => (sender.track = next), track };
    const transceiver = { mid: null, direction, sender, receiver: { track: { kind: track.kind } } };
    this.transceivers.push(transceiver);
    queueMicrotask(() => this.onnegotiationneeded?.());
    return transceiver;
  }
  getTransceivers() {
    return this.transceivers;
  }
  async setLocalDescription() {
    for (const [index, transceiver] of this.transceivers.entries()) transceiver.mid ??= `${index}`;
    const isAnswer = this.signalingState === 'have-remote-offer';
    this.signalingState = isAnswer ? 'stable' : 'have-local-offer';
    this.localDescription = { type: isAnswer ? 'answer' : 'offer', sdp: 'sdp' };
  }
  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.signalingState = description.type === 'offer' ? 'have-remote-offer' : 'stable';
  }
  async addIceCandidate() {}
  restartIce() {
    this.restarts += 1;
    queueMicrotask(() => this.onnegotiationneeded?.());
  }
  setConfiguration() {}
  close() {
    this.signalingState = 'closed';
  }
}

/** Two meshes that hear each other; `hold` keeps messages back. */
function couple({ hold = false } = {}) {
  const held = [];
  const meshes = {};
  for (const userId of ['a', 'b']) {
    const send = (type, payload) => held.push({ from: userId, type, ...payload });
    const options = { send, epoch: () => 7, local: () => new Map(), RTCPeerConnection: Connection };
    meshes[userId] = Object.assign(new Mesh(options), { userId });
  }
  const deliver = async () => {
    while (held.length) {
      const { from, type, targetUserId, ...payload } = held.shift();
      const heard = { ...payload, sourceUserId: from };
      if (type === 'SendOffer') await meshes[targetUserId].offered(heard);
      if (type === 'SendAnswer') await meshes[targetUserId].answered(heard);
      if (type === 'SendIceCandidate') await meshes[targetUserId].candidate(heard);
      await settled(0);
    }
  };
  if (!hold) queueMicrotask(deliver);
  return { ...meshes, held, deliver };
}

const states = (...meshes) => meshes.map(({ links }) => [...links.values()][0]?.connection.signalingState);

test('two who begin at once come to one link, and the polite one gives way', async () => {
  const { a, b, held, deliver } = couple({ hold: true });
  a.call('b');
  b.call('a');
  await settled();
  assert.equal(held.filter(({ type }) => type === 'SendOffer').length, 2);
  await deliver();
  assert.deepEqual(states(a, b), ['stable', 'stable']);
  assert.equal(a.links.get('b').transportId, b.links.get('a').transportId);
  assert.ok(a.links.get('b').isPolite && !b.links.get('a').isPolite);
});

test('offers that cross on one link are settled by politeness', async () => {
  const { a, b, deliver } = couple({ hold: true });
  a.call('b');
  await settled();
  await deliver();
  a.links.get('b').restart();
  b.links.get('a').restart();
  await settled();
  await deliver();
  assert.deepEqual(states(a, b), ['stable', 'stable']);
});

test('tracks are known by what the description says of their m-sections', async () => {
  const { a, b, deliver } = couple({ hold: true });
  a.call('b');
  await settled();
  await deliver();
  const heard = [];
  b.links.get('a').connection.transceivers.push({ mid: '0', receiver: { track: { id: 'remote' } } });
  b.on('track', ({ info }) => heard.push(info));
  const track = { kind: 'video', getSettings: () => ({ width: 1280 }) };
  await a.setTrack('camera', { track, trackId: 'cam' });
  await settled();
  await deliver();
  assert.deepEqual(heard, [{ mid: '0', trackId: 'cam', kind: 'video', source: 'camera', userId: 'a' }]);
});

test('a link that the other end does not begin is begun here', async () => {
  const { a } = couple({ hold: true });
  a.expect('b');
  assert.equal(a.links.size, 0);
  await settled(3200);
  assert.equal(a.links.size, 1);
  a.close();
});

test('after a resume the last description is said again, unless it is old', async () => {
  const sent = [];
  let now = 0;
  const link = new PeerLink({
    userId: 'b',
    transportId: 't',
    isPolite: true,
    iceServers: [],
    send: (type, payload) => sent.push([type, payload.negotiationId]),
    epoch: () => 1,
    RTCPeerConnection: Connection,
    now: () => now,
  });
  await settled();
  link.resend();
  assert.deepEqual(sent, [['SendOffer', 1], ['SendOffer', 1]]);
  now = 31_000;
  link.resend();
  assert.equal(sent.length, 2);
  link.close();
});

test('a link reports what was lost since the last time, and its quality', async () => {
  const stats = { lost: 0, received: 100 };
  const connection = {
    getStats: async () =>
      new Map([
        ['in', { type: 'inbound-rtp', packetsLost: stats.lost, packetsReceived: stats.received }],
        ['pair', { type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.05 }],
      ]),
  };
  const topology = { side: 'mesh', received: new Map(), mesh: { links: new Map([['a', { userId: 'a', isUp: true, connection }]]) } };
  const [sent, heard] = [[], []];
  const meter = new MeshMeter({
    topology,
    send: (type, payload) => sent.push({ type, ...payload }),
    hear: (type, payload) => heard.push({ type, ...payload }),
  });
  await meter.report();
  Object.assign(stats, { lost: 10, received: 190 });
  await meter.report();
  assert.deepEqual(sent.at(-1), { type: 'LinkReport', peers: [{ userId: 'a', loss: 0.1, rtt: 50 }] });
  assert.deepEqual(heard.at(-1), { type: 'QualityChanged', userId: 'a', quality: 'poor' });
  topology.side = 'sfu';
  await meter.report();
  assert.equal(sent.length, 2);
});

test('the quality of a link', () => {
  assert.equal(qualityOf({ userId: 'a', loss: 0, rtt: 20 }), 'excellent');
  assert.equal(qualityOf({ userId: 'a', loss: 0.03, rtt: 20 }), 'good');
  assert.equal(qualityOf({ userId: 'a', loss: 0, rtt: 500 }), 'poor');
});

test('who speaks is told when it changes', () => {
  const speaking = (level) => ({ receiver: { getSynchronizationSources: () => [{ audioLevel: level }] } });
  const voice = (userId, level) => ({ ...received(userId, userId, 'microphone'), transceiver: speaking(level) });
  const topology = { side: 'mesh', received: new Map([['a', voice('a', 0.2)], ['b', voice('b', 0.5)], ['c', voice('c', 0)]]) };
  const heard = [];
  const meter = new MeshMeter({ topology, send: () => {}, hear: (type, payload) => heard.push(payload.speakers) });
  meter.listen();
  meter.listen();
  assert.deepEqual(heard, [[{ userId: 'b', level: 0.5 }, { userId: 'a', level: 0.2 }]]);
});
