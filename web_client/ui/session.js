/**
 * What a person does in a call, joined from the call and the devices: microphone, camera, share, hand.
 *
 * Buttons and keys call these; each tells the devices, the media and the others in this order, so that nothing is sent
 * after it is shown as off. Events: `change`; `notice` ({text, code, iconName}).
 */

import { Emitter } from '../protocol/events.js';
import { reason } from './texts.js';

/** @typedef {import('../protocol/call.js').Call} Call */
/** @typedef {import('./devices.js').Devices} Devices */

export class Session extends Emitter {
  /** @type {MediaStream | null} */
  share = null;
  /** @type {(() => void)[]} */
  #closers = [];
  #wantsCamera = false;
  #isChoosing = false;

  /** @param {Call} call @param {Devices} devices */
  constructor(call, devices) {
    super();
    this.call = call;
    this.devices = devices;
    this.#closers.push(
      devices.on('change', () => this.#devicesChanged()),
      devices.on('switched', (detail) => this.#switched(detail)),
      call.on('moderated', (moderated) => this.#moderated(moderated)),
      call.on('room', () => this.#roomChanged()),
      call.on('adapted', () => this.emit('change')),
    );
    this.#roomChanged();
    this.#devicesChanged(); // one may have opened while the join was under way
  }

  /** The camera is on, and the network keeps its picture back. */
  get isVideoPaused() {
    return this.call.congestion.isVideoPaused;
  }

  get canPublish() {
    return this.call.role !== 'viewer';
  }

  // --- microphone and camera ------------------------------------------------------------------------------------------
  async toggleMicrophone() {
    const { devices, call } = this;
    if (!this.canPublish) return;
    if (!devices.microphone) {
      devices.isMuted = false;
      if (!(await devices.open('microphone')) && devices.trouble.microphone) return this.#trouble('microphone');
    } else {
      devices.mute(!call.own.isMuted);
    }
    this.emit('change');
    return undefined;
  }

  async toggleCamera() {
    const { devices, call } = this;
    if (!this.canPublish) return undefined;
    if (this.isVideoPaused) {
      call.congestion.keepVideo(); // a press counts for more than the network
      return undefined;
    }
    this.#wantsCamera = devices.isOpening('camera') ? !this.#wantsCamera : !call.own.isVideoOn;
    if (this.#wantsCamera) call.congestion.keepVideo();
    if (!this.#wantsCamera) {
      if (call.own.isVideoOn) call.update({ isVideoOn: false });
      devices.close('camera'); // also one that is still opening
    } else if (!(await devices.open('camera')) && devices.trouble.camera) {
      return this.#trouble('camera');
    }
    this.emit('change');
    return undefined;
  }

  /** @param {'microphone' | 'camera'} kind */
  #trouble(kind) {
    const code = this.devices.trouble[kind] ?? `${kind}-missing`;
    this.emit('notice', { text: reason(code).text, code, iconName: 'circle-alert' });
  }

  /** Another device was chosen, or one came or went: what is sent and what the others are told follow the devices. */
  #devicesChanged() {
    const { devices, call } = this;
    if (call.state === 'ended' || !this.canPublish) return;
    call.setTrack('microphone', devices.microphone);
    call.setTrack('camera', devices.camera);
    const isMuted = devices.isMuted || !devices.microphone;
    const isVideoOn = Boolean(devices.camera);
    // What one wants, also where the network keeps it back.
    if (isMuted !== call.own.isMuted || isVideoOn !== call.congestion.wantsVideo) call.update({ isMuted, isVideoOn });
    this.emit('change');
  }

  /** @param {{kind: 'microphone' | 'camera', label: string}} detail */
  #switched({ kind, label }) {
    const name = kind === 'camera' ? 'camera' : 'microphone';
    if (label) {
      this.emit('notice', { text: `Your ${name} was disconnected. “${label}” is used now.`, code: 'device-switched' });
      return;
    }
    this.call.update(kind === 'camera' ? { isVideoOn: false } : { isMuted: true });
    this.emit('notice', { text: `Your ${name} was disconnected.`, code: `${kind}-missing`, iconName: 'circle-alert' });
    this.emit('change');
  }

  // --- share and hand -------------------------------------------------------------------------------------------------
  async toggleShare() {
    if (this.share) return this.stopShare();
    if (!this.canPublish || !this.devices.canShare || this.#isChoosing) return undefined;
    const share = await this.#chooseScreen();
    if (!share) return undefined;
    if (this.call.state === 'ended' || !this.canPublish) {
      for (const track of share.getTracks()) track.stop(); // the call was over before the choice was made
      return undefined;
    }
    this.share = share;
    const [video] = this.share.getVideoTracks();
    const [audio] = this.share.getAudioTracks();
    video.addEventListener('ended', () => this.stopShare());
    await this.call.setTrack('screen', video);
    if (audio) await this.call.setTrack('screenAudio', audio);
    this.call.update({ isSharing: true });
    this.emit('change');
    return undefined;
  }

  /** @returns {Promise<MediaStream | null>} null where the person chose nothing */
  async #chooseScreen() {
    this.#isChoosing = true;
    try {
      return await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { max: 15 } }, audio: true });
    } catch {
      return null;
    } finally {
      this.#isChoosing = false;
    }
  }

  async stopShare() {
    if (!this.share) return;
    for (const track of this.share.getTracks()) track.stop();
    this.share = null;
    await this.call.setTrack('screen', null);
    await this.call.setTrack('screenAudio', null);
    this.call.update({ isSharing: false });
    this.emit('change');
  }

  toggleHand() {
    this.call.update({ isHandRaised: !this.call.own.isHandRaised });
    this.emit('change');
  }

  // --- what others do -------------------------------------------------------------------------------------------------
  /** @param {{action: string, userId: string, byUserId: string, role?: string}} moderated */
  #moderated({ action, userId, byUserId, role }) {
    if (userId !== this.call.userId) return;
    const by = this.call.room.people.get(byUserId)?.displayName ?? 'The host';
    if (action === 'mute') {
      this.devices.mute(true);
      this.emit('notice', {
        text: `${by} muted you. Unmute yourself when you want to speak.`,
        code: 'muted',
        iconName: 'mic-off',
      });
    } else if (action === 'role') {
      const texts = {
        host: 'You are a host now.',
        attendee: 'You can speak and show yourself now.',
        viewer: 'You watch and listen now.',
      };
      this.emit('notice', { text: texts[/** @type {'host'} */ (role)] ?? 'Your role has changed.', code: 'role' });
    }
    this.emit('change');
  }

  /** A viewer sends nothing. */
  #roomChanged() {
    const { call, devices } = this;
    if (this.canPublish || (!devices.camera && !devices.microphone && !this.share)) return;
    this.stopShare();
    call.setTrack('microphone', null);
    call.setTrack('camera', null);
    devices.closeAll();
    call.update({ isMuted: true, isVideoOn: false });
    this.emit('change');
  }

  close() {
    for (const close of this.#closers) close();
    for (const track of this.share?.getTracks() ?? []) track.stop();
    this.devices.closeAll();
  }
}
