import assert from 'node:assert/strict';
import { afterEach, beforeEach, mock, test } from 'node:test';

import { Emitter } from '../protocol/events.js';
import { Ladder } from '../protocol/ladder.js';
import { WIRE_KINDS, bestWire } from '../protocol/probes/wires.js';
import { SwitchedMedia } from '../protocol/switched_media.js';
import { Transports } from '../protocol/transports.js';

let now = 0;
beforeEach(() => {
  now = 0;
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
});
afterEach(() => mock.timers.reset());

const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
};
/** Time goes by, in the steps of the ladder. */
async function pass(ms) {
  for (let gone = 0; gone < ms; gone += 500) {
    now += 500;
    mock.timers.tick(500);
    await settle();
  }
}

/** Media of the tunnel, as far as a ladder is concerned. */
class Tunnelled extends Emitter {
  tunnel = { used: [], use: async (kind) => this.tunnel.used.push(kind) };
  state = { publish: 'connected', subscribe: 'connected' };
  local = new Map();
  isClosed = false;
  adopt(local) {
    this.local = new Map(local);
  }
  limit() {}
  close() {
    this.isClosed = true;
  }
}

const publisher = (connectionState) => ({ connection: { connectionState }, close() {}, limit() {}, async setTrack() {} });

class FakeCall extends Emitter {
  state = 'idle';
  rejoins = [];
  signaling = Object.assign(new Emitter(), { state: 'idle', url: 'wss://x/v1/signal', WebSocket: null });
  topology = { side: 'sfu', mesh: { links: new Map() } };
  direct = new Transports({ send: () => {}, RTCPeerConnection: class {} });
  transports = new SwitchedMedia(this.direct);
  constructor() {
    super();
    this.direct.publisher = publisher('new');
    this.direct.subscriber = { connection: { connectionState: 'new' }, received: new Map(), close() {} };
  }
  rejoin(reason) {
    this.rejoins.push(reason);
  }
  become(state) {
    this.state = state;
    this.signaling.state = state === 'connected' ? 'connected' : 'connecting';
    this.emit('state', state);
  }
  media(state) {
    if (!this.direct.publisher) return;
    this.direct.publisher.connection.connectionState = state;
    this.direct.subscriber.connection.connectionState = state;
  }
}

function setUp({ best = async () => 'websocket', direct = async () => false, media = async () => false, kept = null, forced, load = () => {} } = {}) { // prettier-ignore
  const storage = new Map(kept ? [['parley.way', JSON.stringify(kept)]] : []);
  const tunnels = [];
  const sockets = [];
  class Socket {
    constructor(...parts) {
      sockets.push(parts);
    }
  }
  const env = {
    now: () => now,
    date: () => 1_000_000 + now,
    random: () => 0,
    storage: {
      getItem: (key) => storage.get(key) ?? null,
      setItem: (key, value) => storage.set(key, value),
      removeItem: (key) => storage.delete(key),
    },
    bestWire: best,
    probeDirect: direct,
    probeMedia: media,
    loadTunnel: async (options) => {
      load();
      const made = { options, media: options.hasMedia ? new Tunnelled() : null, Socket: class TunnelSocket {} };
      tunnels.push(made);
      return made;
    },
  };
  const call = new FakeCall();
  call.signaling.WebSocket = Socket;
  const ladder = new Ladder({ url: 'https://x/v1/tunnel/sessions', forced, env, call, media: call.transports });
  const open = () => new call.signaling.WebSocket('wss://x', ['parley.v1']);
  return { ladder, call, tunnels, sockets, storage, open };
}

test('a call that is up by WebRTC looks for nothing', async () => {
  let looked = 0;
  const { ladder, call, sockets, open } = setUp({ best: async () => ((looked += 1), 'websocket') });
  call.become('joining');
  open();
  call.become('connected');
  call.media('connected');
  await pass(120_000);
  assert.deepEqual([ladder.way, looked, call.rejoins.length, sockets.length], ['direct', 0, 0, 1]);
});

test('whoever is alone has nothing to receive, and is up all the same', async () => {
  const { ladder, call, open } = setUp();
  call.become('joining');
  open();
  call.become('connected');
  call.media('connected');
  call.direct.subscriber.connection.connectionState = 'new';
  await pass(60_000);
  assert.deepEqual([ladder.way, call.rejoins], ['direct', []]);
});

test('media that is not up in time takes the best wire, and what is sent moves along', async () => {
  const { ladder, call, tunnels, open, storage } = setUp();
  await call.transports.setTrack('microphone', { kind: 'audio' });
  const { trackId } = call.transports.local.get('microphone');
  call.become('joining');
  open();
  call.become('connected');
  await pass(3500);
  assert.equal(ladder.way, 'direct');
  await pass(1000);
  assert.deepEqual([ladder.way, ladder.wire, call.rejoins], ['tunnel', 'websocket', ['way']]);
  assert.equal(call.transports.tunnel, null); // media goes on until the new socket is opened
  open();
  assert.equal(call.transports.tunnel, tunnels[0].media.tunnel);
  assert.equal(call.transports.local.get('microphone').trackId, trackId);
  assert.equal(JSON.parse(storage.get('parley.way')).wire, 'websocket');
});

