import assert from 'node:assert/strict';
import { test } from 'node:test';

import { Room } from '../protocol/room.js';

const person = (userId, more = {}) => ({
  userId,
  participantId: `p-${userId}`,
  displayName: userId,
  role: 'attendee',
  joinedAt: '',
  ...more,
});

function room(...userIds) {
  const made = new Room(() => 1000);
  made.reset({ roomId: 'r', participants: userIds.map((userId) => person(userId)), tracks: [] });
  return made;
}

test('a track of the snapshot without a user is found by its participant', () => {
  const made = new Room();
  const track = { trackId: 't', kind: 'video', source: 'camera', participantId: 'p-a' };
  made.reset({ roomId: 'r', participants: [person('a')], tracks: [track] });
  assert.equal(made.trackOf('a', 'camera').trackId, 't');
});

test('who leaves takes their tracks along', () => {
  const made = room('a', 'b');
  made.apply('TrackPublished', { track: { trackId: 't', kind: 'audio', source: 'microphone', userId: 'b' } });
  made.apply('ParticipantLeft', { userId: 'b', participantId: 'p-b', reason: 'left' });
  assert.deepEqual([...made.people.keys()], ['a']);
  assert.equal(made.tracks.size, 0);
});

test('the leaving of an older run of a person does not remove the newer one', () => {
  const made = room('a');
  made.apply('ParticipantJoined', person('a', { participantId: 'newer' }));
  made.apply('ParticipantLeft', { userId: 'a', participantId: 'p-a', reason: 'timeout' });
  assert.ok(made.people.has('a'));
});

test('only the fields of a StateChanged change', () => {
  const made = room('a');
  made.apply('StateChanged', { userId: 'a', isMuted: true });
  made.apply('StateChanged', { userId: 'a', isVideoOn: true });
  const { isMuted, isVideoOn, isSharing } = made.people.get('a');
  assert.deepEqual([isMuted, isVideoOn, isSharing], [true, true, false]);
});

test('hands keep the order in which they went up', () => {
  const made = room('a', 'b');
  made.apply('StateChanged', { userId: 'b', isHandRaised: true });
  made.apply('StateChanged', { userId: 'a', isHandRaised: true });
  made.apply('StateChanged', { userId: 'b', isHandRaised: true });
  assert.ok(made.people.get('b').handRaisedAt < made.people.get('a').handRaisedAt);
  made.apply('StateChanged', { userId: 'b', isHandRaised: false });
  assert.equal(made.people.get('b').handRaisedAt, 0);
});

test('who is not among the active speakers is silent', () => {
  const made = room('a', 'b');
  made.apply('ActiveSpeakers', { speakers: [{ userId: 'a', level: 0.4 }] });
  made.apply('ActiveSpeakers', { speakers: [{ userId: 'b', level: 0.2 }] });
  assert.equal(made.people.get('a').level, 0);
  assert.equal(made.people.get('a').spokeAt, 1000);
  assert.equal(made.people.get('b').level, 0.2);
});

test('a new snapshot keeps when somebody spoke and forgets who is gone', () => {
  const made = room('a', 'b');
  made.apply('ActiveSpeakers', { speakers: [{ userId: 'a', level: 0.4 }] });
  made.reset({ roomId: 'r', participants: [person('a')], tracks: [], grants: ['ai'] });
  assert.equal(made.people.get('a').spokeAt, 1000);
  assert.equal(made.people.has('b'), false);
  assert.deepEqual(made.grants, ['ai']);
});

test('unknown messages do not concern the room', () => {
  assert.equal(room('a').apply('Surprise', {}), false);
});

test('what the SFU keeps back is known until it comes again or its track is gone', () => {
  const made = room('a', 'b');
  for (const userId of ['a', 'b'])
    made.apply('TrackPublished', { track: { trackId: `t-${userId}`, kind: 'video', source: 'camera', userId } });
  const told = (trackId, paused) => made.apply('ReceiveChanged', { tracks: [{ trackId, paused }] });
  told('t-a', 'bandwidth');
  told('t-b', 'last-n');
  assert.deepEqual([...made.pauses], [['t-a', 'bandwidth'], ['t-b', 'last-n']]); // prettier-ignore
  told('t-a', 'none');
  assert.deepEqual([...made.pauses.keys()], ['t-b']);
  made.apply('ParticipantLeft', { userId: 'b', participantId: 'p-b', reason: 'left' });
  assert.equal(made.pauses.size, 0);
});
