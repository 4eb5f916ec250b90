import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Problem } from '../protocol/api.js';
import { Call } from '../protocol/call.js';

const PEOPLE = [
  { userId: 'me', participantId: 'p1', displayName: 'One', role: 'attendee', joinedAt: '' },
  { userId: 'other', participantId: 'p2', displayName: 'Two', role: 'host', joinedAt: '' },
];

/** A call on a fake API and a fake socket; `sent` are the messages of all sockets. */
function setUp({ refuse, bestWire } = {}) {
  const sent = [];
  const sockets = [];
  const joins = [];
  class Socket {
    constructor() {
      this.readyState = 0;
      sockets.push(this);
      setTimeout(() => {
        this.readyState = 1;
        this.onopen?.({});
      });
    }
    send(text) {
      const message = JSON.parse(text);
      sent.push(message);
      setTimeout(() => this.answer(message));
    }
    answer({ type }) {
      const identity = { participantId: 'p1', resumeSecret: 's', generation: 'g', epoch: 1, seq: 5, topology: 'sfu' };
      const snapshot = { roomId: 'm', participants: PEOPLE, tracks: [] };
      if (type === 'JoinRoom') this.push('RoomJoined', { ...identity, userId: 'me', role: 'attendee', snapshot });
      if (type === 'Resume') this.push('Resumed', identity);
    }
    push(type, payload, seq) {
      this.onmessage?.({ data: JSON.stringify({ type, payload, seq }) });
    }
    close(code = 1000) {
      this.readyState = 3;
      setTimeout(() => this.onclose?.({ code }));
    }
  }
  const api = {
    join: async (id, body, { traceparent }) => {
      joins.push({ id, body, traceparent });
      const problem = refuse?.(joins.length);
      if (problem) throw problem;
      return {
        participantId: 'p1',
        token: `t${joins.length}`,
        signalingUrl: 'ws://x',
        iceServers: [],
        role: 'attendee',
      };
    },
  };
  class Connection {
    setConfiguration() {}
    getTransceivers() {
      return [];
    }
  }
  class Shut {
    constructor() {
      setTimeout(() => this.onclose?.({ code: 1006 }));
    }
    close() {}
  }
  const storage = { getItem: () => null, setItem() {}, removeItem() {} };
  const loadTunnel = async () => ({ media: null, Socket });
  const env = {
    WebSocket: bestWire ? Shut : Socket,
    RTCPeerConnection: Connection,
    random: () => 1,
    ...(bestWire && { ladder: { url: 'https://x', env: { storage, loadTunnel, bestWire, probeMedia: async () => true } } }),
  };
  const call = new Call({ api, meetingId: 'm', userId: 'me', displayName: 'One', env });
  const types = () => sent.map(({ type }) => type);
  return { call, sent, sockets, joins, types };
}

