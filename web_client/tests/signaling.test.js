import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import { Signaling } from '../protocol/signaling.js';

/** @type {FakeSocket[]} */
let sockets = [];

class FakeSocket {
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, readyState: 0, sent: [], onopen: null, onmessage: null, onclose: null });
    sockets.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen?.({});
  }
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  receive(type, payload = {}, seq) {
    this.onmessage?.({ data: JSON.stringify({ type, payload, ...(seq === undefined ? {} : { seq }) }) });
  }
  close() {
    this.readyState = 3;
  }
  drop(code = 1006) {
    this.readyState = 3;
    this.onclose?.({ code });
  }
}

const JOINED = {
  participantId: 'p',
  userId: 'u',
  resumeSecret: 's1',
  generation: 'g1',
  seq: 10,
  epoch: 1,
  snapshot: {},
};

function joined(options = {}) {
  const signaling = new Signaling({ WebSocket: FakeSocket, random: () => 0, now: () => Date.now() });
  const events = [];
  for (const name of ['message', 'state', 'joined', 'resumed', 'lost', 'closed']) {
    signaling.on(name, (detail) => events.push([name, detail]));
  }
  signaling.join('ws://x', { roomId: 'r', token: 't' }, '00-trace');
  last().open();
  last().receive('RoomJoined', { ...JOINED, ...options });
  return { signaling, events, types: () => events.filter(([name]) => name === 'message').map(([, m]) => m.type) };
}

const last = () => sockets[sockets.length - 1];
const names = (events) => events.map(([name, detail]) => (name === 'state' ? `state:${detail}` : name));

beforeEach(() => {
  sockets = [];
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'] });
});
afterEach(() => mock.timers.reset());

test('the first message is JoinRoom with the trace of the join, on the subprotocol', () => {
  joined();
  assert.deepEqual(last().protocols, ['parley.v1']);
  assert.deepEqual(last().sent[0], { type: 'JoinRoom', payload: { roomId: 'r', token: 't' }, traceparent: '00-trace' });
});

test('an event that was seen before is dropped, gaps are normal', () => {
  const { types } = joined();
  last().receive('A', {}, 10);
  last().receive('B', {}, 12);
  last().receive('C', {}, 12);
  last().receive('D', {}, 15);
  last().receive('E', {});
  assert.deepEqual(types(), ['B', 'D', 'E']);
});

test('a dropped socket is resumed at once with the newest secret and seq, and missed events come once and in order', () => {
  const { signaling, types } = joined();
  last().receive('A', {}, 11);
  last().drop();
  assert.equal(signaling.state, 'reconnecting');
  mock.timers.tick(0);
  last().open();
  assert.deepEqual(last().sent[0].payload, { participantId: 'p', resumeSecret: 's1', generation: 'g1', lastSeq: 11 });
  last().receive('Resumed', { participantId: 'p', resumeSecret: 's2', generation: 'g1', seq: 13, epoch: 1 });
  last().receive('B', {}, 12);
  last().receive('C', {}, 13);
  last().receive('C again', {}, 13);
  assert.deepEqual(types(), ['A', 'B', 'C']);
  last().drop();
  mock.timers.tick(0);
  last().open();
  assert.equal(last().sent[0].payload.resumeSecret, 's2');
});

test('a snapshot of another generation replaces the seq', () => {
  const { types } = joined();
  last().drop();
  mock.timers.tick(0);
  last().open();
  last().receive('Resumed', {
    participantId: 'p',
    resumeSecret: 's',
    generation: 'g2',
    seq: 3,
    epoch: 1,
    snapshot: {},
  });
  last().receive('old', {}, 3);
  last().receive('new', {}, 4);
  assert.deepEqual(types(), ['new']);
});

test('tries follow at 0, 0.5, 1, 2, 4 and 5 seconds until the window is over, then the session is lost', () => {
  const { events } = joined({ resumeWindowMs: 12_000 });
  const waits = [];
  last().drop();
  for (let elapsed = 0; elapsed < 30_000 && !names(events).includes('lost'); elapsed += 100) {
    const before = sockets.length;
    mock.timers.tick(elapsed ? 100 : 0);
    if (sockets.length > before) {
      waits.push(elapsed);
      last().drop();
    }
  }
  assert.deepEqual(waits, [0, 500, 1500, 3500, 7500, 12_500]);
  assert.ok(names(events).includes('lost'));
});

for (const [code, slug] of [
  [4403, 'removed'],
  [4409, 'duplicate'],
  [4410, 'room-ended'],
]) {
  test(`close code ${code} ends the call as ${slug} and nothing reconnects`, () => {
    const { events } = joined();
    last().drop(code);
    mock.timers.tick(60_000);
    assert.deepEqual(events.at(-1), ['closed', { code: slug }]);
    assert.equal(sockets.length, 1);
  });
}

test('a refused resume asks for a new token', () => {
  const { events } = joined();
  last().drop();
  mock.timers.tick(0);
  last().open();
  last().drop(4401);
  assert.deepEqual(events.at(-1), ['lost', { reason: 'token-refused' }]);
});

test('too many messages waits before the resume', () => {
  joined();
  last().drop(4429);
  mock.timers.tick(499);
  assert.equal(sockets.length, 1);
  mock.timers.tick(1);
  assert.equal(sockets.length, 2);
});

test('KeepAlive is sent at the interval of the server and a silent socket is given up', () => {
  const { signaling } = joined({ pingIntervalMs: 1000 });
  mock.timers.tick(1000);
  assert.equal(last().sent.at(-1).type, 'KeepAlive');
  last().receive('KeepAliveAck', { serverTime: '' });
  mock.timers.tick(900);
  assert.equal(signaling.state, 'connected');
  mock.timers.tick(100);
  mock.timers.tick(5000);
  assert.equal(signaling.state, 'reconnecting');
});

test('Moving comes back on a new socket after the wait, without a final close', () => {
  const { signaling, events } = joined();
  last().receive('Moving', { retryInMs: 2000, spreadMs: 1000 });
  mock.timers.tick(1999);
  assert.equal(sockets.length, 1);
  mock.timers.tick(1);
  assert.equal(sockets.length, 2);
  last().open();
  assert.equal(last().sent[0].type, 'Resume');
  last().receive('Resumed', { participantId: 'p', resumeSecret: 's2', generation: 'g1', seq: 10, epoch: 1 });
  assert.equal(signaling.state, 'connected');
  assert.ok(!names(events).includes('lost'));
});

test('a network that comes back shortens the wait', () => {
  const { signaling } = joined();
  last().drop();
  for (let tries = 0; tries < 4; tries += 1) {
    mock.timers.tick(5000);
    last().drop();
  }
  const before = sockets.length;
  signaling.hurry();
  assert.equal(sockets.length, before + 1);
});

test('what is no message is ignored', () => {
  const { types } = joined();
  last().onmessage({ data: '<html>' });
  last().onmessage({ data: new ArrayBuffer(2) });
  last().onmessage({ data: '{"no":"type"}' });
  assert.deepEqual(types(), []);
});

test('nothing is sent while the connection is away', () => {
  const { signaling } = joined();
  assert.equal(signaling.send('X', {}), true);
  last().drop();
  assert.equal(signaling.send('Y', {}), false);
});
