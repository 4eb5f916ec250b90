import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import { Call } from '../protocol/call.js';
import { LinkMeter } from '../protocol/link_meter.js';
import { NetworkNotices } from '../ui/network.js';
import { BACK, MISSING } from '../ui/texts.js';

// --- the meter ----------------------------------------------------------------------------------------------------------
const up = (entries) => ({
  connectionState: 'connected',
  getStats: async () => new Map(entries().map((entry) => [entry.id, { ...entry }])),
});

/** A meter on one connection that is received on; `add` counts packets by publisher. */
function receiving(...publishers) {
  const streams = publishers.map((_, mid) => ({ type: 'inbound-rtp', mid: String(mid), packetsReceived: 0, packetsLost: 0 }));
  const pair = { id: 'pair', type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: 0.05 };
  const connection = up(() => [...streams.map((stream, index) => ({ id: `s${index}`, ...stream })), pair]);
  const meter = new LinkMeter();
  const names = new Map(publishers.map((name, mid) => [String(mid), name]));
  const measure = (now) => meter.measure({ publish: null, subscribe: { connection, publishers: names } }, now);
  const add = (index, received, lost) => {
    streams[index].packetsReceived += received;
    streams[index].packetsLost += lost;
  };
  return { measure, add, pair };
}

test('loss is counted over the last seconds', async () => {
  const { measure, add } = receiving('a');
  const seen = [];
  for (let second = 0; second < 8; second += 1) {
    add(0, second < 4 ? 90 : 100, second < 4 ? 10 : 0);
    seen.push(Math.round((await measure(second * 1000)).loss * 100));
  }
  assert.deepEqual(seen, [0, 10, 10, 10, 7, 3, 0, 0]);
});

test('a publisher on a bad link of its own is not taken for a bad link here', async () => {
  const { measure, add } = receiving('a', 'b', 'c');
  await measure(0);
  add(0, 70, 30);
  add(1, 100, 0);
  add(2, 99, 1);
  assert.equal(Math.round((await measure(1000)).loss * 100), 1);
});

test('loss that all have is the link', async () => {
  const { measure, add } = receiving('a', 'b', 'c');
  await measure(0);
  for (const index of [0, 1, 2]) add(index, 90, 10);
  assert.equal(Math.round((await measure(1000)).loss * 100), 10);
});

test('with one publisher nobody can tell whose link loses packets', async () => {
  for (const [publishers, own] of [[['a'], 0], [['a', 'b'], 0.1]]) {
    const { measure, add } = receiving(...publishers);
    await measure(0);
    for (const index of publishers.keys()) add(index, 90, 10);
    const { loss, ownLoss } = await measure(1000);
    assert.deepEqual([loss, ownLoss], [0.1, own]);
  }
});

test('a few packets say nothing, and late ones are not lost', async () => {
  const { measure, add } = receiving('a');
  await measure(0);
  add(0, 10, 5);
  assert.equal((await measure(1000)).loss, 0);
  add(0, 200, -5);
  assert.equal((await measure(2000)).loss, 0);
});

test('what one sends is told by the reports of the SFU, weighed by packets, and the larger direction counts', async () => {
  let sent = 0;
  const connection = up(() => [
    { id: 'o1', type: 'outbound-rtp', packetsSent: sent },
    { id: 'o2', type: 'outbound-rtp', packetsSent: sent * 3 },
    { id: 'r1', type: 'remote-inbound-rtp', localId: 'o1', fractionLost: 0.4, roundTripTime: 0.5 },
    { id: 'r2', type: 'remote-inbound-rtp', localId: 'o2', fractionLost: 0, roundTripTime: 0.2 },
  ]);
  const { measure, pair } = receiving('a');
  const subscribe = { connection: up(() => [pair]) };
  await measure(0);
  const meter = new LinkMeter();
  await meter.measure({ publish: { connection }, subscribe }, 0);
  sent = 100;
  const found = await meter.measure({ publish: { connection }, subscribe }, 1000);
  assert.deepEqual(found, { loss: 0.1, ownLoss: 0.1, roundTripS: 0.5 });
});