const until = async (condition) => {
  const deadline = Date.now() + 3000;
  while (!condition()) {
    assert.ok(Date.now() < deadline, 'the condition did not come true');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
};

test('one trace covers the REST join and JoinRoom', async () => {
  const { call, sent, joins } = setUp();
  await call.join();
  const [, rest] = /^00-([0-9a-f]{32})-[0-9a-f]{16}-01$/.exec(joins[0].traceparent);
  assert.ok(sent[0].traceparent.includes(rest));
  call.leave();
});

test('what was typed and switched while the connection was away is sent after the resume', async () => {
  const { call, sent, sockets, types } = setUp();
  await call.join();
  sockets[0].onclose({ code: 1006 });
  assert.equal(call.state, 'reconnecting');
  call.update({ isHandRaised: true });
  call.sendChat('hello');
  assert.ok(!types().includes('SendMessage'));
  await until(() => types().includes('SendMessage'));
  const state = sent.filter(({ type }) => type === 'UpdateState').at(-1);
  assert.equal(state.payload.isHandRaised, true);
  assert.equal(types().filter((type) => type === 'Resume').length, 1);
  call.leave();
});

test('a chat message is pending until it comes back, and is not doubled', async () => {
  const { call, sockets } = setUp();
  await call.join();
  const { messageId } = call.sendChat('hello');
  assert.equal(call.chat[0].isPending, true);
  sockets[0].push('MessageReceived', { messageId, userId: 'me', displayName: 'One', text: 'hello', sentAt: '' }, 6);
  assert.equal(call.chat.length, 1);
  assert.ok(!call.chat[0].isPending);
  call.leave();
});

test('a session that is lost is joined again with a new token, and the state goes along', async () => {
  const { call, sent, sockets, joins } = setUp();
  await call.join({ password: 'secret', consentToken: 'c' });
  call.update({ isMuted: false });
  sockets[0].onclose({ code: 4401 });
  await until(() => joins.length === 2 && call.state === 'connected');
  assert.deepEqual(joins[1].body, { userId: 'me', password: 'secret' });
  assert.equal(sent.filter(({ type }) => type === 'JoinRoom').at(-1).payload.token, 't2');
  assert.equal(sent.filter(({ type }) => type === 'UpdateState').at(-1).payload.isMuted, false);
  call.leave();
});

test('new relays are given to connections that live, which may change nothing else', async () => {
  const { call } = setUp();
  await call.join();
  const given = [];
  class Live {
    connectionState = 'connected';
    constructor(configuration) {
      this.bundlePolicy = configuration.bundlePolicy;
    }
    setConfiguration({ iceServers, bundlePolicy = 'balanced' }) {
      if (bundlePolicy !== this.bundlePolicy) throw new Error('InvalidModificationError'); // as Chromium does
      given.push(iceServers);
    }
    createDataChannel() {}
    getTransceivers() {
      return [];
    }
    close() {}
  }
  call.transports.RTCPeerConnection = Live;
  call.transports.open({ direction: 'subscribe', transportId: 's' }, 1);
  call.setIceServers([{ urls: 'turn:new' }]);
  assert.deepEqual(given, [[{ urls: 'turn:new' }]]);
  call.leave();
});

test('a join that is refused throws the reason of the API', async () => {
  const { call } = setUp({ refuse: () => new Problem('room-full', 'Full.', { status: 409 }) });
  await assert.rejects(call.join(), { code: 'room-full' });
  assert.equal(call.state, 'idle');
});

test('a rejoin that is refused for good ends the call with the reason', async () => {
  const { call, sockets } = setUp({ refuse: (n) => n > 1 && new Problem('meeting-ended', '', { status: 409 }) });
  await call.join();
  const ended = new Promise((resolve) => call.on('ended', resolve));
  sockets[0].onclose({ code: 4401 });
  assert.equal((await ended).code, 'meeting-ended');
});

test('a server that is away is asked again', async () => {
  const { call, sockets, joins } = setUp({ refuse: (n) => n === 2 && new Problem('network', '') });
  await call.join();
  sockets[0].onclose({ code: 4401 });
  await until(() => joins.length === 3 && call.state === 'connected');
  call.leave();
});

test('a first join is not given up while another way is looked for, and takes it at once', async () => {
  const late = (wire) => () => new Promise((resolve) => setTimeout(() => resolve(wire), 2200));
  const [found, none] = [setUp({ bestWire: late('longpoll') }), setUp({ bestWire: late(null) })];
  const [started, refused] = [Date.now(), assert.rejects(none.call.join(), { code: 'network' })];
  await found.call.join();
  assert.ok(found.joins.length > 5, String(found.joins.length)); // as many as are given up without a hope
  assert.ok(Date.now() - started < 2700, String(Date.now() - started));
  found.call.leave();
  await refused;
  assert.equal(none.call.state, 'ended');
});

test('a mute by the host is taken over', async () => {
  const { call, sockets } = setUp();
  await call.join();
  call.update({ isMuted: false });
  sockets[0].push('Moderated', { action: 'mute', userId: 'me', byUserId: 'other' }, 6);
  assert.equal(call.own.isMuted, true);
  assert.equal(call.room.people.get('me').isMuted, true);
  call.leave();
});

test('leaving says so and ends once', async () => {
  const { call, types } = setUp();
  await call.join();
  const ends = [];
  call.on('ended', ({ code }) => ends.push(code));
  call.leave();
  call.leave();
  assert.deepEqual(ends, ['left']);
  assert.ok(types().includes('Leave'));
});

test('a room that has oneself wrong after a take-over is told again, but a mute is not taken back', async () => {
  const { call, sent, sockets } = setUp();
  await call.join();
  call.update({ isMuted: false, isVideoOn: true });
  const before = sent.length;
  sockets[0].push('StateChanged', { userId: 'me', isMuted: true, isVideoOn: false }, 6);
  await until(() => sent.length > before);
  assert.deepEqual(sent.at(-1).payload, { isVideoOn: true, isSharing: false, isHandRaised: false });
  assert.equal(call.room.people.get('me').isVideoOn, true);
  call.leave();
});
