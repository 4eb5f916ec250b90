/** The people panel: who is here, whose hand is up and in which order, and what a host may do. */

import { coalesce, el, icon, iconButton, setAttribute, setIcon, setText } from './dom.js';
import { confirm } from './notices.js';
import { hue, initials } from './texts.js';

/** @typedef {import('../protocol/call.js').Call} Call */
/** @typedef {import('../protocol/room.js').Person} Person */
/** @typedef {import('../protocol/messages.d.ts').Role} Role */

/** The roles that a host can give; that of a host belongs to who made the meeting. @type {[Role, string][]} */
const ROLES = [
  ['attendee', 'Attendee'],
  ['viewer', 'Viewer'],
];
/** From so many people on there is a search field. */
const MANY = 8;

class Row {
  /** @param {Call} call @param {Person} person */
  constructor(call, person) {
    const { userId } = person;
    this.avatar = el('span', { class: 'avatar', 'aria-hidden': 'true', dataset: { hue: String(hue(userId)) } });
    this.name = el('span', { class: 'name', dir: 'auto' });
    this.note = el('small', {});
    this.hand = el('span', { class: 'mark hand' }, icon('hand'));
    this.microphone = el('span', { class: 'mark' }, icon('mic'));
    this.mute = iconButton('mic', 'Mute', { testid: 'person-mute', onclick: () => call.moderate('mute', userId) });
    this.remove = iconButton('user-x', 'Remove', {
      testid: 'person-remove',
      onclick: () => this.#remove(call, userId),
    });
    this.more = iconButton('ellipsis-vertical', 'Role', { testid: 'person-more', 'aria-expanded': 'false' });
    this.more.addEventListener('click', () => this.#expand());
    this.role = el(
      'select',
      { testid: 'person-role' },
      ...ROLES.map(([value, label]) => el('option', { value }, label)),
    );
    this.role.addEventListener('change', () => call.moderate('role', userId, /** @type {Role} */ (this.role.value)));
    this.tools = el('div', { class: 'tools' }, this.mute, this.remove, this.more);
    this.roleRow = el('div', { class: 'role-row', hidden: true }, 'Role', this.role);
    this.element = el(
      'li',
      { class: 'person', testid: 'person', dataset: { userId } },
      this.avatar,
      el('div', { class: 'what' }, this.name, this.note),
      this.hand,
      this.microphone,
      this.tools,
      this.roleRow,
    );
  }

  #expand() {
    this.roleRow.hidden = !this.roleRow.hidden;
    this.more.setAttribute('aria-expanded', String(!this.roleRow.hidden));
  }

  /** @param {Call} call @param {string} userId */
  async #remove(call, userId) {
    const name = call.room.people.get(userId)?.displayName ?? '';
    const isSure = await confirm({
      title: `Remove ${name}?`,
      text: `${name} leaves the call at once and cannot come back to this meeting.`,
      yes: 'Remove',
    });
    if (isSure) call.moderate('remove', userId);
  }

  /** @param {Person} person @param {{isSelf: boolean, isModerator: boolean, hand: number}} view */
  show(person, { isSelf, isModerator, hand }) {
    const { displayName, role, isMuted, isHandRaised, quality } = person;
    setText(this.avatar, initials(displayName));
    setText(this.name, isSelf ? `${displayName} (you)` : displayName);
    const notes = [
      isHandRaised && 'Hand raised',
      role === 'host' && 'Host',
      role === 'viewer' && 'Viewer',
      quality === 'poor' && 'poor connection',
      quality === 'lost' && 'connection lost',
    ];
    setText(this.note, notes.filter(Boolean).join(' · '));
    this.hand.hidden = !isHandRaised;
    setAttribute(this.hand, 'title', isHandRaised ? `Hand raised, number ${hand}` : null);
    setIcon(this.microphone, isMuted ? 'mic-off' : 'mic');
    setAttribute(this.microphone, 'title', isMuted ? 'Muted' : 'Microphone on');
    setAttribute(this.element, 'data-muted', String(isMuted));
    setAttribute(this.element, 'data-hand', String(isHandRaised));
    setAttribute(this.element, 'data-role', role);
    const isManaged = isModerator && !isSelf;
    this.tools.hidden = !isManaged;
    this.microphone.hidden = isManaged; // the mute button shows the same there
    this.more.hidden = role === 'host';
    if (!isManaged || role === 'host') this.roleRow.hidden = true;
    this.mute.disabled = isMuted;
    setIcon(this.mute, isMuted ? 'mic-off' : 'mic');
    if (document.activeElement !== this.role) this.role.value = role;
    for (const [button, label] of /** @type {const} */ ([
      [this.mute, `Mute ${displayName}`],
      [this.remove, `Remove ${displayName}`],
      [this.more, `Role of ${displayName}`],
    ])) {
      setAttribute(button, 'aria-label', label);
    }
    setAttribute(this.role, 'aria-label', `Role of ${displayName}`);
  }
}

