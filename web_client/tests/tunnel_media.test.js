import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';

import { continued, periodOf } from '../protocol/tunnel/concealment.js';
import { RtpClock, activeLayers, fit, inside, layersOf, levelOf } from '../protocol/tunnel/encoding.js';
import { CONTROL, KEY, VIDEO, makeFrame } from '../protocol/tunnel/frame.js';
import { JitterBuffer } from '../protocol/tunnel/jitter.js';
import { Lateness } from '../protocol/tunnel/lateness.js';
import { TunnelSession } from '../protocol/tunnel/session.js';
import { TunnelMedia } from '../protocol/tunnel/tunnel_media.js';

const MS = 48;
const packet = (value = 1, length = 20 * MS) => new Float32Array(length).fill(value);
/** What is played in so many milliseconds. */
const pull = (buffer, ms) => {
  const out = new Float32Array(ms * MS);
  buffer.pull(out);
  return out;
};

test('sound begins when enough waits, and again after it has run dry', () => {
  const buffer = new JitterBuffer();
  buffer.put(0, packet());
  assert.ok(pull(buffer, 10).every((sample) => sample === 0));
  buffer.put(20 * MS, packet());
  assert.ok(pull(buffer, 40).every((sample) => sample === 1));
  pull(buffer, 10);
  assert.deepEqual([buffer.dry, buffer.position], [1, null]);
  buffer.put(40 * MS, packet());
  assert.equal(buffer.position, null);
  buffer.put(60 * MS, packet());
  assert.equal(buffer.position, 40 * MS);
});

test('the position is the time stamp of the next sample, also over its wrap', () => {
  const buffer = new JitterBuffer();
  const first = 2 ** 32 - 30 * MS;
  for (let place = 0; place < 4; place += 1) buffer.put((first + place * 20 * MS) >>> 0, packet());
  pull(buffer, 40);
  assert.equal(buffer.position, 10 * MS);
});

test('what nobody needs is left out', () => {
  const buffer = new JitterBuffer();
  let at = 0;
  const put = () => buffer.put((at += 20 * MS), packet());
  for (let place = 0; place < 20; place += 1) put(); // a burst of 400 ms
  for (let place = 0; place < 200; place += 1) {
    put();
    pull(buffer, 20);
  }
  assert.ok(buffer.dropped > 0);
  assert.ok(buffer.waiting <= 40 * MS, String(buffer.waiting / MS));
  assert.equal(buffer.dry, 0);
});

/** Plays a minute of packets, each as late as `lateness(number)` says, ms. What waited at most in the last half of it, ms. */
const minute = (buffer, lateness) => {
  const due = Array.from({ length: 3000 }, (_, number) => number * 20 + lateness(number));
  let [next, most] = [0, 0];
  for (let block = 0; block * 128 < 60_000 * MS; block += 1) {
    const now = (block * 128) / MS;
    // In order, as a wire brings them: behind a late one the others wait.
    for (; next < due.length && due[next] <= now; next += 1) buffer.put(next * 20 * MS, packet());
    buffer.pull(new Float32Array(128));
    if (now > 30_000) most = Math.max(most, buffer.waiting / MS);
  }
  return most;
};

test('in calm little waits, and what is late again and again is waited for', () => {
  const calm = new JitterBuffer();
  assert.ok(minute(calm, () => 5) <= 40);
  assert.equal(calm.dry, 0);
  const stalls = new JitterBuffer();
  const most = minute(stalls, (number) => (number % 75 === 0 ? 120 : 5));
  assert.ok(stalls.dry < 10, String(stalls.dry));
  assert.ok(most < 260, String(most));
});

test('what packets need is what they are late by, but for the worst half second of ten', () => {
  const late = new Lateness();
  const add = (value, seconds) => late.add(1000 + value * MS, seconds * 48_000);
  for (let tenth = 0; tenth < 50; tenth += 1) add(tenth === 30 ? 200 : tenth % 11, tenth / 10);
  assert.deepEqual([late.earliest, late.needed], [1000, 10 * MS]);
  add(150, 5.6);
  assert.equal(late.needed / MS, 150); // twice is waited for
  for (let tenth = 60; tenth < 170; tenth += 1) add(1, tenth / 10);
  assert.deepEqual([late.earliest, late.needed], [1000 + MS, 0]); // and forgotten
  add(-900, 18);
  assert.deepEqual([late.earliest, late.needed], [1000 - 900 * MS, 0]); // another clock
});

