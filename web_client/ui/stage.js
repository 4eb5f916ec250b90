/**
 * The stage: which tiles there are, where they go, and how large each track is received.
 *
 * Order is stable: people keep their place when others come; who speaks on a later page changes places with the tile of
 * the first page that was silent longest. A shared screen takes the stage, then a pinned tile, then (speaker layout) who
 * speaks. Sizes are told to the SFU through the call's receive plan.
 */

import { coalesce, el, iconButton } from './dom.js';
import { focusRects, gridRects, pageSize, pairRects } from './layout.js';
import { Tile } from './tile.js';

/** @typedef {import('../protocol/call.js').Call} Call */
/** @typedef {import('../protocol/room.js').Person} Person */
/** @typedef {import('./tile.js').TileView} TileView */
/** @typedef {import('./layout.js').Rect} Rect */
/** @typedef {Pick<TileView, 'media' | 'missing'>} Picture */

/** The large tile of the speaker layout does not change more often. */
const HOLD_MS = 2000;
/** Height of the pager, where there is one. */
const PAGER = 48;

export class Stage {
  /** @type {'grid' | 'speaker'} */
  mode = 'grid';
  page = 0;
  /** @type {string | null} */
  pinned = null;
  /** @type {Map<string, Tile>} */
  #tiles = new Map();
  /** userIds in the order of places. @type {string[]} */
  #order = [];
  #speaker = { userId: '', since: 0 };
  #sight = new IntersectionObserver((entries) => this.#sighted(entries));
  /** Tiles that are scrolled or clipped out of the window. @type {Set<Element>} */
  #unseen = new Set();
  /** @type {(() => void)[]} */
  #closers = [];

  /** @param {Call} call @param {import('./devices.js').Devices} devices */
  constructor(call, devices) {
    this.call = call;
    this.devices = devices;
    this.empty = el('div', { class: 'alone', hidden: true });
    this.area = el('div', { class: 'tiles' }, this.empty);
    this.back = iconButton('chevron-left', 'Previous page', { onclick: () => this.#turn(-1) });
    this.forth = iconButton('chevron-right', 'Next page', { onclick: () => this.#turn(1) });
    this.count = el('span', { 'aria-live': 'polite' });
    this.pager = el('div', { class: 'pager', testid: 'pager' }, this.back, this.count, this.forth);
    this.element = el(
      'section',
      { class: 'stage', testid: 'call-stage', 'aria-label': 'Participants' },
      this.area,
      this.pager,
    );
    this.update = coalesce(() => this.#draw());
    const observer = new ResizeObserver(this.update);
    observer.observe(this.area);
    document.addEventListener('visibilitychange', this.update);
    this.#closers.push(
      () => observer.disconnect(),
      () => this.#sight.disconnect(),
      () => document.removeEventListener('visibilitychange', this.update),
      ...['room', 'track', 'untrack', 'adapted'].map((name) => call.on(name, this.update)),
      call.on('speakers', () => this.#spoke()),
      devices.on('change', this.update),
    );
    this.update();
  }

  toggleMode() {
    this.mode = this.mode === 'grid' ? 'speaker' : 'grid';
    this.pinned = null;
    this.update();
  }

  /** @param {string} key */
  #pin(key) {
    this.pinned = this.pinned === key ? null : key;
    this.update();
  }

  /** @param {number} by */
  #turn(by) {
    this.page += by;
    this.update();
  }

  #spoke() {
    const now = Date.now();
    const loudest = [...this.call.room.people.values()]
      .filter(({ userId, level }) => level > 0 && userId !== this.call.userId)
      .sort((a, b) => b.level - a.level)[0];
    if (loudest && loudest.userId !== this.#speaker.userId && now - this.#speaker.since > HOLD_MS) {
      this.#speaker = { userId: loudest.userId, since: now };
    }
    this.update();
  }

  // --- what is shown --------------------------------------------------------------------------------------------------
  /** @param {Person} person @returns {TileView} */
  #cameraView(person) {
    const { call } = this;
    const isSelf = person.userId === call.userId;
    const trackId = isSelf ? undefined : call.room.trackOf(person.userId, 'camera')?.trackId;
    const { media, missing } = isSelf ? this.#ownPicture() : this.#picture(person.isVideoOn ? trackId : undefined);
    return {
      key: `camera:${person.userId}`,
      userId: person.userId,
      source: 'camera',
      name: person.displayName,
      isSelf,
      isMuted: person.isMuted,
      isSpeaking: person.level > 0 && !person.isMuted,
      isHandRaised: person.isHandRaised,
      isPinned: this.pinned === `camera:${person.userId}`,
      quality: person.quality,
      missing,
      trackId,
      media,
    };
  }

  /** One sees oneself as the others do. @returns {Picture} */
  #ownPicture() {
    return this.call.congestion.isVideoPaused
      ? { media: null, missing: 'bandwidth' }
      : { media: this.devices.camera, missing: null };
  }

