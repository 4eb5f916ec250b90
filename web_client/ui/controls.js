/**
 * The control bar and its keys. Each control has a label, a tooltip with its key, and a pressed state that shows in icon
 * and text, not in colour alone. On a phone the less used ones move behind "More".
 */

import { el, icon, setAttribute, setIcon, setText } from './dom.js';

/**
 * @typedef {object} Control
 * @property {string} id
 * @property {string} [key] shortcut
 * @property {[on: string, off: string]} icons
 * @property {Readonly<[on: string, off: string]>} labels the words under the icon; with `aria-pressed` they tell the state
 * @property {Readonly<[on: string, off: string]>} tips what a click does
 * @property {() => boolean} [isOn] none for what is no switch
 * @property {() => void} act
 * @property {boolean} [isAlert] on is drawn as a warning (microphone and camera that are off)
 * @property {() => boolean} [isShown]
 * @property {string} [countWord] what the number on it counts
 * @property {string} [testid] where it is not `control-<id>`
 */

export class ControlButton {
  /** @param {Control} control */
  constructor(control) {
    this.control = control;
    this.caption = el('span', { class: 'caption', 'aria-hidden': 'true' });
    this.badge = el('span', { class: 'count', hidden: true });
    this.element = el(
      'button',
      {
        type: 'button',
        class: `control ${control.id}`,
        testid: control.testid ?? `control-${control.id}`,
        'aria-keyshortcuts': control.key,
        onclick: () => control.act(),
      },
      el('span', { class: 'face' }, icon(control.icons[0])),
      this.caption,
      ' ', // so that caption and number are read as two words
      this.badge,
    );
    this.update();
  }

  update() {
    const { element, control } = this;
    const isOn = control.isOn?.() ?? false;
    const index = isOn ? 0 : 1;
    element.hidden = control.isShown ? !control.isShown() : false;
    setIcon(element, control.icons[index]);
    const { countWord = '' } = control;
    const counted = this.badge.hidden ? '' : `, ${this.badge.textContent} ${countWord}`;
    setAttribute(element, 'aria-label', control.labels[index] + counted);
    const tip = control.tips[index];
    setAttribute(element, 'data-tip', control.key ? `${tip} (${control.key.toUpperCase()})` : tip);
    setAttribute(element, 'aria-pressed', control.isOn ? String(isOn) : null);
    setText(this.caption, control.labels[index]);
    element.classList.toggle('on', isOn && !control.isAlert);
    element.classList.toggle('off', isOn && Boolean(control.isAlert));
  }

  /** @param {number} count */
  count(count) {
    this.badge.hidden = count === 0;
    setText(this.badge, String(Math.min(count, 999)));
    this.update();
  }
}

/**
 * Keys call the controls, except while somebody types or a dialog is open.
 * @param {Map<string, () => void>} keys by lower-case key
 * @returns {() => void} stops listening
 */
export function listenKeys(keys) {
  const listener = (/** @type {KeyboardEvent} */ event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = target.matches('input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]');
    if ((isTyping && event.key !== 'Escape') || document.querySelector('dialog[open]')) return;
    const act = keys.get(event.key.toLowerCase());
    if (!act) return;
    event.preventDefault();
    act();
  };
  document.addEventListener('keydown', listener);
  return () => document.removeEventListener('keydown', listener);
}
