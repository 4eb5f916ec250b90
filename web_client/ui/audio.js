/**
 * Sound of the others: one audio element a track, on the chosen speaker. Where the browser blocks it, `blocked` is
 * called once and `resume` starts everything after a click.
 */

/** @typedef {import('../protocol/subscriber.js').Received} Received */

const FADE_MS = 20;
const FADE_STEP = 0.25;
/** A new element that does not play by then takes over all the same. */
const FADE_WAIT_MS = 500;

export class Sound {
  /** @type {Map<string, HTMLAudioElement>} */
  #elements = new Map();
  /** @type {(() => void)[]} */
  #closers = [];

  /** @param {import('../protocol/call.js').Call} call @param {import('./devices.js').Devices} devices @param {() => void} blocked */
  constructor(call, devices, blocked) {
    this.devices = devices;
    this.blocked = blocked;
    this.#closers.push(
      call.on('track', (received) => this.#add(received)),
      call.on('untrack', ({ info }) => this.#remove(info.trackId)),
      devices.on('change', () => this.#route()),
    );
    for (const received of call.topology.received.values()) this.#add(received);
  }

  /** @param {Received} received */
  #add({ info, media }) {
    if (info.kind !== 'audio') return;
    const former = this.#elements.get(info.trackId);
    const audio = new Audio();
    audio.srcObject = new MediaStream([media]);
    this.#elements.set(info.trackId, audio);
    this.#sink(audio);
    if (former) this.#fade(former, audio);
    this.#play(audio);
  }

  /** The same sound by another way: one fades into the other, so that there is neither a gap nor an echo. @param {HTMLAudioElement} from @param {HTMLAudioElement} to */
  #fade(from, to) {
    to.volume = 0;
    const step = (/** @type {number} */ volume) => {
      to.volume = volume;
      from.volume = 1 - volume;
      if (volume < 1) setTimeout(() => step(Math.min(1, volume + FADE_STEP)), FADE_MS * FADE_STEP);
      else from.srcObject = null;
    };
    const begin = () => {
      to.onplaying = null;
      clearTimeout(late);
      step(FADE_STEP);
    };
    const late = setTimeout(begin, FADE_WAIT_MS); // blocked, or nothing comes: the former one ends all the same
    to.onplaying = begin;
  }

  /** @param {HTMLAudioElement} audio */
  #play(audio) {
    audio.play().catch((error) => {
      if (error.name === 'NotAllowedError') this.blocked();
    });
  }

  /** @param {HTMLAudioElement} audio */
  #sink(audio) {
    const { speaker } = this.devices.choice;
    if ('setSinkId' in audio && audio.sinkId !== speaker) audio.setSinkId(speaker).catch(() => {}); // unplugged: the default
  }

  #route() {
    for (const audio of this.#elements.values()) this.#sink(audio);
  }

  /** After a click. */
  resume() {
    for (const audio of this.#elements.values()) this.#play(audio);
  }

  /** @param {string} trackId */
  #remove(trackId) {
    const audio = this.#elements.get(trackId);
    if (audio) audio.srcObject = null;
    this.#elements.delete(trackId);
  }

  close() {
    for (const close of this.#closers) close();
    for (const trackId of [...this.#elements.keys()]) this.#remove(trackId);
  }
}
