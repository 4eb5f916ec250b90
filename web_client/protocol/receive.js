/**
 * SetReceive: tells the SFU how large each track is shown, so that it sends no more than that.
 *
 * Changes are gathered for a moment and the whole list is sent, at most 2,000 tracks; nothing is sent when the list
 * equals the last one.
 */

const GATHER_MS = 200;
const MAX_TRACKS = 2000;

/** @typedef {import('./messages.d.ts').ReceiveTrack} ReceiveTrack */

export class ReceivePlan {
  /** @type {Map<string, ReceiveTrack>} */
  #wanted = new Map();
  #sent = '';
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** @param {(payload: {tracks: ReceiveTrack[]}) => boolean} send */
  constructor(send) {
    this.send = send;
  }

  /** @param {string} trackId @param {Partial<Omit<ReceiveTrack, 'trackId'>>} shown */
  set(trackId, { width = 0, height = 0, visible = true, pinned = false }) {
    const round = (/** @type {number} */ size) => Math.max(0, Math.min(16_384, Math.round(size)));
    this.#wanted.set(trackId, { trackId, width: round(width), height: round(height), visible, pinned });
    this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
  }

  /** @param {string} trackId */
  delete(trackId) {
    this.#wanted.delete(trackId);
  }

  /** Sends now what changed. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const tracks = [...this.#wanted.values()].slice(0, MAX_TRACKS);
    const text = JSON.stringify(tracks);
    if (tracks.length && text !== this.#sent && this.send({ tracks })) this.#sent = text;
  }

  /** A new connection knows nothing: send all again. */
  repeat() {
    this.#sent = '';
    this.flush();
  }

  close() {
    clearTimeout(this.#timer);
  }
}