test('no more than a second waits, and a new talk does not begin with the end of the former', () => {
  const full = new JitterBuffer();
  for (let place = 0; place < 80; place += 1) full.put(place * 20 * MS, packet());
  assert.equal(full.waiting, 1000 * MS);
  const buffer = new JitterBuffer();
  buffer.put(0, packet(9));
  for (let place = 0; place < 4; place += 1) buffer.put((500 + 20 * place) * MS, packet(1));
  assert.ok(pull(buffer, 40).every((sample) => sample === 1));
});

// --- concealment --------------------------------------------------------------------------------------------------------
const HERTZ = 200;
/** A voice of 200 Hz from a time stamp on. */
const voice = (from, length = 20 * MS) =>
  Float32Array.from({ length }, (_, at) => {
    const phase = (2 * Math.PI * HERTZ * (from + at)) / 48_000;
    return 0.4 * Math.sin(phase) + 0.2 * Math.sin(2 * phase + 1);
  });
const loudness = (samples) => Math.sqrt(samples.reduce((sum, sample) => sum + sample ** 2, 0) / samples.length);
/** The largest step from one sample to the next. */
const roughness = (samples) => samples.reduce((most, sample, at) => Math.max(most, at ? Math.abs(sample - samples[at - 1]) : 0), 0); // prettier-ignore
const difference = (some, others) => loudness(some.map((sample, at) => sample - others[at]));

test('a voice goes on at its own pitch, and fades to silence', () => {
  assert.equal(periodOf(voice(0)), 48_000 / HERTZ);
  const more = continued(voice(0), 100 * MS);
  assert.ok(difference(more.slice(0, 10 * MS), voice(20 * MS)) < 0.05 * loudness(voice(0)));
  const parts = [0, 10, 20, 30, 40, 50].map((ms) => loudness(more.slice(ms * MS, (ms + 10) * MS)));
  assert.deepEqual(parts, parts.toSorted((a, b) => b - a));
  assert.ok(more.slice(60 * MS).every((sample) => sample === 0));
  assert.equal(loudness(continued(new Float32Array(0), 10)), 0);
  assert.equal(loudness(continued(new Float32Array(960), 960)), 0);
});

test('a packet that is missing is concealed, and takes its time', () => {
  const buffer = new JitterBuffer();
  const put = (packet) => buffer.put(packet * 20 * MS, voice(packet * 20 * MS));
  for (const packet of [0, 1, 2, 4, 5]) put(packet);
  assert.deepEqual([buffer.concealed, buffer.waiting], [20 * MS, 120 * MS]);
  const out = pull(buffer, 120);
  assert.ok(roughness(out) < 1.2 * roughness(voice(0)), String(roughness(out)));
  const [gap, plain] = [out.slice(60 * MS, 80 * MS), voice(60 * MS)];
  assert.ok(difference(gap, plain) < 0.3 * loudness(plain), String(difference(gap, plain)));
  assert.deepEqual(out.slice(85 * MS, 100 * MS), voice(85 * MS, 15 * MS));
  assert.equal(buffer.dry, 0);
});

test('a longer gap is a pause of the sender: nothing is put into it', () => {
  const buffer = new JitterBuffer();
  buffer.put(0, voice(0));
  buffer.put(160 * MS, voice(160 * MS));
  assert.deepEqual([buffer.concealed, buffer.waiting], [0, 40 * MS]);
});

test('where it runs dry the voice fades away, and what comes then begins without a click', () => {
  const buffer = new JitterBuffer();
  for (let packet = 0; packet < 3; packet += 1) buffer.put(packet * 20 * MS, voice(packet * 20 * MS));
  const out = [pull(buffer, 60), pull(buffer, 20)];
  assert.equal(buffer.dry, 1);
  assert.ok(difference(out[1], voice(60 * MS)) < 0.3 * loudness(voice(0)));
  for (let packet = 3; packet < 8; packet += 1) buffer.put(packet * 20 * MS, voice(packet * 20 * MS));
  out.push(pull(buffer, 60));
  assert.ok(roughness(Float32Array.from(out.flatMap((part) => [...part]))) < 1.2 * roughness(voice(0)));
  assert.deepEqual(out[2].slice(5 * MS, 20 * MS), voice(65 * MS, 15 * MS));
  pull(buffer, 40);
  const silence = pull(buffer, 200).slice(60 * MS);
  assert.ok(silence.every((sample) => sample === 0));
});