test('a socket that does not open is not waited for', async () => {
  const { ladder, call } = setUp({ best: async () => 'longpoll' });
  call.become('joining');
  call.signaling.emit('lost', { reason: 'not-joined' });
  await settle();
  assert.deepEqual([ladder.way, ladder.wire, call.rejoins], ['tunnel', 'longpoll', ['way']]);
});

test('where only WebSockets are shut, only signaling takes the tunnel', async () => {
  const { ladder, call, tunnels, sockets, storage, open } = setUp({ best: async () => 'longpoll', media: async () => true });
  call.become('joining');
  call.signaling.emit('lost', { reason: 'not-joined' });
  await settle();
  assert.deepEqual([ladder.way, ladder.wire, call.rejoins], ['signaling', 'longpoll', ['way']]);
  assert.ok(open() instanceof tunnels[0].Socket);
  assert.deepEqual([call.transports.isTunnelled, sockets.length], [false, 0]);
  call.become('connected');
  call.media('connected');
  await pass(20_000);
  assert.equal(ladder.way, 'signaling');
  assert.equal(JSON.parse(storage.get('parley.way')).way, 'signaling');
  call.media('disconnected'); // it takes all of the call down where media fails, too
  await pass(9000);
  assert.deepEqual([ladder.way, call.rejoins], ['tunnel', ['way', 'way']]);
});

test('what comes up while a wire is looked for wins', async () => {
  let found;
  const { ladder, call } = setUp({ best: () => new Promise((resolve) => (found = resolve)) });
  call.become('joining');
  call.become('connected');
  await pass(3000);
  call.media('connected');
  found('websocket');
  await pass(5000);
  assert.deepEqual([ladder.way, call.rejoins], ['direct', []]);
});

test('where no wire passes nothing changes, and it is looked for again', async () => {
  let looked = 0;
  const { ladder, call } = setUp({ best: async () => ((looked += 1), null) });
  call.become('joining');
  call.become('connected');
  await pass(20_000);
  assert.equal(ladder.way, 'direct');
  assert.ok(looked >= 3 && looked <= 5, String(looked));
});

test('where a module does not come it is looked for again', async () => {
  const broken = () => {
    throw new TypeError('Failed to fetch dynamically imported module');
  };
  for (const part of ['best', 'media', 'load']) {
    let isBroken = true;
    const works = { best: async () => 'websocket', media: async () => false, load: () => {} };
    const { ladder, call } = setUp({ [part]: () => (isBroken ? broken() : works[part]()) });
    call.become('joining');
    await pass(10_000);
    assert.equal(ladder.way, 'direct', part);
    isBroken = false;
    await pass(10_000);
    assert.deepEqual([ladder.way, call.rejoins], ['tunnel', ['way']], part);
    call.become('ended');
  }
});

test('a call that was up has time to come back by itself', async () => {
  const { ladder, call } = setUp();
  call.become('joining');
  call.become('connected');
  call.media('connected');
  await pass(2000);
  call.media('disconnected');
  await pass(7500);
  assert.equal(ladder.way, 'direct');
  await pass(1500);
  assert.equal(ladder.way, 'tunnel');
});

test('a peer that does not answer is no reason where a relay passes', async () => {
  for (const [passes, way] of [[true, 'direct'], [false, 'tunnel']]) { // prettier-ignore
    const { ladder, call } = setUp({ direct: async () => passes });
    call.topology.side = 'mesh';
    call.topology.mesh.links.set('other', { isUp: false });
    call.become('joining');
    call.become('connected');
    await pass(5000);
    assert.equal(ladder.way, way);
    call.become('ended');
  }
});

test('in the tunnel it looks upward: first for WebRTC, then for a better wire', async () => {
  let isOpen = false;
  let best = 'longpoll';
  const { ladder, call, tunnels, open, sockets } = setUp({ best: async () => best, direct: async () => isOpen });
  call.become('joining');
  call.signaling.emit('lost', { reason: 'not-joined' });
  await settle();
  open();
  call.become('connected');
  best = 'websocket';
  await pass(31_000);
  assert.deepEqual([ladder.way, ladder.wire, tunnels[0].media.tunnel.used], ['tunnel', 'websocket', ['websocket']]);
  isOpen = true;
  await pass(31_000);
  assert.deepEqual([ladder.way, call.rejoins], ['direct', ['way', 'way']]);
  assert.equal(tunnels[0].media.isClosed, false);
  open();
  assert.equal(tunnels[0].media.isClosed, true);
  assert.equal(sockets.length, 1);
});

