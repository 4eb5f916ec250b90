/**
 * Loss and round trip of one's own link, from the getStats of both peer connections.
 *
 * Loss is taken over the last three seconds, so that a few packets more or less do not decide. What one sends is told by
 * the SFU's reports. What one receives also lacks what was lost between its publisher and the SFU; so it is counted by
 * publisher, and the middle one stands for the link: one of several on a bad link changes nothing for the others. Where
 * only one is received nobody can tell whose link it is, so `ownLoss` leaves that out.
 */

const WINDOW_MS = 3000;
/** Fewer packets in the window say nothing (a silent microphone). */
const LEAST_PACKETS = 20;
const KEPT = new Set(['candidate-pair', 'inbound-rtp', 'outbound-rtp', 'remote-inbound-rtp']);

/**
 * @typedef {Record<string, any>} Entry
 * @typedef {{connection: RTCPeerConnection, publishers?: Map<string, string>}} Measured
 *   `publishers` tells by mid who sends what is received
 * @typedef {{at: number, entries: Map<string, Entry>}} Snapshot
 */

/** Lost of all, 0 to 1; null where there were too few. @param {number} lost @param {number} all @returns {number | null} */
function fraction(lost, all) {
  return all < LEAST_PACKETS ? null : Math.min(1, Math.max(0, lost / all));
}

/** @param {Snapshot} first @param {Snapshot} last @returns {number | null} */
function sentLoss(first, last) {
  let lost = 0;
  let all = 0;
  for (const report of last.entries.values()) {
    if (report.type !== 'remote-inbound-rtp' || typeof report.fractionLost !== 'number') continue;
    const sent = last.entries.get(report.localId)?.packetsSent ?? 0;
    const count = Math.max(0, sent - (first.entries.get(report.localId)?.packetsSent ?? sent));
    lost += count * report.fractionLost;
    all += count;
  }
  return fraction(lost, all);
}

/** @param {Snapshot} first @param {Snapshot} last @param {Map<string, string>} publishers @returns {{loss: number, isOwn: boolean}} */
function receivedLoss(first, last, publishers) {
  /** @type {Map<string, {lost: number, all: number}>} */
  const sums = new Map();
  for (const [id, { type, mid, packetsLost = 0, packetsReceived = 0 }] of last.entries) {
    const before = first.entries.get(id);
    if (type !== 'inbound-rtp' || !before) continue;
    const publisher = publishers.get(mid) ?? '';
    const sum = sums.get(publisher) ?? { lost: 0, all: 0 };
    // Packets that came late after all count backwards.
    const lost = packetsLost - (before.packetsLost ?? 0);
    sum.lost += lost;
    sum.all += Math.max(0, lost) + packetsReceived - (before.packetsReceived ?? 0);
    sums.set(publisher, sum);
  }
  const known = [...sums.values()].map(({ lost, all }) => fraction(lost, all)).filter((value) => value !== null);
  known.sort((a, b) => a - b);
  return { loss: known[Math.floor((known.length - 1) / 2)] ?? 0, isOwn: known.length > 1 };
}

/** Of the pair in use; of the SFU's reports where the browser does not tell it. @param {Snapshot} snapshot @returns {number} seconds */
function roundTrip({ entries }) {
  let reported = 0;
  for (const entry of entries.values()) {
    const { type, nominated, state, currentRoundTripTime, roundTripTime } = entry;
    const isInUse = type === 'candidate-pair' && nominated && state === 'succeeded';
    if (isInUse && typeof currentRoundTripTime === 'number') return currentRoundTripTime;
    if (type === 'remote-inbound-rtp' && roundTripTime > reported) reported = roundTripTime;
  }
  return reported;
}

export class LinkMeter {
  /** @type {WeakMap<RTCPeerConnection, Snapshot[]>} */
  #history = new WeakMap();

  /**
   * Measures the connections that are up; null where none is. `ownLoss` is the part of the loss that is certainly of
   * one's own link.
   * @param {{publish: Measured | null, subscribe: Measured | null}} transports
   * @param {number} now milliseconds
   * @returns {Promise<{loss: number, ownLoss: number, roundTripS: number} | null>}
   */
  async measure(transports, now) {
    const both = [transports.publish, transports.subscribe];
    const up = both.flatMap((each) => (each?.connection.connectionState === 'connected' ? [each] : []));
    const found = await Promise.all(up.map((measured) => this.#one(measured, now)));
    if (!found.length) return null;
    return {
      loss: Math.max(...found.map(({ loss }) => loss)),
      ownLoss: Math.max(...found.map(({ ownLoss }) => ownLoss)),
      roundTripS: Math.max(...found.map(({ roundTripS }) => roundTripS)),
    };
  }

  /** @param {Measured} measured @param {number} now */
  async #one({ connection, publishers = new Map() }, now) {
    /** @type {Map<string, Entry>} */
    const entries = new Map();
    for (const entry of (await connection.getStats()).values()) if (KEPT.has(entry.type)) entries.set(entry.id, entry);
    const last = { at: now, entries };
    const before = this.#history.get(connection) ?? [];
    const recent = before.filter(({ at }) => now - at <= WINDOW_MS);
    const history = recent.length ? recent : before.slice(-1); // also where measurements are rare
    const first = history[0] ?? last;
    this.#history.set(connection, [...history, last]);
    const sent = sentLoss(first, last) ?? 0;
    const received = receivedLoss(first, last, publishers);
    return {
      loss: Math.max(sent, received.loss),
      ownLoss: Math.max(sent, received.isOwn ? received.loss : 0),
      roundTripS: roundTrip(last),
    };
  }
}
