import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  ACK,
  AUDIO,
  BadFrame,
  CONTROL,
  DISCARDABLE,
  FrameReader,
  KEY,
  SIGNAL,
  VIDEO,
  decodeAll,
  encodeAll,
  makeFrame,
} from '../protocol/tunnel/frame.js';
import { MediaQueue } from '../protocol/tunnel/queue.js';
import { MAX_FRAMES, TooFarBehind } from '../protocol/tunnel/reliable.js';
import { TunnelSession } from '../protocol/tunnel/session.js';
import { Tunnel } from '../protocol/tunnel/tunnel.js';
import { WIRES, fromBase64, toBase64 } from '../protocol/tunnel/wires.js';

const bytes = (...values) => Uint8Array.from(values);
const picture = (place, flags = 0, stream = 3) => makeFrame(VIDEO, stream, { payload: bytes(place), flags });
const sound = (place) => makeFrame(AUDIO, 1, { payload: bytes(place) });
const control = (message) => makeFrame(CONTROL, 0, { payload: new TextEncoder().encode(JSON.stringify(message)) });

test('a frame is laid out as the protocol says', () => {
  const frame = makeFrame(VIDEO, 0x0203, { payload: bytes(9), sequence: 0x0405, timestamp: 0xf6070809, flags: KEY });
  assert.deepEqual([...encodeAll([frame])], [0x31, 2, 3, 4, 5, 0xf6, 7, 8, 9, 0, 0, 1, 9]);
  assert.deepEqual(decodeAll(encodeAll([frame, frame])), [frame, frame]);
});

test('a stream of bytes may be cut anywhere', () => {
  const frames = [sound(1), picture(2, KEY), makeFrame(ACK, 0, { sequence: 7 })];
  const data = encodeAll(frames);
  for (let cut = 0; cut <= data.length; cut += 1) {
    const reader = new FrameReader();
    assert.deepEqual([...reader.feed(data.slice(0, cut)), ...reader.feed(data.slice(cut))], frames);
  }
});

test('what is no frame is refused', () => {
  const wrong = [bytes(0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0), bytes(0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)];
  const long = bytes(0x30, 0, 1, 0, 0, 0, 0, 0, 0, 4, 0, 1);
  for (const data of [...wrong, long]) assert.throws(() => new FrameReader().feed(data), BadFrame);
  assert.throws(() => decodeAll(bytes(0)), BadFrame);
});

test('base64 gives the same bytes back', () => {
  const data = Uint8Array.from({ length: 100_000 }, (_, place) => (place * 7) & 0xff);
  assert.deepEqual(fromBase64(toBase64(data)), data);
});

test('signaling arrives once and in order over two wires', () => {
  const one = new TunnelSession();
  const other = new TunnelSession();
  const heard = [];
  other.on('signal', (text) => heard.push(text));
  one.signal('first');
  one.outgoing(0, 1000); // lost with its wire
  one.signal('second');
  one.attach();
  const again = one.outgoing(0, 1000);
  assert.deepEqual(again.map(({ type }) => type), [ACK, SIGNAL, SIGNAL]);
  for (const frame of [...again, ...again]) other.receive(frame, 0);
  assert.deepEqual(heard, ['first', 'second']);
  other.outgoing(200, 1000).forEach((frame) => one.receive(frame, 200));
  one.attach();
  assert.deepEqual(one.outgoing(200, 1000).map(({ type }) => type), [ACK]);
});

test('a peer that never acknowledges is too far behind', () => {
  const session = new TunnelSession();
  for (let count = 0; count < MAX_FRAMES; count += 1) session.signal('x');
  assert.throws(() => session.signal('x'), TooFarBehind);
});

test('media is taken of open streams alone, and a gap is told', () => {
  const session = new TunnelSession();
  const heard = [];
  session.on('media', ({ frame, lost }) => heard.push([frame.sequence, lost]));
  assert.throws(() => session.receive(picture(0, 0, 2), 0), BadFrame);
  session.receive(control({ type: 'TrackOpened', stream: 2 }), 0);
  for (const sequence of [65_534, 65_535, 1, 0]) session.receive({ ...picture(0, 0, 2), sequence }, 0);
  assert.deepEqual(heard, [[65_534, 0], [65_535, 0], [1, 1]]);
});

test('sound goes first, and what is too old dies', () => {
  const queue = new MediaQueue();
  queue.put(picture(1, KEY), 0);
  queue.put(sound(2), 0);
  assert.equal(queue.take(1)?.type, AUDIO);
  queue.put(sound(3), 2);
  assert.equal(queue.take(210)?.type, VIDEO);
  assert.equal(queue.take(210), null);
  assert.equal(queue.dropped, 1);
});

