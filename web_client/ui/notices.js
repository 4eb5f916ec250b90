/**
 * Toasts and dialogs. Toasts say what happened and stay long enough to be read; they sit above the stage, away from the
 * controls, and are announced. Dialogs are the browser's own <dialog>, which keeps the focus inside.
 */

import { el, icon, iconButton } from './dom.js';
import { reason } from './texts.js';

const LEAST_MS = 6000;
const PER_CHARACTER_MS = 70;
const MOST = 3;

/** A sentence that stays in the page: an error beside what caused it. @param {string} code @param {{text?: string, actions?: HTMLElement[], tone?: 'error' | 'info'}} [options] */
export function notice(code, { text, actions = [], tone = 'error' } = {}) {
  const said = reason(code);
  return el(
    'div',
    { class: `notice ${tone}`, role: tone === 'error' ? 'alert' : 'status', testid: 'notice', dataset: { code } },
    icon(tone === 'error' ? 'circle-alert' : 'info'),
    el('div', {}, el('strong', {}, said.title), el('p', {}, text ?? said.text)),
    ...(actions.length ? [el('div', { class: 'actions' }, ...actions)] : []),
  );
}

export class Toasts {
  constructor() {
    this.element = el('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' });
  }

  /** @param {string} text @param {{code?: string, iconName?: string, action?: {label: string, run: () => void}}} [options] */
  show(text, { code = 'info', iconName = 'info', action } = {}) {
    this.dismiss(code);
    const close = () => toast.remove();
    const toast = el(
      'div',
      { class: 'toast', testid: 'notice', dataset: { code } },
      icon(iconName),
      el('p', { dir: 'auto' }, text),
      action && el('button', { type: 'button', class: 'quiet', onclick: () => (close(), action.run()) }, action.label),
      iconButton('x', 'Close this message', { onclick: close }),
    );
    this.element.append(toast);
    while (this.element.childElementCount > MOST) this.element.firstElementChild?.remove();
    this.#expire(toast, LEAST_MS + text.length * PER_CHARACTER_MS);
  }

  /** What it said is seen elsewhere now. @param {string} code */
  dismiss(code) {
    for (const toast of this.element.querySelectorAll(`[data-code="${code}"]`)) toast.remove();
  }

  clear() {
    this.element.replaceChildren();
  }

  /** Goes after a while, but not under the pointer or the focus. @param {HTMLElement} toast @param {number} delayMs */
  #expire(toast, delayMs) {
    setTimeout(() => {
      if (toast.matches(':hover, :focus-within')) this.#expire(toast, 1500);
      else toast.remove();
    }, delayMs);
  }
}

/**
 * Opens a dialog; it is removed when it closes.
 * @param {object} options
 * @param {string} options.title
 * @param {(HTMLElement | string)[]} options.body
 * @param {HTMLElement[]} options.actions
 * @param {string} [options.testid]
 * @param {() => void} [options.onclose]
 * @param {boolean} [options.mustAnswer] Esc does not close it
 * @returns {HTMLDialogElement}
 */
export function openDialog({ title, body, actions, testid, onclose, mustAnswer = false }) {
  const id = `dialog-${testid ?? 'title'}`;
  const dialog = el(
    'dialog',
    { class: 'dialog', 'aria-labelledby': id, testid },
    el('h2', { id }, title),
    ...body,
    el('div', { class: 'actions' }, ...actions),
  );
  dialog.addEventListener('cancel', (event) => {
    if (mustAnswer) event.preventDefault();
  });
  dialog.addEventListener('close', () => {
    dialog.remove();
    onclose?.();
  });
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/**
 * Asks before something that cannot be taken back.
 * @param {{title: string, text: string, yes: string}} options
 * @returns {Promise<boolean>}
 */
export function confirm({ title, text, yes }) {
  return new Promise((resolve) => {
    let answer = false;
    const decide = (/** @type {boolean} */ value) => {
      answer = value;
      dialog.close();
    };
    const dialog = openDialog({
      title,
      testid: 'confirm-dialog',
      body: [el('p', { dir: 'auto' }, text)],
      actions: [
        el('button', { type: 'button', testid: 'confirm-cancel', onclick: () => decide(false) }, 'Cancel'),
        el('button', { type: 'button', class: 'danger', testid: 'confirm', onclick: () => decide(true) }, yes),
      ],
      onclose: () => resolve(answer),
    });
  });
}