test('what is left out makes no click', () => {
  const buffer = new JitterBuffer();
  let packet = 0;
  const put = () => buffer.put(packet * 20 * MS, voice(packet++ * 20 * MS));
  for (let place = 0; place < 10; place += 1) put();
  let roughest = 0;
  for (let place = 0; place < 220; place += 1) {
    put();
    roughest = Math.max(roughest, roughness(pull(buffer, 20)));
  }
  assert.ok(buffer.dropped > 0);
  assert.ok(roughest < 2 * roughness(voice(0)), String(roughest));
});

test('a camera goes in two layers at most, a share in one', () => {
  const of = (source, size) => layersOf(source, size).map(({ rid, width, height }) => [rid, width, height]);
  assert.deepEqual(of('camera', { width: 1280, height: 720 }), [['q', 320, 180], ['h', 640, 360]]); // prettier-ignore
  assert.deepEqual(of('camera', { width: 640, height: 480 }), [['q', 240, 180], ['h', 480, 360]]); // prettier-ignore
  assert.deepEqual(of('camera', { width: 320, height: 240 }), [['', 240, 180]]);
  assert.deepEqual(of('screen', { width: 1920, height: 1080 }), [['', 1280, 720]]);
  assert.deepEqual(of('microphone'), [['', 0, 0]]);
  assert.deepEqual(fit(333, 101, 720), { width: 334, height: 102 });
  assert.deepEqual(inside(640, 480, 320, 180), [240, 180]); // bars at the sides
  assert.deepEqual(inside(1280, 720, 320, 180), [320, 180]);
});

test('a layer is encoded where the SFU wants it and the queue allows it', () => {
  const both = ['q', 'h'];
  assert.deepEqual(activeLayers(both, {}, 'all'), [true, true]);
  assert.deepEqual(activeLayers(both, { q: false, h: true }, 'all'), [false, true]);
  assert.deepEqual(activeLayers(both, { q: false, h: true }, 'low'), [true, false]);
  assert.deepEqual(activeLayers(both, { q: false, h: false }, 'low'), [false, false]);
  assert.deepEqual(activeLayers(both, {}, 'audio'), [false, false]);
  assert.deepEqual(activeLayers([''], { f: false }, 'all'), [false]);
  assert.deepEqual(activeLayers([''], {}, 'low'), [true]);
  assert.deepEqual(activeLayers([''], {}, 'audio'), [false]);
});

test('time stamps go on when another device counts from elsewhere, and wrap', () => {
  const clock = new RtpClock(90);
  assert.deepEqual([clock.at(1_000_000), clock.at(1_033_333)], [90_000, 93_000]);
  const next = clock.at(5_000);
  assert.equal(next, 93_000 + 1800);
  assert.equal(clock.at(38_333) - next, 3000);
  assert.equal(new RtpClock(90).at(2 ** 32 / 0.09 + 1e6), 90_000);
});

test('the level octet is -dBov, and says whether it is a voice', () => {
  assert.deepEqual([1, 0.01, 0, 1e-9].map(levelOf), [0x80, 0x80 | 20, 127, 90]);
});

// --- TunnelMedia, with a worker and a processor that only tell ----------------------------------------------------------
const told = [];
class FakeWorker {
  postMessage(message) {
    told.push(message);
  }

  terminate() {}
}
class FakeProcessor {
  constructor({ track }) {
    this.readable = track;
  }
}
const camera = () => ({ enabled: true, getSettings: () => ({ width: 640, height: 360 }) });

/** A tunnel without wires. */
class FakeTunnel extends EventTarget {
  session = new TunnelSession();
  isClosed = false;
  now = () => 0;

  on(name, take) {
    this.session.on(name, take);
  }

  close() {
    this.isClosed = true;
  }

  /** What the gateway is told. */
  controls() {
    const frames = this.session.outgoing(0, 1e6).filter(({ type }) => type === CONTROL);
    return frames.map(({ payload }) => JSON.parse(new TextDecoder().decode(payload)));
  }
}

let media;
beforeEach(() => {
  Object.assign(globalThis, { Worker: FakeWorker, MediaStreamTrackProcessor: FakeProcessor });
  told.length = 0;
  media = new TunnelMedia();
});
afterEach(() => media.close());

