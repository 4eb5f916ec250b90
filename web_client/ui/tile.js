/**
 * One tile of the stage: a person's camera (or initials) or a shared screen, with name, muted, hand and quality marks,
 * and the reason where a picture is missing that should be there.
 *
 * `show` is called often and touches only what differs. Tests read the data attributes.
 */

import { el, icon, iconButton, setAttribute, setIcon, setText } from './dom.js';
import { MISSING, hue, initials } from './texts.js';

/**
 * @typedef {object} TileView
 * @property {string} key
 * @property {string} userId
 * @property {'camera' | 'screen'} source
 * @property {string} name
 * @property {boolean} isSelf
 * @property {boolean} isMuted
 * @property {boolean} isSpeaking
 * @property {boolean} isHandRaised
 * @property {boolean} isPinned
 * @property {import('../protocol/messages.d.ts').Quality} quality
 * @property {keyof typeof MISSING | null} missing why a picture that should be there is not
 * @property {string} [trackId]
 * @property {MediaStreamTrack | null} media
 */

/** How many of three bars are lit, and the words. */
const QUALITY = /** @type {Record<string, [string, string]>} */ ({
  good: ['2', 'Fair connection'],
  poor: ['1', 'Poor connection'],
  lost: ['0', 'Connection lost'],
});

/** @param {TileView} view @returns {{text: string, short: string} | null} */
function shortage({ missing, isSelf, source }) {
  if (!missing) return null;
  return isSelf ? MISSING.bandwidth.own : MISSING[missing][source];
}

/** @param {TileView} view @returns {string} what a screen reader says */
function described(view) {
  const marks = [
    view.isSelf && 'you',
    view.source === 'screen' && 'shared screen',
    view.source === 'camera' && !view.media && !view.missing && 'camera off',
    shortage(view)?.text.toLowerCase().replace(/\.$/, ''),
    view.source === 'camera' && view.isMuted && 'muted',
    view.isHandRaised && 'hand raised',
    QUALITY[view.quality]?.[1].toLowerCase(),
  ].filter(Boolean);
  return [view.name, ...marks].join(', ');
}

export class Tile {
  /** @param {string} key @param {(key: string) => void} onpin */
  constructor(key, onpin) {
    this.key = key;
    this.video = el('video', { autoplay: true, playsinline: true, tabindex: -1 });
    this.video.muted = true; // sound has its own elements
    this.avatar = el('div', { class: 'avatar', 'aria-hidden': 'true' });
    this.muted = el('span', { class: 'mark muted' }, icon('mic-off'));
    this.hand = el('span', { class: 'mark hand' }, icon('hand'));
    this.quality = el('span', { class: 'mark quality', role: 'img' }, el('i'), el('i'), el('i'), icon('wifi-off'));
    this.long = el('span', { class: 'long' });
    this.short = el('span', { class: 'short' });
    // A screen reader has it from the tile's own label, and once from the page when it happens.
    this.shortage = el('p', { class: 'shortage', 'aria-hidden': 'true' }, icon('wifi-off'), this.long, this.short);
    this.name = el('span', { class: 'name', dir: 'auto' });
    this.pin = iconButton('pin', 'Pin', { class: 'pin', testid: 'tile-pin', onclick: () => onpin(key) });
    this.element = el(
      'div',
      { class: 'tile', role: 'group', testid: 'tile' },
      el('div', { class: 'stand-in' }, this.avatar, this.shortage),
      this.video,
      el('div', { class: 'plate' }, this.hand, this.muted, this.name, this.quality),
      this.pin,
    );
  }

  /** @param {TileView} view */
  show(view) {
    const { element, name } = this;
    setAttribute(element, 'data-user-id', view.userId);
    setAttribute(element, 'data-track-id', view.trackId ?? null);
    setAttribute(element, 'data-source', view.source);
    setAttribute(element, 'data-muted', String(view.isMuted));
    setAttribute(element, 'data-speaking', String(view.isSpeaking));
    setAttribute(element, 'data-video', view.media ? 'on' : 'off');
    setAttribute(element, 'data-self', String(view.isSelf));
    setAttribute(element, 'data-paused', view.missing);
    setAttribute(element, 'aria-label', described(view));
    setText(
      name,
      view.isSelf ? `${view.name} (you)` : view.source === 'screen' ? `${view.name} is sharing` : view.name,
    );
    this.muted.hidden = !view.isMuted || view.source === 'screen';
    this.hand.hidden = !view.isHandRaised || view.source === 'screen';
    this.#showShortage(view);
    this.#showQuality(view);
    this.#showPin(view);
    setText(this.avatar, initials(view.name));
    setAttribute(this.avatar, 'data-hue', String(hue(view.userId)));
    this.#showMedia(view);
  }

  /** @param {TileView} view */
  #showQuality({ quality }) {
    const [bars, label] = QUALITY[quality] ?? [];
    this.quality.hidden = !bars;
    setAttribute(this.quality, 'data-bars', bars ?? null);
    setAttribute(this.quality, 'title', label ?? null);
    setAttribute(this.quality, 'aria-label', label ?? null);
  }

  /** @param {TileView} view */
  #showShortage(view) {
    const said = shortage(view);
    this.shortage.hidden = !said;
    setIcon(this.shortage, view.missing === 'unsupported' ? 'video-off' : 'wifi-off');
    setText(this.long, said?.text ?? '');
    setText(this.short, said?.short ?? '');
  }

  /** @param {TileView} view */
  #showPin({ isPinned, name }) {
    const label = isPinned ? `Unpin ${name}` : `Pin ${name}`;
    setIcon(this.pin, isPinned ? 'pin-off' : 'pin');
    setAttribute(this.pin, 'aria-label', label);
    setAttribute(this.pin, 'data-tip', isPinned ? 'Unpin' : 'Pin');
    setAttribute(this.pin, 'aria-pressed', String(isPinned));
  }

  /** @param {TileView} view */
  #showMedia({ media, isSelf, source }) {
    const shown = /** @type {MediaStream | null} */ (this.video.srcObject)?.getTracks()[0] ?? null;
    if (shown !== media) this.video.srcObject = media ? new MediaStream([media]) : null;
    this.video.hidden = !media;
    this.video.classList.toggle('mirrored', isSelf && source === 'camera');
  }

  /** @param {import('./layout.js').Rect | null} rect null hides it @param {boolean} [isOnTop] */
  place(rect, isOnTop = false) {
    const { element } = this;
    element.hidden = !rect;
    if (!rect) {
      this.video.pause();
      return;
    }
    if (this.video.paused && this.video.srcObject) this.video.play().catch(() => {});
    const { style } = element;
    style.setProperty('width', `${rect.width}px`);
    style.setProperty('height', `${rect.height}px`);
    style.setProperty('transform', `translate(${rect.x}px, ${rect.y}px)`);
    style.setProperty('z-index', isOnTop ? '2' : '1');
    element.classList.toggle('small', rect.width < 200);
    element.classList.toggle('tiny', rect.width < 120);
  }

  remove() {
    this.video.srcObject = null;
    this.element.remove();
  }
}
