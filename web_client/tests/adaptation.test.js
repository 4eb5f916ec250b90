import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Adaptation, LEAST_RECEIVING, STEPS } from '../protocol/adaptation.js';

const GOOD = { loss: 0.01, roundTripS: 0.05 };
const LOSSY = { loss: 0.08, roundTripS: 0.05 };
const SLOW = { loss: 0, roundTripS: 0.6 };
const LOWEST = STEPS.length - 1;

/** Feeds one sample a second; gives each change as [second, level]. */
function feed(adaptation, link, seconds, { from = 0, least } = {}) {
  const changes = [];
  for (let second = from; second < from + seconds; second += 1) {
    const sample = typeof link === 'function' ? link(second, adaptation.level) : link;
    if (adaptation.take({ now: second * 1000, least, ...sample })) changes.push([second, adaptation.level]);
  }
  return changes;
}

/** Random numbers that are the same in every run. */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A link that is good and bad for random times, with samples at random times. */
function randomLink(seed, count = 600) {
  const random = randomFrom(seed);
  const samples = [];
  let now = 0;
  let left = 0;
  let kind = GOOD;
  for (let index = 0; index < count; index += 1) {
    if (left <= 0) {
      kind = [GOOD, LOSSY, SLOW][Math.floor(random() * 3)];
      left = random() ** 3 * 60_000;
    }
    const step = random() < 0.01 ? 20_000 : 500 + random() * 1000;
    now += step;
    left -= step;
    samples.push({ now, ...kind });
  }
  return samples;
}

const SEEDS = Array.from({ length: 200 }, (_, index) => index + 1);

test('five seconds of loss over 5 % or of a round trip over 400 ms cost one step each, in order', () => {
  for (const bad of [LOSSY, SLOW]) {
    const adaptation = new Adaptation();
    assert.deepEqual(feed(adaptation, bad, 60), [[5, 1], [10, 2], [15, 3], [20, 4], [25, 5]]); // prettier-ignore
    assert.equal(adaptation.step, 'no-video');
  }
});

test('a link at the limit is good enough', () => {
  assert.deepEqual(feed(new Adaptation(), { loss: 0.05, roundTripS: 0.4 }, 60), []);
});

test('a bad moment that is over before five seconds costs nothing', () => {
  assert.deepEqual(
    feed(new Adaptation(), (second) => (second % 6 < 5 ? LOSSY : GOOD), 120),
    [],
  );
});

test('a link that is good again gives one step back each ten seconds', () => {
  const adaptation = new Adaptation();
  feed(adaptation, LOSSY, 26);
  assert.deepEqual(feed(adaptation, GOOD, 120, { from: 26 }), [[36, 4], [46, 3], [56, 2], [66, 1], [76, 0]]); // prettier-ignore
});

test('a step up that does not hold doubles the wait to 60 seconds at most', () => {
  const adaptation = new Adaptation();
  const changes = feed(adaptation, (_, level) => (level < 2 ? LOSSY : GOOD), 600);
  const ups = changes.filter(([, level], index) => index > 0 && level < changes[index - 1][1]);
  const waits = ups.map(([second]) => second - changes.findLast(([at]) => at < second)[0]);
  // A good second comes after the step down, so each wait is one longer.
  assert.deepEqual(waits.slice(0, 5), [11, 21, 41, 61, 61]);
  assert.ok(waits.every((wait) => wait <= 61));
});

test('the wait is short again after steps that held, and after a minute with everything', () => {
  const adaptation = new Adaptation();
  feed(adaptation, (_, level) => (level < 2 ? LOSSY : GOOD), 300);
  assert.equal(adaptation.waitMs, 60_000);
  feed(adaptation, GOOD, 130, { from: 300 });
  assert.equal(adaptation.level, 0);
  assert.ok(adaptation.waitMs < 60_000);
  feed(adaptation, GOOD, 61, { from: 430 });
  assert.equal(adaptation.waitMs, 10_000);
});

