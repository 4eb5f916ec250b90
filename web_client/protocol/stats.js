/**
 * Telemetry: what getStats counted since the last report, small enough to send every ten seconds.
 *
 * Counters become deltas (left out where nothing changed), gauges stay as they are. Only the RTP streams and the selected candidate pair are kept; no
 * address, no device name.
 */

const COUNTERS = /** @type {const} */ ([
  'bytesSent', 'packetsSent', 'framesEncoded', 'nackCount', 'pliCount', 'firCount', 'retransmittedPacketsSent',
  'bytesReceived', 'packetsReceived', 'packetsLost', 'framesDecoded', 'framesDropped', 'keyFramesDecoded',
  'freezeCount', 'totalFreezesDuration', 'jitterBufferDelay', 'jitterBufferEmittedCount', 'concealedSamples',
  'totalSamplesReceived', 'qualityLimitationResolutionChanges',
]); // prettier-ignore
const GAUGES = /** @type {const} */ ([
  'kind', 'mid', 'rid', 'jitter', 'roundTripTime', 'fractionLost', 'frameWidth', 'frameHeight', 'framesPerSecond',
  'qualityLimitationReason', 'audioLevel',
]); // prettier-ignore
const PAIR = /** @type {const} */ (['currentRoundTripTime', 'availableOutgoingBitrate', 'availableIncomingBitrate']);
const KEPT = new Set(['outbound-rtp', 'inbound-rtp', 'remote-inbound-rtp']);

/** So many streams a direction fit into one message of a DataChannel. */
const MAX_STREAMS = 100;

/** @typedef {Record<string, any>} Entry */

/** @param {Entry} entry @param {Entry} before @returns {Entry} */
function delta(entry, before) {
  /** @type {Entry} */
  const result = { type: entry.type };
  for (const key of GAUGES) if (entry[key] !== undefined) result[key] = entry[key];
  for (const key of COUNTERS) {
    const change = typeof entry[key] === 'number' ? entry[key] - (before[key] ?? 0) : 0;
    if (change) result[key] = change;
  }
  return result;
}

export class StatsReporter {
  /** @type {Map<string, Entry>} */
  #before = new Map();
  #at = 0;

  /** @param {() => number} [now] */
  constructor(now = Date.now) {
    this.now = now;
    this.#at = now();
  }

  /**
   * @param {Record<string, {connection: RTCPeerConnection, trackIds: Map<string, string>} | null>} transports
   *   by direction; `trackIds` maps mid to track
   * @param {boolean} [isLast] marks the summary at the end of a call
   * @returns {Promise<Record<string, any>>}
   */
  async report(transports, isLast = false) {
    const now = this.now();
    /** @type {Record<string, any>} */
    const result = { intervalMs: now - this.#at, ...(isLast ? { final: true } : {}) };
    this.#at = now;
    for (const [direction, transport] of Object.entries(transports)) {
      if (transport) result[direction] = await this.#transport(direction, transport);
    }
    return result;
  }

  /** @param {string} direction @param {{connection: RTCPeerConnection, trackIds: Map<string, string>}} transport */
  async #transport(direction, { connection, trackIds }) {
    const stats = await connection.getStats();
    /** @type {Entry} */
    const result = { state: connection.connectionState, streams: [] };
    for (const entry of stats.values()) {
      if (entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded') {
        for (const key of PAIR) if (entry[key] !== undefined) result[key] = entry[key];
      }
      if (!KEPT.has(entry.type)) continue;
      const key = `${direction}:${entry.id}`;
      const stream = delta(entry, this.#before.get(key) ?? {});
      const trackId = trackIds.get(entry.mid);
      if (result.streams.length < MAX_STREAMS) result.streams.push(trackId ? { ...stream, trackId } : stream);
      this.#before.set(key, entry);
    }
    return result;
  }
}
