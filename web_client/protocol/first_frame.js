/**
 * Watches for the end of the join: the first decoded frame of somebody else, or, when alone, the connection.
 *
 * It closes the spans `media.connect` and `media.first_frame` and hands over the trace's report exactly once. Frames are
 * found by getStats, so that a program without a screen can use it as well.
 */

const LOOK_MS = 50;
/** Without a frame by then the report goes out without one. */
const GIVE_UP_MS = 10_000;

/** @param {{connection: RTCPeerConnection}[]} sources @returns {Promise<boolean>} */
async function hasDecoded(sources) {
  for (const { connection } of sources) {
    for (const entry of (await connection.getStats()).values()) {
      if (entry.type === 'inbound-rtp' && entry.kind === 'video' && entry.framesDecoded > 0) return true;
    }
  }
  return false;
}

export class FirstFrame {
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #started = 0;

  /**
   * @param {Pick<import('./topology.js').Topology, 'state' | 'sources' | 'received'>} media
   * @param {import('./trace.js').JoinTrace} trace
   * @param {(report: {spans: object[]}) => void} done
   */
  constructor(media, trace, done) {
    this.media = media;
    this.trace = trace;
    this.done = done;
    /** When the first remote frame was seen, epoch milliseconds; null until then. @type {number | null} */
    this.at = null;
  }

  watch() {
    if (this.#started) return;
    this.#started = this.trace.now();
    this.connect = this.trace.start('media.connect');
    this.frame = this.trace.start('media.first_frame');
    this.#later();
  }

  #later() {
    this.#timer = setTimeout(() => this.#look(), LOOK_MS);
  }

  async #look() {
    const { publish, subscribe } = this.media.state;
    if (publish === 'connected' || subscribe === 'connected') this.connect?.end();
    const decoded = await hasDecoded(this.media.sources).catch(() => false);
    if (decoded) {
      this.at = this.trace.now();
      this.frame?.end();
    }
    const expectsVideo = [...this.media.received.values()].some(({ info }) => info.kind === 'video');
    const settled = publish === 'connected' && !expectsVideo && this.trace.now() - this.#started > 1000;
    const isOver = this.trace.now() - this.#started > GIVE_UP_MS;
    if (decoded || settled || isOver) this.done(this.trace.report());
    else if (publish !== 'closed') this.#later();
  }

  close() {
    clearTimeout(this.#timer);
  }
}
