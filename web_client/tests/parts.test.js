import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { afterEach, beforeEach, mock, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { Api } from '../protocol/api.js';
import { Backoff } from '../protocol/backoff.js';
import { allowedEncodings, encodingsFor } from '../protocol/publisher.js';
import { ReceivePlan } from '../protocol/receive.js';
import { JoinTrace } from '../protocol/trace.js';
import { ICONS } from '../ui/icons.js';
import { bestGrid, focusRects, gridRects, pageSize } from '../ui/layout.js';
import { isElsewhere } from '../ui/provider_screen.js';
import { dateOf, duration, initials, meetingIdOf, reason } from '../ui/texts.js';

beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }));
afterEach(() => mock.timers.reset());

const ROOT = new URL('..', import.meta.url);
const files = (folder, ending) => readdirSync(new URL(folder, ROOT)).filter((name) => name.endsWith(ending));

test('jitter takes at most half of a step away', () => {
  const least = new Backoff({ random: () => 1 });
  assert.deepEqual(
    Array.from({ length: 7 }, () => least.next()),
    [0, 250, 500, 1000, 2000, 2500, 2500],
  );
});

test('a problem document becomes its slug, with what it carries', async () => {
  const body = { type: 'https://x.example/problems/room-full', detail: 'Full.', limit: 2 };
  const fetch = async () => new Response(JSON.stringify(body), { status: 409, headers: { 'Retry-After': '3' } });
  const api = new Api({ token: async () => 't', fetch });
  await assert.rejects(api.meeting('m'), (error) => {
    assert.deepEqual([error.code, error.detail, error.members.limit, error.retryAfterS], ['room-full', 'Full.', 2, 3]);
    return !error.isRetryable;
  });
});

test('a server that does not answer is a network problem worth a retry', async () => {
  const api = new Api({ token: async () => 't', fetch: async () => Promise.reject(new TypeError('x')) });
  await assert.rejects(api.me(), (error) => error.code === 'network' && error.isRetryable);
});

test('what creates carries an Idempotency-Key, and the bearer token', async () => {
  const seen = [];
  const fetch = async (url, options) => (seen.push([url, options]), Response.json({}));
  await new Api({ token: async () => 'tok', fetch }).createMeeting({ hostId: 'h' });
  const [url, { headers, method }] = seen[0];
  assert.deepEqual([url, method, headers.Authorization], ['/v1/meetings', 'POST', 'Bearer tok']);
  assert.match(headers['Idempotency-Key'], /^[0-9a-f-]{36}$/);
});

test('a camera is sent in as many layers as its width carries, the largest at full size', () => {
  /** @param {number} width */
  const layers = (width) =>
    encodingsFor('camera', { width }).map(({ rid, scaleResolutionDownBy }) => [rid, scaleResolutionDownBy]);
  const three = [
    ['q', 4],
    ['h', 2],
    ['f', 1],
  ];
  const two = [
    ['q', 2],
    ['f', 1],
  ];
  assert.deepEqual([1920, 1280, 960].map(layers), [three, three, three]);
  assert.deepEqual([959, 640, 480].map(layers), [two, two, two]);
  assert.equal(encodingsFor('camera', { width: 320 }).length, 1);
  assert.equal(encodingsFor('screen', { width: 1920 }).length, 1);
});

test('each step on a slow link takes the top layer, then half of the rate; a share is never taken away', () => {
  const full = encodingsFor('camera', { width: 1280 });
  const sent = (source, encodings, limit, wanted = {}) =>
    allowedEncodings(source, encodings, limit, wanted).map(({ active, maxBitrate }) => (active ? maxBitrate : 0));
  const [q, h, f] = full.map(({ maxBitrate }) => maxBitrate);
  assert.deepEqual([0, 1, 2, 3].map((limit) => sent('camera', full, limit)), [[q, h, f], [q, h, 0], [q, 0, 0], [0, 0, 0]]); // prettier-ignore
  const two = encodingsFor('camera', { width: 640 });
  const [low, high] = two.map(({ maxBitrate }) => maxBitrate);
  assert.deepEqual([0, 1, 2, 3].map((limit) => sent('camera', two, limit)), [[low, high], [low, 0], [low / 2, 0], [0, 0]]); // prettier-ignore
  const one = [{ maxBitrate: 400 }];
  assert.deepEqual([0, 1, 2, 3].map((limit) => sent('camera', one, limit)), [[400], [200], [100], [0]]);
  assert.deepEqual([0, 1, 2, 3].map((limit) => sent('screen', one, limit)), [[400], [200], [100], [100]]);
  assert.deepEqual(sent('microphone', one, 3), [400]);
});

