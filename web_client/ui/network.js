/**
 * What is said about a network that is slow or shut, once each time: that one's own video has stopped and is back and that
 * the call goes by the HTTP tunnel, as a toast; that the others are heard but not seen, for those who do not see the tiles,
 * which tell it themselves.
 */

import { coalesce } from './dom.js';
import { BACK, MISSING, WAY } from './texts.js';

/** Pauses come one by one, and some last a moment only. */
const SETTLE_MS = 1000;

/** @typedef {import('../protocol/call.js').Call} Call */

export class NetworkNotices {
  /** Tracks of the others that the network keeps back, when it was said last. @type {string[]} */
  #short = [];
  /** What was said last. @type {'direct' | 'tunnel'} */
  #way = 'direct';
  /** @type {(() => void)[]} */
  #closers;

  /**
   * @param {Call} call
   * @param {import('./notices.js').Toasts} toasts
   * @param {(text: string) => void} say to screen readers
   */
  constructor(call, toasts, say) {
    this.call = call;
    this.toasts = toasts;
    this.say = say;
    const settle = coalesce(() => this.#settled(), SETTLE_MS);
    this.#closers = [
      call.on('adapted', (change) => this.#adapted(change)),
      call.on('room', settle),
      call.on('state', () => this.#moved()),
      () => settle.cancel(),
    ];
    this.#moved();
  }

  /** @param {{isVideoPaused: boolean, wasVideoPaused: boolean, isOwnWish: boolean}} change */
  #adapted({ isVideoPaused, wasVideoPaused, isOwnWish }) {
    if (isVideoPaused && !wasVideoPaused) {
      this.toasts.dismiss('video-back');
      this.toasts.show(MISSING.bandwidth.own.text, { code: 'video-paused', iconName: 'wifi-off' });
    } else if (!isVideoPaused && wasVideoPaused) {
      this.toasts.dismiss('video-paused');
      if (!isOwnWish) this.toasts.show(BACK.own, { code: 'video-back', iconName: 'check' });
    }
  }

  /** Told when the call is up by another way than before. */
  #moved() {
    const way = this.call.ladder?.way === 'tunnel' ? 'tunnel' : 'direct'; // how media goes
    if (this.call.state !== 'connected' || way === this.#way) return;
    this.#way = way;
    this.toasts.dismiss('way');
    this.toasts.show(WAY[way], { code: 'way', iconName: way === 'tunnel' ? 'circle-alert' : 'check' });
  }

  #settled() {
    const { pauses, tracks } = this.call.room;
    const before = this.#short;
    this.#short = [...pauses.keys()].filter((trackId) => pauses.get(trackId) === 'bandwidth');
    if (this.#short.length && !before.length) {
      const isScreen = this.#short.every((trackId) => tracks.get(trackId)?.source === 'screen');
      this.say(MISSING.bandwidth[isScreen ? 'screen' : 'camera'].text);
    } else if (!this.#short.length && before.some((trackId) => tracks.has(trackId))) {
      this.say(BACK.others);
    }
  }

  close() {
    for (const close of this.#closers) close();
  }
}
