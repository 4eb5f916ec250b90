/**
 * What is known about the room: people, tracks, who speaks. Built from a snapshot and changed by server messages.
 *
 * Handlers are a table (message type -> function), each a pure change of this object; `apply` says whether the type was
 * one of the room's. No I/O.
 */

/**
 * @typedef {import('./messages.d.ts').TrackInfo & {userId: string}} RoomTrack
 * @typedef {Exclude<import('./messages.d.ts').PauseReason, 'none'>} Pause
 * @typedef {object} Person
 * @property {string} userId
 * @property {string} participantId
 * @property {string} displayName
 * @property {import('./messages.d.ts').Role} role
 * @property {string} joinedAt
 * @property {boolean} isMuted
 * @property {boolean} isVideoOn
 * @property {boolean} isSharing
 * @property {boolean} isHandRaised
 * @property {number} handRaisedAt order in which hands went up, 0 when down
 * @property {import('./messages.d.ts').Quality} quality
 * @property {number} level 0 to 1, 0 when silent
 * @property {number} spokeAt when this person was last heard, 0 for never
 */

const STATE_KEYS = /** @type {const} */ (['isMuted', 'isVideoOn', 'isSharing', 'isHandRaised']);

/** @param {import('./messages.d.ts').ParticipantInfo} info @param {Person} [known] @returns {Person} */
function personOf(info, known) {
  return {
    userId: info.userId,
    participantId: info.participantId,
    displayName: info.displayName,
    role: info.role,
    joinedAt: info.joinedAt,
    isMuted: info.isMuted ?? false,
    isVideoOn: info.isVideoOn ?? false,
    isSharing: info.isSharing ?? false,
    isHandRaised: info.isHandRaised ?? false,
    handRaisedAt: info.isHandRaised ? known?.handRaisedAt || 1 : 0,
    quality: known?.quality ?? 'excellent',
    level: 0,
    spokeAt: known?.spokeAt ?? 0,
  };
}

export class Room {
  /** People in the order of joining, by userId; oneself included. @type {Map<string, Person>} */
  people = new Map();
  /** @type {Map<string, RoomTrack>} */
  tracks = new Map();
  /** Why the SFU keeps a track back from oneself; no entry where it does not. @type {Map<string, Pause>} */
  pauses = new Map();
  isRecording = false;
  /** Own grants (`recording`, `ai`). @type {string[]} */
  grants = [];
  #hands = 1;

  /** @param {() => number} [now] */
  constructor(now = Date.now) {
    this.now = now;
  }

  /** Replaces all that was known. @param {import('./messages.d.ts').Snapshot} snapshot */
  reset(snapshot) {
    const before = this.people;
    this.people = new Map(snapshot.participants.map((info) => [info.userId, personOf(info, before.get(info.userId))]));
    this.tracks = new Map();
    const byParticipant = new Map(snapshot.participants.map((info) => [info.participantId, info.userId]));
    for (const track of snapshot.tracks) {
      const userId = track.userId ?? byParticipant.get(track.participantId ?? '');
      if (userId) this.tracks.set(track.trackId, { ...track, userId });
    }
    this.isRecording = snapshot.isRecording ?? false;
    this.grants = snapshot.grants ?? [];
  }

  /** @param {string} type @param {any} payload @returns {boolean} whether the message changed the room */
  apply(type, payload) {
    const handler = HANDLERS[type];
    if (!handler) return false;
    handler(this, payload);
    return true;
  }

  /** A track that came by SDP before it was announced. @param {import('./messages.d.ts').TrackInfo} track */
  received(track) {
    const { userId } = track;
    if (userId && !this.tracks.has(track.trackId)) this.tracks.set(track.trackId, { ...track, userId });
  }

  /** @param {string} trackId */
  forget(trackId) {
    this.tracks.delete(trackId);
    this.pauses.delete(trackId);
  }

  /** The newest of a source. @param {string} userId @param {import('./messages.d.ts').Source} source @returns {RoomTrack | undefined} */
  trackOf(userId, source) {
    return [...this.tracks.values()].findLast((track) => track.userId === userId && track.source === source);
  }

  /** @param {Person} person @param {Record<string, any>} change */
  change(person, change) {
    for (const key of STATE_KEYS) if (change[key] !== undefined) person[key] = change[key];
    if (change.role) person.role = change.role;
    if (!person.isHandRaised) person.handRaisedAt = 0;
    else if (!person.handRaisedAt) person.handRaisedAt = this.#hands += 1;
  }

  /** @param {{userId: string, level: number}[]} speakers */
  speak(speakers) {
    const levels = new Map(speakers.map(({ userId, level }) => [userId, level]));
    const now = this.now();
    for (const person of this.people.values()) {
      person.level = levels.get(person.userId) ?? 0;
      if (person.level > 0) person.spokeAt = now;
    }
  }
}

/** @type {Record<string, (room: Room, payload: any) => void>} */
const HANDLERS = {
  ParticipantJoined: (room, info) => room.people.set(info.userId, personOf(info, room.people.get(info.userId))),
  ParticipantLeft: (room, { userId, participantId }) => {
    if (room.people.get(userId)?.participantId !== participantId) return; // an older run of the same person
    room.people.delete(userId);
    for (const track of [...room.tracks.values()]) if (track.userId === userId) room.forget(track.trackId);
  },
  StateChanged: (room, payload) => {
    const person = room.people.get(payload.userId);
    if (person) room.change(person, payload);
    if (payload.grants) room.grants = payload.grants;
  },
  Moderated: (room, { action, userId, role }) => {
    const person = room.people.get(userId);
    if (!person) return;
    if (action === 'mute') person.isMuted = true;
    if (action === 'role' && role) person.role = role;
  },
  TrackPublished: (room, { track }) => {
    if (track.userId) room.tracks.set(track.trackId, track);
  },
  TrackUnpublished: (room, { trackId }) => room.forget(trackId),
  ReceiveChanged: (room, { tracks }) => {
    for (const { trackId, paused } of tracks) {
      if (paused === 'none') room.pauses.delete(trackId);
      else room.pauses.set(trackId, paused);
    }
  },
  ActiveSpeakers: (room, { speakers }) => room.speak(speakers),
  QualityChanged: (room, { userId, quality }) => {
    const person = room.people.get(userId);
    if (person) person.quality = quality;
  },
  RecordingStarted: (room) => {
    room.isRecording = true;
  },
  RecordingStopped: (room) => {
    room.isRecording = false;
  },
};