test('a layer is sent where the SFU wants it and the link carries it', () => {
  const full = encodingsFor('camera', { width: 1280 });
  const active = (limit, wanted, encodings = full) =>
    allowedEncodings('camera', encodings, limit, wanted).map((each) => each.active);
  assert.deepEqual(active(0, { q: true, h: false, f: true }), [true, false, true]);
  assert.deepEqual(active(1, { q: true, h: false, f: true }), [true, false, false]);
  assert.deepEqual(active(0, { q: false, h: false, f: false }), [false, false, false]);
  assert.deepEqual(active(3, { q: true, h: true, f: true }), [false, false, false]);
  // Wanted is only what the link does not carry: the next lower one goes on.
  assert.deepEqual(active(1, { q: false, h: false, f: true }), [false, true, false]);
  assert.deepEqual(active(0, { f: false }, [{ maxBitrate: 400 }]), [false]);
});

test('sizes are gathered and sent once, and again to a new connection', () => {
  const sent = [];
  const plan = new ReceivePlan((payload) => (sent.push(payload), true));
  plan.set('a', { width: 10.4, height: 5 });
  plan.set('a', { width: 20.6, height: 5 });
  mock.timers.tick(200);
  plan.set('a', { width: 20.6, height: 5 });
  mock.timers.tick(200);
  assert.deepEqual(sent, [{ tracks: [{ trackId: 'a', width: 21, height: 5, visible: true, pinned: false }] }]);
  plan.repeat();
  assert.equal(sent.length, 2);
});

test('a slow link asks for half the size, then for thumbnails, and again for all', () => {
  const sent = [];
  const plan = new ReceivePlan((payload) => (sent.push(payload), true));
  plan.set('a', { width: 1280, height: 720, pinned: true });
  plan.set('b', { width: 160, height: 90, visible: false });
  plan.set('c', { width: 0, height: 0 });
  const told = () => (mock.timers.tick(200), sent.at(-1).tracks.map(({ width, height }) => [width, height]));
  assert.deepEqual(told(), [[1280, 720], [160, 90], [0, 0]]); // prettier-ignore
  plan.limit('half');
  assert.deepEqual(told(), [[640, 360], [80, 45], [0, 0]]); // prettier-ignore
  plan.limit('thumbnails');
  assert.deepEqual(told(), [[180, 101], [80, 45], [0, 0]]); // prettier-ignore
  plan.limit('none');
  assert.deepEqual(told()[0], [1280, 720]);
  assert.deepEqual(
    sent.at(-1).tracks.map(({ visible, pinned }) => [visible, pinned]),
    [[true, true], [false, false], [true, false]], // prettier-ignore
  );
});

test('a track that is gone is asked for no more, and one in sight before one that is not', () => {
  const sent = [];
  const plan = new ReceivePlan((payload) => (sent.push(payload), true));
  for (let index = 0; index < 2500; index += 1) plan.set(`t${index}`, { width: 9, height: 9, visible: index >= 600 });
  plan.flush();
  assert.equal(sent[0].tracks.length, 2000);
  assert.equal(sent[0].tracks.filter(({ visible }) => visible).length, 1900);
  plan.retain(new Map([['t2400', true]]));
  plan.flush();
  assert.deepEqual(
    sent[1].tracks.map(({ trackId }) => trackId),
    ['t2400'],
  );
});

test('sizes that the connection did not take are sent with the next ones', () => {
  const sent = [];
  let isUp = false;
  const plan = new ReceivePlan((payload) => isUp && (sent.push(payload), true));
  plan.set('a', { width: 5, height: 5 });
  mock.timers.tick(200);
  isUp = true;
  plan.repeat();
  assert.equal(sent.length, 1);
});

test('the report holds finished spans under the root', () => {
  let now = 0;
  const trace = new JoinTrace(() => (now += 1));
  const span = trace.start('rest.join');
  trace.start('never ended');
  span.end();
  const { spans } = trace.report();
  assert.deepEqual(
    spans.map(({ name }) => name),
    ['join', 'rest.join'],
  );
  assert.equal(spans[1].parentSpanId, spans[0].spanId);
  assert.ok(spans.every(({ startMs, endMs }) => endMs > startMs));
});

test('the grid leaves no tile outside the stage and none on another', () => {
  for (const [width, height] of [
    [1280, 640],
    [380, 700],
    [700, 300],
  ]) {
    for (const count of [1, 2, 3, 5, 9, 20, 49]) {
      const rects = gridRects(count, { x: 0, y: 0, width, height }, 8);
      assert.equal(rects.length, count);
      for (const [index, a] of rects.entries()) {
        assert.ok(a.x >= -0.01 && a.y >= -0.01 && a.x + a.width <= width + 0.01 && a.y + a.height <= height + 0.01);
        for (const b of rects.slice(index + 1)) {
          const apart = a.x + a.width <= b.x || b.x + b.width <= a.x || a.y + a.height <= b.y || b.y + b.height <= a.y;
          assert.ok(apart, `${count} in ${width}x${height}`);
        }
      }
    }
  }
});