test('connections that are not up are not measured', async () => {
  const meter = new LinkMeter();
  const connection = { ...up(() => []), connectionState: 'disconnected' };
  assert.equal(await meter.measure({ publish: { connection }, subscribe: null }, 0), null);
});

// --- the loop: statistics in, encodings, messages and notices out ---------------------------------------------------------
beforeEach(() => mock.timers.enable({ apis: ['setInterval'] }));
afterEach(() => mock.timers.reset());

const settle = async () => {
  for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setTimeout(resolve));
};

const until = async (condition) => {
  const deadline = Date.now() + 3000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'the condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

/** A peer connection whose statistics the test sets through `link`. */
function connectionClass(link) {
  return class {
    connectionState = 'connected';
    signalingState = 'stable';
    #transceivers = [];
    createDataChannel() {
      return { readyState: 'connecting' };
    }
    addTransceiver(track, { sendEncodings }) {
      let encodings = structuredClone(sendEncodings);
      const sender = {
        track,
        replaceTrack: async (next) => void (sender.track = next),
        getParameters: () => ({ encodings: structuredClone(encodings) }),
        setParameters: async (parameters) => void (encodings = parameters.encodings),
      };
      this.#transceivers.push({ mid: null, sender, receiver: { track } });
      return this.#transceivers.at(-1);
    }
    getTransceivers() {
      return this.#transceivers;
    }
    async getStats() {
      link.sent += 100;
      const pair = { type: 'candidate-pair', nominated: true, state: 'succeeded', currentRoundTripTime: link.roundTripS };
      const outbound = { type: 'outbound-rtp', packetsSent: link.sent };
      const remote = { type: 'remote-inbound-rtp', localId: 'o', fractionLost: link.loss };
      return new Map(Object.entries({ p: pair, o: outbound, r: remote }).map(([id, entry]) => [id, { id, ...entry }]));
    }
    async createOffer() {
      return { type: 'offer', sdp: '' };
    }
    async setLocalDescription() {}
    setConfiguration() {}
    close() {}
  };
}

/** A call in which a camera is sent over a link that the test makes good or bad. */
async function inCall() {
  const link = { loss: 0, roundTripS: 0.05, sent: 0, now: 0 };
  const sent = [];
  let socket;
  class Socket {
    readyState = 1;
    constructor() {
      socket = this;
      setTimeout(() => this.onopen?.({}));
    }
    push(type, payload) {
      this.onmessage?.({ data: JSON.stringify({ type, payload }) });
    }
    send(text) {
      const { type, payload } = JSON.parse(text);
      sent.push({ type, payload });
      const identity = { participantId: 'p1', resumeSecret: 's', generation: 'g', epoch: 1, seq: 1, topology: 'sfu' };
      const track = { trackId: 'theirs', kind: 'video', source: 'camera', userId: 'other', participantId: 'p2' };
      const participants = ['me', 'other'].map((userId) => ({ userId, participantId: userId, displayName: userId, role: 'attendee' }));
      const snapshot = { roomId: 'm', participants, tracks: [track] };
      if (type === 'JoinRoom') setTimeout(() => this.push('RoomJoined', { ...identity, userId: 'me', snapshot }));
      if (type === 'Resume') setTimeout(() => this.push('Resumed', identity));
      if (type === 'KeepAlive') setTimeout(() => this.push('KeepAliveAck', {}));
    }
    close() {}
  }
  const api = { join: async () => ({ participantId: 'p1', token: 't', signalingUrl: 'ws://x', iceServers: [] }) };
  const env = { WebSocket: Socket, RTCPeerConnection: connectionClass(link), now: () => link.now };
  const call = new Call({ api, meetingId: 'm', userId: 'me', displayName: 'me', env });
  await call.join();
  for (const direction of ['publish', 'subscribe'])
    socket.push('SfuEndpoint', { ip: '', port: 1, nodeId: 'n', transportId: direction, direction });
  await call.setTrack('camera', { kind: 'video', getSettings: () => ({ width: 1280 }) });
  call.update({ isVideoOn: true });
  call.receive.set('theirs', { width: 1280, height: 720 });
  call.receive.flush();
  const [transceiver] = call.transports.publisher.connection.getTransceivers();
  const layers = () => transceiver.sender.getParameters().encodings.map(({ active }) => Number(active)).join('');
  const last = (type) => sent.findLast((message) => message.type === type)?.payload;
  /** The link stays as it is for some seconds. */
  const pass = async (seconds) => {
    for (let second = 0; second < seconds; second += 1) {
      link.now += 1000;
      mock.timers.tick(1000);
      await settle();
    }
    call.receive.flush();
  };
  const state = () => [call.congestion.step, last('SetReceive').tracks[0].width, layers(), last('UpdateState').isVideoOn];
  return { call, link, sent, socket, pass, state, layers, last };
}

test('a bad link lowers what is received, then what is sent, then stops the camera, and gives all back', async () => {
  const { call, link, pass, state } = await inCall();
  await pass(3);
  assert.deepEqual(state(), ['full', 1280, '111', true]);
  link.loss = 0.1;
  const seen = [];
  for (let step = 0; step < 5; step += 1) {
    await pass(step ? 5 : 6);
    seen.push(state());
  }
  assert.deepEqual(seen, [
    ['half-size', 640, '111', true],
    ['thumbnails', 180, '111', true],
    ['fewer-layers', 180, '110', true],
    ['lowest-layer', 180, '100', true],
    ['no-video', 180, '000', false],
  ]);
  assert.equal(call.congestion.isVideoPaused, true);
  link.loss = 0;
  await pass(12);
  assert.deepEqual(state(), ['lowest-layer', 180, '100', true]);
  assert.equal(call.room.people.get('me').isVideoOn, true);
  await pass(40);
  assert.deepEqual(state(), ['full', 1280, '111', true]);
  call.leave();
});

test('loss that may be of the only other person costs nothing that is sent', async () => {
  const { call } = await inCall();
  let now = 0;
  const pass = (seconds, ownLoss) => {
    for (const end = now + seconds * 1000; now < end; now += 1000)
      call.congestion.take({ now, loss: 0.2, ownLoss, roundTripS: 0.05 });
    return call.congestion.step;
  };
  assert.equal(pass(60, 0), 'thumbnails');
  assert.equal(pass(30, 0.2), 'no-video');
  assert.equal(pass(120, 0), 'thumbnails');
  call.leave();
});

test('a long round trip counts as loss does', async () => {
  const { call, link, pass } = await inCall();
  link.roundTripS = 0.5;
  await pass(7);
  assert.equal(call.congestion.step, 'half-size');
  call.leave();
});

test('a layer comes back only where the SFU wants it as well', async () => {
  const { call, link, socket, pass, layers } = await inCall();
  const trackId = call.transports.publisher.trackIds.get('camera');
  link.loss = 0.1;
  await pass(17);
  assert.equal(layers(), '110');
  socket.push('SetSend', { trackId, layers: { q: true, h: false, f: true } });
  await settle();
  assert.equal(layers(), '100');
  link.loss = 0;
  await pass(40);
  assert.equal(layers(), '101');
  call.leave();
});

test('a new connection to another SFU sends no more than the link carries', async () => {
  const { call, link, socket, pass } = await inCall();
  link.loss = 0.1;
  await pass(17);
  socket.push('SfuEndpoint', { ip: '', port: 1, nodeId: 'n2', transportId: 'next', direction: 'publish' });
  await settle();
  const [transceiver] = call.transports.publisher.connection.getTransceivers();
  assert.deepEqual(
    transceiver.sender.getParameters().encodings.map(({ active }) => active),
    [true, true, false],
  );
  call.leave();
});

test('who switches the camera off while the network has stopped it does not get it back by itself', async () => {
  const { call, link, pass, last } = await inCall();
  link.loss = 0.1;
  await pass(30);
  assert.equal(call.congestion.isVideoPaused, true);
  call.update({ isVideoOn: false });
  await call.setTrack('camera', null);
  assert.equal(call.congestion.isVideoPaused, false);
  link.loss = 0;
  await pass(60);
  assert.equal(last('UpdateState').isVideoOn, false);
  call.leave();
});

test('who wants to be seen is seen, on a bad link too', async () => {
  const { call, link, pass, state } = await inCall();
  link.loss = 0.1;
  await pass(30);
  call.congestion.keepVideo();
  await pass(20);
  assert.deepEqual(state(), ['lowest-layer', 180, '100', true]);
  call.leave();
});

test('one notice when the own video stops, one when it is back, none when the person brought it back', async () => {
  const { call, link, pass } = await inCall();
  const shown = [];
  const toasts = { show: (text, { code }) => shown.push([code, text]), dismiss: () => {} };
  const notices = new NetworkNotices(call, toasts, () => {});
  link.loss = 0.1;
  await pass(60);
  assert.deepEqual(shown, [['video-paused', MISSING.bandwidth.own.text]]);
  link.loss = 0;
  await pass(60);
  assert.deepEqual(shown.slice(1), [['video-back', BACK.own]]);
  link.loss = 0.1;
  await pass(60);
  call.congestion.keepVideo();
  assert.deepEqual(shown.slice(2), [['video-paused', MISSING.bandwidth.own.text]]);
  notices.close();
  call.leave();
});

test('that the others are heard but not seen is said once, and once that they are back', async () => {
  const { call, socket } = await inCall();
  const said = [];
  const notices = new NetworkNotices(call, { show: () => {}, dismiss: () => {} }, (text) => said.push(text));
  const pause = async (paused) => {
    socket.push('ReceiveChanged', { tracks: [{ trackId: 'theirs', paused }] });
    await new Promise((resolve) => setTimeout(resolve, 1100));
  };
  await pause('bandwidth');
  await pause('bandwidth');
  assert.equal(call.room.pauses.get('theirs'), 'bandwidth');
  assert.deepEqual(said, [MISSING.bandwidth.camera.text]);
  await pause('none');
  assert.deepEqual(said, [MISSING.bandwidth.camera.text, BACK.others]);
  await pause('bandwidth');
  socket.push('TrackUnpublished', { trackId: 'theirs', userId: 'other', participantId: 'p2' });
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assert.equal(said.length, 3);
  assert.equal(call.room.pauses.size, 0);
  notices.close();
  call.leave();
});

test('what is kept back is told anew after a resume', async () => {
  const { call, socket } = await inCall();
  socket.push('ReceiveChanged', { tracks: [{ trackId: 'theirs', paused: 'bandwidth' }] });
  assert.equal(call.room.pauses.size, 1);
  socket.onclose({ code: 1006 });
  await until(() => call.state === 'connected' && call.room.pauses.size === 0);
  call.leave();
});

test('a new subscribe connection keeps nothing back yet', async () => {
  const { call, socket } = await inCall();
  socket.push('ReceiveChanged', { tracks: [{ trackId: 'theirs', paused: 'last-n' }] });
  assert.equal(call.room.pauses.size, 1);
  socket.push('SfuEndpoint', { ip: '', port: 1, nodeId: 'n2', transportId: 'next', direction: 'subscribe' });
  assert.equal(call.room.pauses.size, 0);
  call.leave();
});

test('who sends no video gives up no more than the size of what is received', async () => {
  const { call, link, pass, sent } = await inCall();
  await call.setTrack('camera', null);
  call.update({ isVideoOn: false });
  const before = sent.filter(({ type }) => type === 'UpdateState').length;
  link.loss = 0.2;
  await pass(60);
  assert.equal(call.congestion.step, 'thumbnails');
  assert.equal(sent.filter(({ type }) => type === 'UpdateState').length, before);
  call.leave();
});