test('a track is opened when the call has joined, muted with its camera, and closed with a share', async () => {
  const tunnel = new FakeTunnel();
  await media.setTrack('camera', camera());
  media.attach(tunnel);
  assert.deepEqual(tunnel.controls(), []);
  media.setEpoch(1);
  const [opened] = tunnel.controls();
  const { trackId } = media.local.get('camera');
  assert.deepEqual([opened.type, opened.trackId, opened.codec], ['OpenTrack', trackId, 'vp8']);
  assert.deepEqual(opened.streams, [
    { stream: 1, rid: 'q', width: 320, height: 180 },
    { stream: 3, rid: 'h', width: 640, height: 360 },
  ]);
  assert.deepEqual(told.map(({ type }) => type), ['start', 'read', 'active']); // prettier-ignore
  await media.setTrack('camera', null);
  assert.deepEqual(told.slice(3).map(({ type }) => type), ['stop', 'active', 'release']); // prettier-ignore
  assert.deepEqual(tunnel.controls().map(({ type, muted }) => [type, muted]), [['Muted', true], ['Muted', true]]); // prettier-ignore
  await media.setTrack('screen', camera());
  const share = tunnel.controls()[0].trackId;
  await media.setTrack('screen', null);
  assert.deepEqual(tunnel.controls(), [{ type: 'CloseTrack', trackId: share }]);
});

test('a new tunnel carries the same tracks on streams of its own, captured once', async () => {
  const read = () => told.filter(({ type }) => type === 'read' || type === 'release').map(({ type }) => type);
  await media.setTrack('camera', camera());
  for (const tunnel of [new FakeTunnel(), new FakeTunnel()]) {
    media.attach(tunnel);
    media.setEpoch(1);
    const [{ trackId, streams }] = tunnel.controls();
    assert.deepEqual([trackId, streams[0].stream], [media.local.get('camera').trackId, 1]);
  }
  assert.equal(told.filter(({ type }) => type === 'start').length, 2);
  assert.deepEqual(read(), ['read']);
  await media.setTrack('camera', camera());
  assert.deepEqual(read(), ['read', 'release', 'read']);
  await media.setTrack('camera', null);
  assert.deepEqual(read(), ['read', 'release', 'read', 'release']);
});

test('a picture is captured once, also where its tunnel is replaced before the capture is up', async () => {
  let running = 0;
  const video = () => ({ requestVideoFrameCallback: () => (running += 1), cancelVideoFrameCallback: () => (running -= 1), play: async () => {} }); // prettier-ignore
  Object.assign(globalThis, { MediaStreamTrackProcessor: undefined, document: { createElement: video }, MediaStream: class {} }); // prettier-ignore
  await media.setTrack('camera', { ...camera(), kind: 'video' });
  for (const tunnel of [new FakeTunnel(), new FakeTunnel()]) {
    media.attach(tunnel);
    media.setEpoch(1);
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(running, 1);
  media.close();
  assert.equal(running, 0);
});

test('a tunnel that comes up when its call is over is not taken', () => {
  media.close();
  media.attach(new FakeTunnel());
  assert.equal(media.tunnel, null);
});

test('a key frame that the gateway asks for is asked of the encoder', async () => {
  const tunnel = new FakeTunnel();
  await media.setTrack('camera', camera());
  media.attach(tunnel);
  media.setEpoch(1);
  tunnel.session.emit('control', { type: 'KeyFrame', stream: 3 });
  assert.deepEqual(told.at(-1), { type: 'keyFrame', stream: 3 });
});

test('layers that the SFU does not want are not encoded', async (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const tunnel = new FakeTunnel();
  await media.setTrack('camera', camera());
  media.attach(tunnel);
  media.setEpoch(1);
  media.publisher.setLayers(media.local.get('camera').trackId, { q: true, h: false });
  context.mock.timers.tick(50);
  assert.deepEqual(told.at(-1), { type: 'active', source: 'camera', active: [true, false] });
  media.close();
});

test('states are those of the gateway, and with nothing to publish that way is as the other', async () => {
  const tunnel = new FakeTunnel();
  media.attach(tunnel);
  media.setEpoch(1);
  tunnel.session.emit('control', { type: 'MediaState', direction: 'subscribe', state: 'connected' });
  assert.deepEqual(media.state, { publish: 'connected', subscribe: 'connected' });
  await media.setTrack('camera', camera());
  assert.deepEqual(media.state, { publish: 'new', subscribe: 'connected' });
  const failed = [];
  media.on('failed', (detail) => failed.push(detail));
  tunnel.session.emit('control', { type: 'MediaState', direction: 'subscribe', state: 'failed' });
  assert.deepEqual(failed, [{ direction: 'subscribe' }]);
});

test('frames of a stream that is not open are nobody’s', () => {
  const tunnel = new FakeTunnel();
  media.attach(tunnel);
  tunnel.session.emit('media', { frame: makeFrame(VIDEO, 2, { flags: KEY }), lost: 0 });
  tunnel.session.emit('control', { type: 'TrackClosed', stream: 2 });
  assert.equal(media.state.subscribe, 'new');
});
