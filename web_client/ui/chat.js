/** The chat panel: real text in a log, links made clickable, own messages marked until the server has them. */

import { MAX_CHAT } from '../protocol/wire.js';
import { el, icon, iconButton, setAttribute } from './dom.js';
import { timeOf } from './texts.js';

/** @typedef {import('../protocol/call.js').Chat} Chat */

const LINK = /https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]]/g;
/** Messages of one person within this time share one heading. */
const TOGETHER_MS = 120_000;

/** Text with its links. @param {string} text @returns {(string | HTMLElement)[]} */
export function linked(text) {
  /** @type {(string | HTMLElement)[]} */
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    parts.push(text.slice(end, match.index));
    parts.push(el('a', { href: match[0], target: '_blank', rel: 'noopener noreferrer' }, match[0]));
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

export class ChatPanel {
  unread = 0;
  /** @type {Map<string, HTMLElement>} */
  #shown = new Map();
  /** @type {Chat | null} */
  #last = null;

  /** @param {import('../protocol/call.js').Call} call @param {{onunread: (count: number) => void, onclose: () => void}} handlers */
  constructor(call, { onunread, onclose }) {
    this.call = call;
    this.onunread = onunread;
    this.log = el('div', { class: 'log', role: 'log', 'aria-label': 'Messages', tabindex: 0 });
    this.empty = el('p', { class: 'empty-text' }, 'No messages yet. Everyone in the call can read what you write.');
    this.input = el('textarea', {
      rows: 1,
      maxlength: MAX_CHAT,
      dir: 'auto',
      testid: 'chat-input',
      placeholder: 'Message to everyone',
      'aria-label': 'Message to everyone',
    });
    const form = el(
      'form',
      { class: 'chat-form' },
      this.input,
      el(
        'button',
        {
          type: 'submit',
          class: 'icon-button primary',
          testid: 'chat-send',
          'aria-label': 'Send',
          'data-tip': 'Send (Enter)',
        },
        icon('send-horizontal'),
      ),
    );
    form.addEventListener('submit', (event) => (event.preventDefault(), this.#send()));
    this.input.addEventListener('keydown', (event) => this.#key(event));
    this.input.addEventListener('input', () => this.#grow());
    this.element = el(
      'aside',
      { class: 'panel chat', 'aria-label': 'Chat', testid: 'chat-panel', hidden: true },
      el('header', {}, el('h2', {}, 'Chat'), iconButton('x', 'Close chat', { onclick: onclose })),
      this.log,
      form,
    );
    this.log.append(this.empty);
    for (const message of call.chat) this.#add(message);
    this.close = call.on('chat', (message) => this.#add(message));
  }

  #send() {
    const text = this.input.value.trim();
    if (!text) return;
    this.call.sendChat(text.slice(0, MAX_CHAT));
    this.input.value = '';
    this.#grow();
  }

  /** @param {KeyboardEvent} event */
  #key(event) {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#send();
  }

  #grow() {
    this.input.style.setProperty('height', 'auto');
    this.input.style.setProperty('height', `${Math.min(120, this.input.scrollHeight + 2)}px`);
  }

  /** @param {Chat} message */
  #add(message) {
    this.empty.remove();
    const known = this.#shown.get(message.messageId);
    if (known) {
      known.classList.toggle('pending', Boolean(message.isPending));
      return;
    }
    const isAtEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
    const isOwn = message.userId === this.call.userId;
    const element = this.#draw(message, isOwn);
    this.#shown.set(message.messageId, element);
    this.log.append(element);
    if (isAtEnd || isOwn) this.log.scrollTop = this.log.scrollHeight;
    if (this.element.hidden && !isOwn) this.onunread((this.unread += 1));
  }

  /** @param {Chat} message @param {boolean} isOwn */
  #draw(message, isOwn) {
    const last = this.#last;
    this.#last = message;
    const isFollowing =
      last?.userId === message.userId && Date.parse(message.sentAt) - Date.parse(last.sentAt) < TOGETHER_MS;
    const heading = el(
      'div',
      { class: 'from' },
      el('strong', { dir: 'auto' }, isOwn ? 'You' : message.displayName),
      el('time', { datetime: message.sentAt }, timeOf(message.sentAt)),
    );
    const element = el(
      'div',
      { class: `message ${isOwn ? 'own' : ''}`, testid: 'chat-message', dataset: { userId: message.userId } },
      !isFollowing && heading,
      el('p', { dir: 'auto' }, ...linked(message.text)),
    );
    element.classList.toggle('pending', Boolean(message.isPending));
    return element;
  }

  /** @param {boolean} isOpen */
  show(isOpen) {
    this.element.hidden = !isOpen;
    setAttribute(this.element, 'data-open', String(isOpen));
    if (!isOpen) return;
    this.unread = 0;
    this.onunread(0);
    this.log.scrollTop = this.log.scrollHeight;
    this.input.focus();
  }
}
