/**
 * Sound in the place of what was lost: the last pitch period again and again, which fades to silence (as ITU-T G.711
 * Appendix I does). WebCodecs' Opus decoder takes packets only and conceals nothing. Pure; mono at 48 kHz.
 */

const MS = 48;
/** Periods that are looked for: voices have 67 to 400 Hz. */
export const SHORTEST = 2.5 * MS;
export const LONGEST = 15 * MS;
/** What is compared to find one. */
const TEMPLATE = 5 * MS;
/** Only each such sample is compared: the period of a voice is found all the same. */
const EACH = 4;
/** As loud as before until here, and silent from there. */
const FADE_FROM = 10 * MS;
const FADE_TO = 60 * MS;
/** One sound goes over into another. */
export const BLEND = 5 * MS;
/** Of so much the longest period can be told. */
export const LOOK = LONGEST + TEMPLATE;
/** After so much there is silence. */
export const CONCEALED = FADE_TO;

/** How many samples ago `past` was most like its end. @param {Float32Array} past @returns {number} */
export function periodOf(past) {
  const length = Math.min(TEMPLATE, past.length >> 1);
  const from = past.length - length;
  let [best, found] = [-Infinity, Math.min(SHORTEST, from)];
  for (let lag = SHORTEST; lag <= Math.min(LONGEST, from); lag += 1) {
    let [product, power] = [0, 1e-9];
    for (let at = from; at < past.length; at += EACH) {
      product += past[at] * past[at - lag];
      power += past[at - lag] ** 2;
    }
    const likeness = product / Math.sqrt(power);
    if (likeness > best) [best, found] = [likeness, lag];
  }
  return found;
}

/** How `past` may have gone on. @param {Float32Array} past @param {number} count @returns {Float32Array} */
export function continued(past, count) {
  const out = new Float32Array(count);
  const period = periodOf(past);
  if (!period) return out;
  const from = past.length - period;
  for (let at = 0; at < Math.min(count, FADE_TO); at += 1) {
    const gain = Math.min(1, (FADE_TO - at) / (FADE_TO - FADE_FROM));
    out[at] = gain * past[from + (at % period)];
  }
  return out;
}

/**
 * Lets `tail` go over into the beginning of `samples`, in place.
 * @param {Float32Array} tail @param {Float32Array} samples @param {number} [length]
 */
export function blend(tail, samples, length = BLEND) {
  const count = Math.min(length, samples.length);
  for (let at = 0; at < count; at += 1) {
    const share = (at + 1) / (count + 1);
    samples[at] = share * samples[at] + (1 - share) * (tail[at] ?? 0);
  }
}
