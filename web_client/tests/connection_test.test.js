import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ConnectionTest, WAYS } from '../protocol/probes/connection_test.js';
import { relaysFor } from '../protocol/probes/relay.js';

const SERVERS = [
  {
    urls: ['turn:t:3478?transport=udp', 'turn:t:3478?transport=tcp', 'turns:t:443?transport=tcp'],
    username: 'u',
    credential: 'c',
  },
];

/** A world in which what is named does not get through. */
function setUp({ blocked = [], iceServers = SERVERS, hasTunnel = true } = {}) {
  const asked = [];
  const sockets = [];
  const fetch = async (url, { method = 'GET', headers = {}, signal } = {}) => {
    asked.push([method, new URL(url).pathname, headers]);
    if (blocked.includes('http')) throw new TypeError('refused');
    if (method === 'POST') {
      return hasTunnel
        ? new Response('{"sessionId":"s","resumeSecret":"secret"}', { status: 201 })
        : new Response('', { status: 404 });
    }
    if (method === 'DELETE') return new Response(null, { status: 204 });
    const isStream = url.endsWith('/stream');
    if (isStream && blocked.includes('stream')) {
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
    }
    return new Response(new Uint8Array(12));
  };
  class Socket {
    constructor(url, protocols) {
      this.protocols = protocols;
      sockets.push(this);
      if (blocked.includes('answers')) return;
      const isClosed = blocked.includes('websocket');
      setTimeout(() => {
        if (isClosed) this.onerror?.({});
        else {
          this.onopen?.({});
          this.onmessage?.({ data: new ArrayBuffer(12) });
        }
      });
    }
    send() {
      setTimeout(() => this.onmessage?.({ data: new ArrayBuffer(12) }));
    }
    close() {
      this.isClosed = true;
      this.onclose?.({});
    }
  }
  class Connection {
    constructor({ iceServers: [{ urls }], iceTransportPolicy }) {
      assert.equal(iceTransportPolicy, 'relay');
      this.isBlocked = blocked.some((way) => urls[0].includes(way));
    }
    createDataChannel() {
      const channel = { send: () => setTimeout(() => channel.onmessage?.({})) };
      if (!this.isBlocked) setTimeout(() => channel.onopen?.({}), 5);
      return channel;
    }
    async setLocalDescription() {
      this.localDescription = {};
    }
    async setRemoteDescription() {}
    close() {}
  }
  const api = {
    iceServers: async () => {
      if (blocked.includes('http')) throw new Error('network');
      return { iceServers };
    },
  };
  const options = { api, origin: 'https://parley.example', fetch, WebSocket: Socket, RTCPeerConnection: Connection };
  return { test: new ConnectionTest({ ...options, limitMs: 1500 }), asked, sockets };
}

const verdicts = (results) => Object.fromEntries([...results].map(([way, { verdict }]) => [way, verdict]));

test('where everything passes, everything works, and the sessions are ended', async () => {
  const { test: made, asked } = setUp();
  const seen = [];
  made.on('result', ({ way, verdict }) => seen.push(`${way} ${verdict}`));
  const results = await made.run();
  assert.deepEqual(verdicts(results), Object.fromEntries(WAYS.map((way) => [way, 'works'])));
  assert.ok(seen.indexOf('turn-udp testing') < seen.indexOf('turn-udp works'));
  assert.equal(asked.filter(([method]) => method === 'DELETE').length, 3);
  assert.ok(asked.filter(([, path]) => path.endsWith('/poll')).every(([, , h]) => h.Authorization === 'Bearer secret'));
});

test('what is blocked says so, and why, and holds nothing up', async () => {
  const { test: made } = setUp({ blocked: ['transport=udp', 'websocket', 'stream'] });
  const results = await made.run();
  assert.equal(results.get('turn-udp').verdict, 'blocked');
  assert.equal(results.get('turn-udp').why, 'Nothing came back in time.');
  assert.equal(results.get('turn-tcp').verdict, 'works');
  assert.equal(results.get('signaling').why, 'WebSockets do not get through.');
  assert.equal(results.get('tunnel-websocket').verdict, 'blocked');
  assert.equal(results.get('tunnel-stream').verdict, 'blocked');
  assert.equal(results.get('tunnel-poll').verdict, 'works');
});

test('what does not answer is given up, and nothing of it stays behind', async () => {
  const { test: made, asked, sockets } = setUp({ blocked: ['answers'] });
  const results = await made.run();
  assert.equal(results.get('signaling').why, 'Nothing came back in time.');
  assert.equal(results.get('tunnel-websocket').why, 'Nothing came back in time.');
  await new Promise((resolve) => setTimeout(resolve));
  assert.deepEqual(sockets.map(({ isClosed }) => isClosed), [true, true]);
  assert.equal(asked.filter(([method]) => method === 'DELETE').length, 3);
});

test('a server that cannot be reached is no exception', async () => {
  const { test: made } = setUp({ blocked: ['http', 'websocket'] });
  const results = await made.run();
  assert.deepEqual(new Set([...results.values()].map(({ verdict }) => verdict)), new Set(['blocked']));
});

test('a server without relays and tunnels does not offer them', async () => {
  const { test: made } = setUp({ iceServers: [], hasTunnel: false });
  const results = await made.run();
  assert.equal(results.get('turn-tls').verdict, 'absent');
  assert.equal(results.get('tunnel-poll').verdict, 'absent');
  assert.equal(results.get('signaling').verdict, 'works');
});

test('each way has its own relays', () => {
  assert.deepEqual(relaysFor(SERVERS, 'turn-udp')[0].urls, ['turn:t:3478?transport=udp']);
  assert.deepEqual(relaysFor(SERVERS, 'turn-tcp')[0].urls, ['turn:t:3478?transport=tcp']);
  assert.deepEqual(relaysFor(SERVERS, 'turn-tls')[0].urls, ['turns:t:443?transport=tcp']);
  assert.deepEqual(relaysFor([{ urls: 'turn:t' }], 'turn-udp')[0].urls, ['turn:t']);
  assert.deepEqual(relaysFor([{ urls: 'stun:t' }], 'turn-udp'), []);
});
