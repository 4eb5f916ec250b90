/**
 * Camera, microphone and speaker: opening them, naming what went wrong, remembering the choice, noticing a change.
 *
 * Switching the camera off stops the capture, so that its light goes out. The microphone stays open while muted, so
 * that unmuting is instant; its track is disabled, which sends silence.
 *
 * Events: `change`; `switched` ({kind, label}) when a device vanished and another took over.
 */

import { Emitter } from '../protocol/events.js';

/**
 * @typedef {'microphone' | 'camera'} InputKind
 * @typedef {InputKind | 'speaker'} DeviceKind
 */

const STORED = 'parley.devices';
const CAMERA = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } };
const MICROPHONE = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const TROUBLES = new Map([
  ['NotAllowedError', 'denied'],
  ['SecurityError', 'denied'],
  ['NotFoundError', 'missing'],
  ['OverconstrainedError', 'missing'],
  ['NotReadableError', 'busy'],
  ['AbortError', 'busy'],
]);
const API_KINDS = { microphone: 'audioinput', camera: 'videoinput', speaker: 'audiooutput' };

/** @returns {Record<DeviceKind, string>} */
function storedChoice() {
  try {
    return { microphone: '', camera: '', speaker: '', ...JSON.parse(localStorage.getItem(STORED) ?? '{}') };
  } catch {
    return { microphone: '', camera: '', speaker: '' };
  }
}

export class Devices extends Emitter {
  /** @type {MediaStreamTrack | null} */
  microphone = null;
  /** @type {MediaStreamTrack | null} */
  camera = null;
  /** Why a device is not there: a slug of texts.js. @type {Record<InputKind, string | null>} */
  trouble = { microphone: null, camera: null };
  isMuted = false;
  /** Counts openings and closings: what was closed while the browser still opened it is let go at once. */
  #turns = { microphone: 0, camera: 0 };
  #opening = { microphone: 0, camera: 0 };
  choice = storedChoice();

  constructor() {
    super();
    navigator.mediaDevices?.addEventListener('devicechange', () => this.emit('change'));
  }

  get canChooseSpeaker() {
    return 'setSinkId' in HTMLMediaElement.prototype;
  }

  get canShare() {
    return Boolean(navigator.mediaDevices && 'getDisplayMedia' in navigator.mediaDevices);
  }

  /** Both at once, so that the browser asks once; each by itself where one fails. */
  async openBoth() {
    if (!navigator.mediaDevices) {
      this.trouble = { microphone: 'insecure-context', camera: 'insecure-context' };
      this.emit('change');
      return;
    }
    const turns = { microphone: this.#begin('microphone'), camera: this.#begin('camera') };
    try {
      const constraints = { audio: this.#constraints('microphone'), video: this.#constraints('camera') };
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      this.#take('microphone', stream.getAudioTracks()[0], turns.microphone);
      this.#take('camera', stream.getVideoTracks()[0], turns.camera);
    } catch {
      const kinds = /** @type {const} */ (['microphone', 'camera']);
      await Promise.all(kinds.map((kind) => turns[kind] === this.#turns[kind] && this.open(kind)));
    } finally {
      this.#opening.microphone -= 1;
      this.#opening.camera -= 1;
    }
  }

  /** @param {InputKind} kind @returns {number} */
  #begin(kind) {
    this.#opening[kind] += 1;
    return (this.#turns[kind] += 1);
  }

  /** The browser is asked for it and has not answered. @param {InputKind} kind */
  isOpening(kind) {
    return this.#opening[kind] > 0;
  }

  /** Opens a device, the chosen one where it is there. @param {InputKind} kind @returns {Promise<MediaStreamTrack | null>} */
  async open(kind) {
    const turn = this.#begin(kind);
    const constraints = kind === 'camera' ? { video: this.#constraints(kind) } : { audio: this.#constraints(kind) };
    try {
      const stream = await navigator.mediaDevices.getUserMedia(constraints);
      this.#take(kind, stream.getTracks()[0], turn);
    } catch (error) {
      if (turn !== this.#turns[kind]) return null;
      const name = error instanceof Error ? error.name : '';
      this.trouble[kind] = navigator.mediaDevices ? `${kind}-${TROUBLES.get(name) ?? 'busy'}` : 'insecure-context';
      this.emit('change');
    } finally {
      this.#opening[kind] -= 1;
    }
    return this[kind];
  }

  /** @param {InputKind} kind @returns {MediaTrackConstraints} */
  #constraints(kind) {
    const deviceId = this.choice[kind] ? { deviceId: { ideal: this.choice[kind] } } : {};
    return { ...(kind === 'camera' ? CAMERA : MICROPHONE), ...deviceId };
  }

  /** @param {InputKind} kind @param {MediaStreamTrack} track @param {number} turn */
  #take(kind, track, turn) {
    if (turn !== this.#turns[kind]) {
      track.stop();
      return;
    }
    this[kind]?.stop();
    this[kind] = track;
    this.trouble[kind] = null;
    if (kind === 'microphone') track.enabled = !this.isMuted;
    track.addEventListener('ended', () => this.#vanished(kind, track));
    this.emit('change');
  }

  /** The device was unplugged or taken away. @param {InputKind} kind @param {MediaStreamTrack} track */
  async #vanished(kind, track) {
    if (this[kind] !== track) return;
    this[kind] = null;
    this.choice[kind] = '';
    const next = await this.open(kind);
    this.emit('switched', { kind, label: next?.label ?? '' });
  }

  /** @param {InputKind} kind */
  close(kind) {
    this.#turns[kind] += 1;
    this[kind]?.stop();
    this[kind] = null;
    this.emit('change');
  }

  /** @param {boolean} isMuted */
  mute(isMuted) {
    this.isMuted = isMuted;
    if (this.microphone) this.microphone.enabled = !isMuted;
    this.emit('change');
  }

  /** @param {DeviceKind} kind @param {string} deviceId */
  async choose(kind, deviceId) {
    this.choice[kind] = deviceId;
    localStorage.setItem(STORED, JSON.stringify(this.choice));
    if (kind !== 'speaker' && this[kind]) await this.open(kind);
    else this.emit('change');
  }

  /** @param {DeviceKind} kind @returns {Promise<MediaDeviceInfo[]>} */
  async list(kind) {
    const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    return all.filter((device) => device.kind === API_KINDS[kind] && device.deviceId);
  }

  closeAll() {
    this.close('microphone');
    this.close('camera');
  }
}

/** The level of a track, 0 to 1, ten times a second. @param {MediaStreamTrack} track @param {(level: number) => void} show @returns {() => void} stops it */
export function meter(track, show) {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const timer = setInterval(() => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    show(Math.min(1, Math.max(0, (10 * Math.log10(power + 1e-9) + 60) / 50)));
  }, 100);
  return () => {
    clearInterval(timer);
    context.close();
  };
}