test('a dropped picture takes all that need it, and asks for a key frame once', () => {
  const queue = new MediaQueue();
  queue.put(picture(1, KEY), 0);
  queue.put(picture(2), 350);
  queue.put(picture(3, KEY, 5), 350);
  assert.equal(queue.take(450)?.stream, 5);
  queue.put(picture(4), 460);
  assert.equal(queue.take(460), null);
  assert.deepEqual([queue.keyFramesWanted(), queue.keyFramesWanted()], [[3], []]);
  queue.put(picture(5, KEY), 470);
  assert.deepEqual(queue.take(470)?.payload, bytes(5));
  assert.equal(queue.take(470), null);
});

test('a dropped picture that nobody needs takes nothing with it', () => {
  const queue = new MediaQueue();
  queue.put(picture(1, DISCARDABLE), 0);
  queue.put(picture(2), 350);
  assert.deepEqual(queue.take(450)?.payload, bytes(2));
});

test('a gap in sequence is never thrift', () => {
  const queue = new MediaQueue();
  queue.put(sound(1), 0);
  assert.equal(queue.take(0)?.sequence, 0);
  queue.put(sound(2), 0);
  queue.put(sound(3), 300);
  assert.equal(queue.take(300)?.sequence, 1);
});

test('the age of what waits gives layers up, and calm brings them back one by one', () => {
  const queue = new MediaQueue();
  queue.put(picture(1, KEY), 0);
  queue.expire(150);
  assert.equal(queue.level, 'low');
  queue.expire(350);
  assert.equal(queue.level, 'audio');
  queue.take(351);
  for (const [now, level] of [[400, 'audio'], [5401, 'low'], [10_402, 'all']]) {
    queue.expire(now);
    assert.equal(queue.level, level);
  }
});

/** A WebSocket that the test drives. */
class Socket {
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  constructor(url, protocols) {
    Object.assign(this, { url, protocols });
    Socket.all.push(this);
  }
  open() {
    this.readyState = 1;
    this.onopen();
  }
  send(data) {
    this.sent.push(...decodeAll(data));
  }
  close() {
    this.readyState = 3;
  }
}

test('a new wire speaks once it is open, and frames wait while a wire is full', async () => {
  const fetch = async () => ({ status: 201, json: async () => ({ sessionId: 's', resumeSecret: 'r' }) });
  Socket.all = [];
  const tunnel = new Tunnel({ url: 'http://here/v1/tunnel/sessions', fetch, WebSocket: Socket, now: () => 0 });
  await tunnel.open();
  const first = tunnel.use('websocket');
  const [old] = Socket.all;
  assert.deepEqual([old.url, old.protocols[1]], ['ws://here/v1/tunnel/sessions/s/ws', 'secret.r']);
  old.open();
  await first;
  tunnel.session.signal('hello');
  assert.deepEqual(old.sent.map(({ type }) => type), [ACK, SIGNAL]);
  old.bufferedAmount = 20_000;
  tunnel.session.media(sound(1), 0);
  assert.equal(old.sent.length, 2);
  const second = tunnel.use('websocket');
  const [, next] = Socket.all;
  tunnel.session.media(sound(2), 0);
  next.open();
  await second;
  assert.deepEqual(next.sent.map(({ type }) => type), [ACK, SIGNAL, AUDIO, AUDIO]);
  old.onclose({ code: 4409 });
  assert.equal(tunnel.isClosed, false);
  next.onclose({ code: 4410 });
  assert.equal(tunnel.isClosed, true);
});

test('two batches are under way at most, numbered in their order', async () => {
  const session = new TunnelSession();
  const posted = [];
  const fetch = (url, { method, headers }) =>
    new Promise((resolve) => {
      if (method === 'POST') posted.push({ number: headers['Parley-Batch'], answer: () => resolve({ status: 204 }) });
    });
  const wire = new WIRES.longpoll({
    base: 'http://here/s',
    secret: 'r',
    name: 'wire-1',
    session,
    now: () => 0,
    fetch,
    opened: () => {},
    frames: () => {},
    closed: () => {},
  });
  wire.speak();
  for (const text of ['a', 'b', 'c']) {
    session.signal(text);
    wire.flush();
  }
  assert.deepEqual(posted.map(({ number }) => number), ['0', '1']);
  posted[0].answer();
  await new Promise((resolve) => setTimeout(resolve));
  wire.flush();
  assert.deepEqual(posted.map(({ number }) => number), ['0', '1', '2']);
  wire.close();
});