export class PeoplePanel {
  /** @type {Map<string, Row>} */
  #rows = new Map();

  /** @param {Call} call @param {{onclose: () => void, oninvite: () => void}} handlers */
  constructor(call, { onclose, oninvite }) {
    this.call = call;
    this.title = el('h2', { tabindex: -1 }, 'People');
    this.list = el('ul', { class: 'people-list', 'aria-label': 'People in the call', tabindex: 0 });
    this.search = el('input', {
      type: 'search',
      placeholder: 'Find someone',
      'aria-label': 'Find someone',
      hidden: true,
      testid: 'people-search',
    });
    this.search.addEventListener('input', () => this.#draw());
    this.element = el(
      'aside',
      { class: 'panel people', 'aria-label': 'People', testid: 'people-panel', hidden: true },
      el('header', {}, this.title, iconButton('x', 'Close people', { onclick: onclose })),
      el(
        'div',
        { class: 'panel-tools' },
        el('button', { type: 'button', onclick: oninvite, testid: 'invite' }, icon('link'), 'Copy the link to invite'),
        this.search,
      ),
      this.list,
    );
    const update = coalesce(() => this.#draw(), 60);
    const off = call.on('room', update);
    this.close = () => (off(), update.cancel());
    this.#draw();
  }

  /** Raised hands first and in order, then oneself, then by name. @returns {Person[]} */
  #sorted() {
    const own = this.call.userId;
    return [...this.call.room.people.values()].sort(
      (a, b) =>
        (a.handRaisedAt || Infinity) - (b.handRaisedAt || Infinity) ||
        Number(b.userId === own) - Number(a.userId === own) ||
        a.displayName.localeCompare(b.displayName),
    );
  }

  #draw() {
    if (this.element.hidden) return;
    const people = this.#sorted();
    setText(this.title, `People (${people.length})`);
    this.search.hidden = people.length < MANY;
    const wanted = this.search.hidden ? '' : this.search.value.trim().toLocaleLowerCase();
    const isModerator = this.call.role === 'host';
    const gone = new Set(this.#rows.keys());
    let hand = 0;
    for (const [index, person] of people.entries()) {
      gone.delete(person.userId);
      const row = this.#row(person);
      row.show(person, {
        isSelf: person.userId === this.call.userId,
        isModerator,
        hand: person.isHandRaised ? (hand += 1) : 0,
      });
      row.element.hidden = !person.displayName.toLocaleLowerCase().includes(wanted);
      const there = this.list.children[index];
      if (there !== row.element) this.list.insertBefore(row.element, there ?? null);
    }
    for (const userId of gone) {
      const row = this.#rows.get(userId)?.element;
      if (row?.contains(document.activeElement)) this.title.focus(); // whoever was just removed by it
      row?.remove();
      this.#rows.delete(userId);
    }
  }

  /** @param {Person} person @returns {Row} */
  #row(person) {
    let row = this.#rows.get(person.userId);
    if (!row) {
      row = new Row(this.call, person);
      this.#rows.set(person.userId, row);
    }
    return row;
  }

  /** @param {boolean} isOpen */
  show(isOpen) {
    this.element.hidden = !isOpen;
    this.#draw();
    if (isOpen) this.title.focus();
  }
}
