/**
 * SetReceive: tells the SFU how large each track is shown, in device pixels, whether it is in sight and whether it is
 * pinned, so that it sends no more than that.
 *
 * Changes are gathered for a moment and the whole list is sent, at most five times a second and 2,000 tracks, those in
 * sight first; nothing is sent when the list equals the last one. On a slow link less is asked for than is shown.
 */

const GATHER_MS = 200;
const MAX_TRACKS = 2000;
/** Wide and high enough for a small tile, and no more than the lowest layer of a camera. Device pixels. */
const THUMBNAIL = 180;

/** @typedef {import('./messages.d.ts').ReceiveTrack} ReceiveTrack */
/** @typedef {'none' | 'half' | 'thumbnails'} Limit */

/** What is asked for of a track on a slow link; 0 is a size that is not known. @param {ReceiveTrack} track @param {Limit} limit @returns {ReceiveTrack} */
function limited(track, limit) {
  const { width, height } = track;
  if (limit === 'none') return track;
  const longer = Math.max(width, height, 1);
  const scale = limit === 'half' ? 0.5 : Math.min(0.5, THUMBNAIL / longer);
  const scaled = (/** @type {number} */ size) => (size ? Math.max(1, Math.round(size * scale)) : 0);
  return { ...track, width: scaled(width), height: scaled(height) };
}

export class ReceivePlan {
  /** @type {Map<string, ReceiveTrack>} */
  #wanted = new Map();
  #sent = '';
  /** @type {Limit} */
  #limit = 'none';
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
    this.#later();
  }

  #later() {
    this.#timer ??= setTimeout(() => this.flush(), GATHER_MS);
  }

  /** Asks for less than is shown. @param {Limit} limit */
  limit(limit) {
    this.#limit = limit;
    this.#later();
  }

  /** Forgets tracks that are gone. @param {{has: (trackId: string) => boolean}} there those that are not */
  retain(there) {
    for (const trackId of [...this.#wanted.keys()]) if (!there.has(trackId)) this.#wanted.delete(trackId);
  }

  /** Sends now what changed. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const all = [...this.#wanted.values()];
    const inSight = all.length > MAX_TRACKS ? all.sort((a, b) => Number(b.visible) - Number(a.visible)) : all;
    const tracks = inSight.slice(0, MAX_TRACKS).map((track) => limited(track, this.#limit));
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