test('no other number of columns gives larger tiles', () => {
  const best = bestGrid(5, 1280, 640, 8);
  assert.equal(best.columns, 3);
  assert.ok(bestGrid(2, 380, 700, 8).columns === 1);
});

test('a page holds no tile that is too small to see', () => {
  assert.ok(pageSize(1280, 640) <= 49);
  assert.ok(pageSize(380, 700) >= 12);
  assert.ok(pageSize(100, 50) >= 2);
});

test('the strip keeps free what is reserved for the pager', () => {
  for (const stage of [{ width: 1280, height: 640 }, { width: 390, height: 700 }]) {
    const { focus, strip, fits } = focusRects(30, stage, 8, 48);
    assert.equal(strip.length, fits);
    assert.ok(strip.every(({ y, height }) => y + height <= stage.height - 48 + 0.01));
    assert.ok(strip.every(({ x, y }) => x >= focus.width || y >= focus.height));
  }
});

test('names become initials in any script', () => {
  assert.deepEqual(['Ann Bee Cee', 'solo', '', '  ', 'משתמש בדיקה'].map(initials), ['AC', 'S', '?', '?', 'מב']);
});

test('a code is found in a link and alone, and nothing else is taken for one', () => {
  const id = '3f6c1b62-6f0e-5d43-9a51-2f7f7a3f8f10';
  assert.equal(meetingIdOf(` https://h.example/m/${id}?x=1 `), id);
  assert.equal(meetingIdOf(id), id);
  assert.equal(meetingIdOf('https://h.example/other'), '');
  assert.equal(meetingIdOf('what is this'), '');
});

test('times are said as people say them', () => {
  assert.equal(duration(3909), '1:05:09');
  assert.equal(duration(9), '0:09');
  assert.match(dateOf('2026-05-02T10:00:00', new Date('2026-05-02T09:00:00')), /^Today, /);
  assert.match(dateOf('2026-05-03T00:10:00', new Date('2026-05-02T23:50:00')), /^Tomorrow, /);
});

test('no reason shows its code', () => {
  for (const code of ['room-full', 'wrong-password', 'never-heard-of']) {
    const { title, text } = reason(code);
    assert.ok(!`${title} ${text}`.includes(code));
  }
});

test('the first page downloads every module at once', () => {
  const html = readFileSync(new URL('index.html', ROOT), 'utf8');
  const modules = ['protocol', 'ui'].flatMap((folder) => files(folder, '.js').map((name) => `/${folder}/${name}`));
  const preloaded = [...html.matchAll(/modulepreload" href="([^"]+)"/g)].map((match) => match[1]);
  assert.deepEqual(preloaded.toSorted(), modules.filter((name) => name !== '/ui/main.js').toSorted());
});

test('the page stays under 200 kB on the wire, and no file over 500 lines', () => {
  let total = 0;
  for (const [folder, ending] of [
    ['protocol', '.js'],
    ['ui', '.js'],
    ['styles', '.css'],
    ['.', '.html'],
  ]) {
    for (const name of files(folder, ending)) {
      const content = readFileSync(new URL(`${folder}/${name}`, ROOT));
      assert.ok(content.toString().split('\n').length <= 501, name);
      total += gzipSync(content).length;
    }
  }
  assert.ok(total < 200_000, String(total));
});

test('every icon that is named exists, and every icon is used', () => {
  const source = ['ui', 'ui/test']
    .flatMap((folder) => files(folder, '.js').map((name) => `${folder}/${name}`))
    .filter((name) => name !== 'ui/icons.js')
    .map((name) => readFileSync(new URL(name, ROOT), 'utf8'))
    .join('\n');
  for (const [, name] of source.matchAll(/icon(?:Button)?\(\s*'([a-z-]+)'/g)) assert.ok(ICONS[name], name);
  for (const name of Object.keys(ICONS)) assert.ok(source.includes(`'${name}'`), `${name} is not used`);
  assert.ok(statSync(new URL('ui/icons.LICENSE', ROOT)).size > 0);
});

test('a meeting is elsewhere where it names another provider', () => {
  const at = (/** @type {object | undefined} */ settings) => isElsewhere(/** @type {any} */ ({ settings }));
  assert.deepEqual([at(undefined), at({}), at({ mediaProvider: 'parley' })], [false, false, false]);
  assert.deepEqual([at({ mediaProvider: 'acs' }), at({ mediaProvider: 'livekit' })], [true, true]);
});