test('a way up that does not hold is tried less and less often', async () => {
  let probes = 0;
  const { ladder, call, open } = setUp({ direct: async () => ((probes += 1), true) });
  call.become('joining');
  call.signaling.emit('lost', { reason: 'not-joined' });
  await settle();
  call.rejoin = () => {
    open();
    call.become('connected');
    if (ladder.way === 'tunnel') return;
    call.direct.publisher = publisher('new');
    call.direct.subscriber = { connection: { connectionState: 'new' }, received: new Map(), close() {} };
  };
  call.rejoin();
  await pass(20 * 60_000);
  assert.ok(probes >= 3 && probes <= 6, String(probes));
  assert.equal(ladder.way, 'tunnel');
});

test('what worked last is taken at once, for a day, and forgotten when WebRTC holds', async () => {
  const fresh = setUp({ kept: { way: 'tunnel', wire: 'streaming', at: 1_000_000 }, direct: async () => true });
  await fresh.ladder.begin();
  assert.deepEqual([fresh.ladder.way, fresh.ladder.wire], ['tunnel', 'streaming']);
  fresh.call.become('joining');
  fresh.open();
  fresh.call.become('connected');
  await pass(3000);
  assert.equal(fresh.ladder.way, 'direct'); // it looks upward soon
  fresh.open();
  fresh.call.direct.publisher = publisher('connected');
  fresh.call.direct.subscriber = { connection: { connectionState: 'connected' }, received: new Map(), close() {} };
  await pass(11_000);
  assert.equal(fresh.storage.size, 0);
  for (const kept of [{ way: 'tunnel', wire: 'streaming', at: 0 - 90_000_000 }, { way: 'tunnel', wire: 'pigeon', at: 1_000_000 }, 7]) { // prettier-ignore
    const { ladder } = setUp({ kept });
    await ladder.begin();
    assert.equal(ladder.way, 'direct');
  }
});

test('where what worked last cannot be loaded WebRTC is tried, and a forced wire is refused', async () => {
  const load = () => {
    throw new TypeError('Failed to fetch dynamically imported module');
  };
  const { ladder } = setUp({ kept: { way: 'tunnel', wire: 'streaming', at: 1_000_000 }, load });
  await ladder.begin();
  assert.equal(ladder.way, 'direct');
  await assert.rejects(setUp({ forced: 'longpoll', load }).ladder.begin(), TypeError);
});

test('a wire that fails is not taken again, and where none passes WebRTC is tried', async () => {
  let best = 'longpoll';
  const { ladder, tunnels } = setUp({ kept: { way: 'tunnel', wire: 'websocket', at: 1_000_000 }, best: async () => best });
  await ladder.begin();
  const { choose, failed } = tunnels[0].options;
  assert.equal(await choose(), 'websocket');
  failed('websocket');
  assert.equal(await choose(), 'longpoll');
  failed('longpoll');
  best = null;
  await assert.rejects(choose());
  assert.equal(ladder.way, 'direct');
});

test('a forced wire is kept, and nothing is looked for', async () => {
  let probes = 0;
  const { ladder, call, tunnels } = setUp({ forced: 'longpoll', direct: async () => ((probes += 1), true) });
  await ladder.begin();
  call.become('joining');
  call.become('connected');
  tunnels[0].options.failed('longpoll');
  await pass(200_000);
  assert.deepEqual([ladder.way, ladder.wire, probes], ['tunnel', 'longpoll', 0]);
});

test('the best wire is the first of the order that passes, and nobody waits for the slow for long', async () => {
  let signals = [];
  /** @param {Record<string, [number, number | null | 'fails']>} outcomes */
  const best = (outcomes) =>
    bestWire('u', {}, (kind, url, network, signal) => {
      signals.push(signal);
      const [after, result] = outcomes[kind];
      return new Promise((resolve, reject) => {
        setTimeout(() => (result === 'fails' ? reject(new Error('x')) : resolve(result)), after);
      });
    });
  const cases = [
    [{ websocket: [300, 5], streaming: [100, 5], longpoll: [100, 5] }, 'websocket', 500],
    [{ websocket: [100, 'fails'], streaming: [200, 5], longpoll: [100, 5] }, 'streaming', 500],
    [{ websocket: [100, 'fails'], streaming: [9000, 5], longpoll: [100, 5] }, 'longpoll', 2000],
    [{ websocket: [9000, 5], streaming: [9000, 5], longpoll: [9000, 5] }, null, 5000],
    [{ websocket: [100, 'fails'], streaming: [100, null], longpoll: [100, 'fails'] }, null, 500],
  ];
  for (const [outcomes, expected, withinMs] of cases) {
    let got;
    signals = [];
    best(outcomes).then((kind) => (got = kind));
    assert.ok(signals.every(({ aborted }) => !aborted));
    await pass(withinMs);
    assert.equal(got, expected);
    assert.deepEqual(signals.map(({ aborted }) => aborted), [true, true, true]); // nobody goes on in vain
  }
  assert.equal(WIRE_KINDS.length, 3);
});