test('nothing is given up that would change nothing', () => {
  const adaptation = new Adaptation();
  feed(adaptation, LOSSY, 60, { least: LEAST_RECEIVING });
  assert.equal(adaptation.step, 'thumbnails');
  assert.deepEqual(feed(adaptation, LOSSY, 5, { from: 60 }), [[60, 3]]); // the camera came on: it goes on from there
});

test('a machine that slept starts to count anew', () => {
  const adaptation = new Adaptation();
  assert.equal(adaptation.take({ now: 0, ...LOSSY }), false);
  assert.equal(adaptation.take({ now: 3_600_000, ...LOSSY }), false);
  assert.equal(adaptation.take({ now: 3_605_000, ...LOSSY }), true);
});

test('a person who wants to be seen is sent at the lowest layer until the link has recovered', () => {
  const adaptation = new Adaptation();
  feed(adaptation, LOSSY, 30);
  assert.equal(adaptation.keepVideo(30_000), true);
  assert.equal(adaptation.step, 'lowest-layer');
  assert.deepEqual(feed(adaptation, LOSSY, 120, { from: 30 }), []);
  feed(adaptation, GOOD, 120, { from: 150 });
  assert.equal(adaptation.level, 0);
  feed(adaptation, LOSSY, 60, { from: 270 });
  assert.equal(adaptation.step, 'no-video');
});

test('a wish to be seen changes nothing where video is sent', () => {
  const adaptation = new Adaptation();
  assert.equal(adaptation.keepVideo(0), false);
  feed(adaptation, LOSSY, 60, { from: 0 });
  assert.equal(adaptation.level, LOWEST);
});

test('whatever the link does, a step is one step, and down and up take their time', () => {
  for (const seed of SEEDS) {
    const adaptation = new Adaptation();
    let last = { at: Number.NEGATIVE_INFINITY, level: 0 };
    for (const sample of randomLink(seed)) {
      if (!adaptation.take(sample)) {
        assert.equal(adaptation.level, last.level);
        continue;
      }
      const by = adaptation.level - last.level;
      assert.equal(Math.abs(by), 1, `seed ${seed}`);
      assert.equal(by > 0, sample.loss > 0.05 || sample.roundTripS > 0.4);
      assert.ok(sample.now - last.at >= (by > 0 ? 5000 : 10_000), `seed ${seed}`);
      last = { at: sample.now, level: adaptation.level };
    }
  }
});

test('whatever was before, a good link brings everything back within five minutes', () => {
  for (const seed of SEEDS) {
    const adaptation = new Adaptation();
    const samples = randomLink(seed);
    for (const sample of samples) adaptation.take(sample);
    assert.ok(adaptation.waitMs >= 10_000 && adaptation.waitMs <= 60_000);
    const from = Math.ceil(samples.at(-1).now / 1000);
    const changes = feed(adaptation, GOOD, 302, { from });
    assert.equal(adaptation.level, 0, `seed ${seed}`);
    assert.ok(changes.every(([, level], index) => index === 0 || level < changes[index - 1][1]));
  }
});

test('whatever was before, a bad link takes everything within half a minute', () => {
  for (const seed of SEEDS) {
    const adaptation = new Adaptation();
    const samples = randomLink(seed);
    for (const sample of samples) adaptation.take(sample);
    feed(adaptation, LOSSY, 31, { from: Math.ceil(samples.at(-1).now / 1000) });
    assert.equal(adaptation.level, LOWEST, `seed ${seed}`);
  }
});

test('a link that carries one step and not the next changes at most twice in a minute, once it is known', () => {
  for (let carried = 1; carried <= LOWEST; carried += 1) {
    const adaptation = new Adaptation();
    const link = (_, level) => (level < carried ? SLOW : GOOD);
    feed(adaptation, link, 180);
    const changes = feed(adaptation, link, 600, { from: 180 }).map(([second]) => second);
    for (const start of changes) {
      assert.ok(changes.filter((second) => second >= start && second < start + 60).length <= 2, `${carried}`);
    }
    assert.ok(changes.length <= 20);
  }
});
