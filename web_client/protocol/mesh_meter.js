/**
 * What the SFU would tell and nobody tells in a mesh: who speaks, how good the links are. Measured here, and reported to
 * signaling, which moves a room with losses to the SFU.
 */

const LEVEL_MS = 300;
const REPORT_MS = 2000;
/** Softer sounds are no speech (linear, 0 to 1). */
const SPEECH = 0.02;
/** Fewer packets between two reports say nothing. */
const LEAST_PACKETS = 20;
const POOR = { loss: 0.05, rtt: 400 };
const GOOD = { loss: 0.02, rtt: 200 };

/**
 * @typedef {import('./topology.js').Topology} Topology
 * @typedef {import('./messages.d.ts').PeerLinkReport} PeerLinkReport
 * @typedef {{lost: number, received: number}} Counted
 */

/** @param {PeerLinkReport} link @returns {import('./messages.d.ts').Quality} */
export function qualityOf({ loss, rtt }) {
  if (loss > POOR.loss || rtt > POOR.rtt) return 'poor';
  return loss > GOOD.loss || rtt > GOOD.rtt ? 'good' : 'excellent';
}

export class MeshMeter {
  /** @type {WeakMap<RTCPeerConnection, Counted>} */
  #before = new WeakMap();
  #spoke = '';
  /** @type {ReturnType<typeof setInterval>[]} */
  #timers = [];

  /**
   * @param {object} options
   * @param {Topology} options.topology
   * @param {(type: string, payload: object) => void} options.send
   * @param {(type: string, payload: object) => void} options.hear takes what is found as the server's messages
   */
  constructor({ topology, send, hear }) {
    this.topology = topology;
    this.send = send;
    this.hear = hear;
  }

  start() {
    if (this.#timers.length) return;
    this.#timers = [setInterval(() => this.listen(), LEVEL_MS), setInterval(() => this.report(), REPORT_MS)];
  }

  /** Who speaks now, loudest first. */
  listen() {
    if (this.topology.side !== 'mesh') return;
    /** @type {{userId: string, level: number}[]} */
    const speakers = [];
    for (const { info, media, transceiver } of this.topology.received.values()) {
      if (info.source !== 'microphone' || !media.enabled || !info.userId) continue;
      const level = transceiver.receiver.getSynchronizationSources?.()[0]?.audioLevel ?? 0;
      if (level >= SPEECH) speakers.push({ userId: info.userId, level });
    }
    speakers.sort((a, b) => b.level - a.level);
    const spoke = speakers.map(({ userId, level }) => `${userId}:${level.toFixed(1)}`).join();
    if (spoke === this.#spoke) return;
    this.#spoke = spoke;
    this.hear('ActiveSpeakers', { speakers });
  }

  /** Measures each link since the last time. @returns {Promise<void>} */
  async report() {
    if (this.topology.side !== 'mesh') return;
    const links = [...this.topology.mesh.links.values()].filter(({ isUp }) => isUp);
    const measured = await Promise.all(links.map((link) => this.#measure(link).catch(() => null)));
    const peers = measured.filter((link) => link !== null);
    for (const link of peers) this.hear('QualityChanged', { userId: link.userId, quality: qualityOf(link) });
    if (peers.length) this.send('LinkReport', { peers });
  }

  /** @param {import('./peer_link.js').PeerLink} link @returns {Promise<PeerLinkReport>} */
  async #measure({ userId, connection }) {
    const now = { lost: 0, received: 0 };
    let rtt = 0;
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === 'inbound-rtp') {
        now.lost += entry.packetsLost ?? 0;
        now.received += entry.packetsReceived ?? 0;
      } else if (entry.type === 'candidate-pair' && entry.nominated && entry.state === 'succeeded') {
        rtt = Math.min(60_000, (entry.currentRoundTripTime ?? 0) * 1000);
      }
    }
    const before = this.#before.get(connection) ?? now;
    this.#before.set(connection, now);
    const lost = Math.max(0, now.lost - before.lost);
    const all = lost + Math.max(0, now.received - before.received);
    return { userId, loss: all < LEAST_PACKETS ? 0 : lost / all, rtt };
  }

  close() {
    for (const timer of this.#timers) clearInterval(timer);
    this.#timers = [];
  }
}