  /** What is to be seen of a track of somebody else. @param {string | undefined} trackId @returns {Picture} */
  #picture(trackId) {
    if (!trackId) return { media: null, missing: null };
    const { room, topology } = this.call;
    const pause = room.pauses.get(trackId);
    if (pause === 'bandwidth' || pause === 'unsupported') return { media: null, missing: pause };
    // A hidden one is shown as it was last, until it comes again.
    const media = pause === 'last-n' ? null : (topology.received.get(trackId)?.media ?? null);
    return { media, missing: null };
  }

  /** Shared screens of others, the newest first. @returns {TileView[]} */
  #screenViews() {
    const { room, userId: own } = this.call;
    const screens = [...room.tracks.values()].filter(({ source, userId }) => source === 'screen' && userId !== own);
    return screens.reverse().map(({ trackId, userId }) => ({
      key: `screen:${trackId}`,
      userId,
      source: 'screen',
      name: room.people.get(userId)?.displayName ?? '',
      isSelf: false,
      isMuted: false,
      isSpeaking: false,
      isHandRaised: false,
      isPinned: this.pinned === `screen:${trackId}`,
      quality: 'excellent',
      trackId,
      ...this.#picture(trackId),
    }));
  }

  /** Others in their places, oneself last. @returns {TileView[]} */
  #cameraViews() {
    const { people } = this.call.room;
    const known = new Set(this.#order);
    this.#order = this.#order.filter((userId) => people.has(userId));
    for (const userId of people.keys()) if (!known.has(userId)) this.#order.push(userId);
    const own = this.call.userId;
    const places = [...this.#order.filter((userId) => userId !== own), own];
    return places.flatMap((userId) => {
      const person = people.get(userId);
      return person ? [this.#cameraView(person)] : [];
    });
  }

  #draw() {
    const screens = this.#screenViews();
    const cameras = this.#cameraViews();
    const views = [...screens, ...cameras];
    const focus = this.#focus(views, screens);
    const places = this.#places(views, focus);
    const keys = new Set(views.map(({ key }) => key));
    for (const [key, tile] of this.#tiles) {
      if (keys.has(key)) continue;
      this.#sight.unobserve(tile.element);
      this.#unseen.delete(tile.element);
      tile.remove();
      this.#tiles.delete(key);
    }
    const isCovered = !this.area.checkVisibility({ visibilityProperty: true }); // a panel of a phone lies on it
    for (const view of views) {
      const rect = places.get(view.key) ?? null;
      const tile = this.#tile(view.key);
      tile.show(view);
      if (rect && tile.element.hidden) this.#watch(tile.element);
      tile.place(rect, view.isSelf && cameras.length === 2 && !focus);
      const isSeen = Boolean(rect) && !isCovered && !document.hidden && !this.#unseen.has(tile.element);
      this.#receive(view, rect, isSeen);
    }
    this.element.dataset.mode = focus ? 'focus' : 'grid';
    this.empty.hidden = cameras.length > 1 || screens.length > 0;
  }

  /** @param {string} key @returns {Tile} */
  #tile(key) {
    let tile = this.#tiles.get(key);
    if (!tile) {
      tile = new Tile(key, (pinned) => this.#pin(pinned));
      this.#tiles.set(key, tile);
      this.area.append(tile.element);
      this.#watch(tile.element);
    }
    return tile;
  }

  /** Asks anew whether it is in the window: that is told when it changes, and once in the beginning. @param {Element} element */
  #watch(element) {
    this.#unseen.delete(element);
    this.#sight.unobserve(element);
    this.#sight.observe(element);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #sighted(entries) {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) this.#unseen.add(target);
      else this.#unseen.delete(target);
    }
    this.update();
  }

  /** @param {TileView[]} views @param {TileView[]} screens @returns {TileView | undefined} the large one */
  #focus(views, screens) {
    const pinned = views.find(({ key }) => key === this.pinned);
    if (pinned || screens.length) return pinned ?? screens[0];
    if (this.mode === 'grid' || views.length < 2) return undefined;
    return views.find(({ userId }) => userId === this.#speaker.userId) ?? views[0];
  }

  // --- where it goes --------------------------------------------------------------------------------------------------
  /** @param {TileView[]} views @param {TileView | undefined} focus @returns {Map<string, Rect>} */
  #places(views, focus) {
    const { clientWidth: width, clientHeight: height } = this.area;
    const gap = width < 600 ? 6 : 8;
    this.pager.hidden = true;
    if (!width || !height) return new Map();
    if (focus) return this.#focusPlaces(views, focus, { width, height }, gap);
    if (views.length === 2) {
      const { other, self } = pairRects({ width, height }, gap);
      return new Map([
        [views[0].key, other],
        [views[1].key, self],
      ]);
    }
    const isPaged = views.length > pageSize(width, height);
    const free = height - (isPaged ? PAGER : 0);
    const shown = this.#pageOf(views, pageSize(width, free));
    const rects = gridRects(shown.length, { x: 0, y: 0, width, height: free }, gap);
    return new Map(shown.map(({ key }, index) => [key, rects[index]]));
  }

  /** @param {TileView[]} views @param {TileView} focus @param {{width: number, height: number}} size @param {number} gap */
  #focusPlaces(views, focus, size, gap) {
    const rest = views.filter((view) => view !== focus);
    const reserved = focusRects(rest.length, size, gap).fits < rest.length ? PAGER : 0;
    const shown = this.#pageOf(rest, focusRects(rest.length, size, gap, reserved).fits);
    const rects = focusRects(shown.length, size, gap, reserved);
    const places = new Map(shown.map(({ key }, index) => [key, rects.strip[index]]));
    return places.set(focus.key, rects.focus);
  }

  /** The views of this page; shows the pager where there are several. @param {TileView[]} views @param {number} size */
  #pageOf(views, size) {
    const pages = Math.max(1, Math.ceil(views.length / size));
    this.page = Math.min(Math.max(0, this.page), pages - 1);
    this.pager.hidden = pages === 1;
    this.count.textContent = `${this.page + 1} / ${pages}`;
    this.back.disabled = this.page === 0;
    this.forth.disabled = this.page === pages - 1;
    if (pages > 1) this.#keepSelf(views, size);
    if (this.page === 0 && pages > 1) this.#promote(views, size);
    return views.slice(this.page * size, (this.page + 1) * size);
  }

  /** Oneself has the last place of the first page. @param {TileView[]} views @param {number} size */
  #keepSelf(views, size) {
    const self = views.findIndex(({ isSelf }) => isSelf);
    if (self >= size) views.splice(size - 1, 0, ...views.splice(self, 1));
  }

  /** Brings who speaks to the first page. @param {TileView[]} views @param {number} size */
  #promote(views, size) {
    const { people } = this.call.room;
    const spokeAt = (/** @type {TileView} */ { userId }) => people.get(userId)?.spokeAt ?? 0;
    for (let index = size; index < views.length; index += 1) {
      if (!views[index].isSpeaking || views[index].isSelf) continue;
      const quietest = views
        .slice(0, size)
        .filter(({ isSelf }) => !isSelf)
        .reduce((a, b) => (spokeAt(b) < spokeAt(a) ? b : a));
      if (quietest.isSpeaking || quietest.source === 'screen') return;
      const place = views.indexOf(quietest);
      [views[place], views[index]] = [views[index], views[place]];
      const [from, to] = [quietest, views[place]].map(({ userId }) => this.#order.indexOf(userId));
      [this.#order[from], this.#order[to]] = [this.#order[to], this.#order[from]];
    }
  }

  /** @param {TileView} view @param {Rect | null} rect @param {boolean} visible */
  #receive({ trackId, isPinned }, rect, visible) {
    if (!trackId) return;
    const scale = globalThis.devicePixelRatio || 1;
    const size = { width: (rect?.width ?? 0) * scale, height: (rect?.height ?? 0) * scale };
    this.call.receive.set(trackId, { ...size, visible, pinned: isPinned });
  }

  close() {
    this.update.cancel();
    for (const close of this.#closers) close();
    for (const tile of this.#tiles.values()) tile.remove();
  }
}
