"""Port `MeetingStore`: what time alone changes: lapsed leases, idle rooms, retention."""

from dataclasses import replace
from datetime import timedelta

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.ids import RecordingId
from conference.domain.meetings import Meeting, MeetingStatus
from conference.domain.records import EventType, MeetingMetadata, Recording, RecordingState, Segment, StorageTier
from conference.ports.meetings import MeetingStore
from conference.ports.stores import Stores
from tests.support.meetings import HOST, LEASE_S, a_consent, a_meeting, present, seated, user

pytestmark = pytest.mark.contract


@pytest.fixture
def store(stores: Stores) -> MeetingStore:
    return stores.meetings


@pytest.fixture
async def meeting(store: MeetingStore, clock: ManualClock) -> Meeting:
    meeting = a_meeting(clock.now())
    await store.create(meeting)
    return meeting


async def test_lapsed_leases_end_at_their_own_end(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    lost = await present(stores.meetings, meeting, user(1), clock.now())
    reserved = await seated(stores.meetings, meeting, user(2), clock.now())
    kept = await seated(stores.meetings, meeting, user(3), clock.advance(1))
    now = clock.advance(LEASE_S - 1)
    ended = await stores.meetings.expire_leases(now)
    assert sorted(ended, key=lambda stay: stay.id) == sorted(
        [replace(lost, left_at=lost.lease_until), replace(reserved, left_at=reserved.lease_until)],
        key=lambda stay: stay.id,
    )
    assert await stores.meetings.participant(meeting.id, kept.id) == kept
    assert await stores.meetings.expire_leases(now) == []
    left = [event for event in await stores.outbox.events(meeting.id) if event.type is EventType.PARTICIPANT_LEFT]
    assert [(event.at, event.payload["reason"], event.payload["userId"]) for event in left] == [
        (lost.lease_until, "timeout", user(1))
    ]


async def test_a_run_over_leases_is_bounded_and_the_next_does_the_rest(store: MeetingStore, clock: ManualClock) -> None:
    for number in (1, 2):
        meeting = a_meeting(clock.now(), number)
        await store.create(meeting)
        for guest in range(3):
            await seated(store, meeting, user(guest), clock.now())
    now = clock.advance(LEASE_S)
    assert [len(await store.expire_leases(now, limit=4)) for _ in range(3)] == [4, 2, 0]


async def test_an_idle_room_closes_at_the_moment_it_became_empty(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    stay = await present(store, meeting, user(1), clock.now())
    left = clock.advance(10)
    await store.mark_left(meeting.id, stay.id, now=left, reason="left")
    assert await store.expire_rooms(clock.advance(59), idle_s=60) == []
    assert await store.expire_rooms(clock.advance(1), idle_s=60) == [meeting.id]
    assert await store.expire_rooms(clock.now(), idle_s=60) == []
    session = await store.session(stay.session_id)
    assert session is not None
    assert session.end_time == left
    active = await store.get(meeting.id)
    assert active is not None
    assert active.status is MeetingStatus.ACTIVE


async def test_a_room_with_somebody_in_it_stays_open(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    stay = await present(store, meeting, user(1), clock.now())
    assert await store.expire_rooms(clock.advance(LEASE_S + 59), idle_s=60) == []
    assert await store.expire_rooms(clock.advance(1), idle_s=60) == [meeting.id]
    session = await store.session(stay.session_id)
    assert session is not None
    assert session.end_time == stay.lease_until


async def test_a_join_after_an_idle_time_opens_the_next_session(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    before = await present(stores.meetings, meeting, user(1), clock.now())
    await stores.meetings.mark_left(meeting.id, before.id, now=clock.now(), reason="left")
    await stores.meetings.expire_rooms(clock.advance(60), idle_s=60)
    unchanged = await stores.meetings.get(meeting.id)
    after = await seated(stores.meetings, meeting, user(1), clock.advance(1))
    assert after.session_id != before.session_id
    assert await stores.meetings.get(meeting.id) == unchanged
    types = [event.type for event in await stores.outbox.events(meeting.id)]
    assert types.count(EventType.SESSION_STARTED) == 2


async def test_a_run_over_rooms_is_bounded(store: MeetingStore, clock: ManualClock) -> None:
    for number in range(3):
        meeting = a_meeting(clock.now(), number)
        await store.create(meeting)
        stay = await seated(store, meeting, user(1), clock.now())
        await store.mark_left(meeting.id, stay.id, now=clock.now(), reason="left")
    now = clock.advance(60)
    assert [len(await store.expire_rooms(now, idle_s=60, limit=2)) for _ in range(3)] == [2, 1, 0]


async def test_retention_deletes_a_meeting_with_all_that_is_its_own(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    stay = await present(stores.meetings, meeting, user(1), clock.now())
    await stores.meetings.remove(meeting.id, stay.id, by=HOST, now=clock.now())
    await stores.meetings.record_consent(a_consent(meeting, user(1), clock.now()))
    recording = Recording(
        RecordingId("r"),
        meeting.id,
        stay.session_id,
        "",
        1.0,
        StorageTier.HOT,
        RecordingState.READY,
        clock.now(),
        stay.id,
    )
    await stores.recordings.put(recording)
    await stores.transcripts.put_segments(meeting.id, [Segment("s", stay.id, 0.0, 1.0, "en", "hello", final=True)])
    await stores.transcripts.put_metadata(MeetingMetadata(meeting.id, "", (), (), "neutral", clock.now()))
    await stores.meetings.end(meeting.id, by=HOST, now=clock.now())
    audited = await stores.audit.find(meeting_id=meeting.id)
    after = clock.now() + timedelta(microseconds=1)

    assert await stores.meetings.delete_ended_before(clock.now()) == []
    assert await stores.meetings.delete_ended_before(after) == [meeting.id]

    assert await stores.meetings.get(meeting.id) is None
    assert await stores.meetings.participant(meeting.id, stay.id) is None
    assert await stores.meetings.session(stay.session_id) is None
    assert await stores.meetings.consents(meeting.id) == []
    assert await stores.recordings.of_meeting(meeting.id) == []
    assert await stores.transcripts.segments(meeting.id) == []
    assert await stores.transcripts.metadata(meeting.id) is None
    assert await stores.outbox.events(meeting.id) == []
    assert audited
    assert await stores.audit.find(meeting_id=meeting.id) == audited


async def test_retention_deletes_however_much_a_meeting_left(stores: Stores, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now())
    await stores.meetings.create(meeting)
    stay = await present(stores.meetings, meeting, HOST, clock.now())
    said = [Segment(f"s/{n}", stay.id, float(n), n + 1.0, "en", "word", final=True) for n in range(250)]
    await stores.transcripts.put_segments(meeting.id, said)
    assert list(await stores.transcripts.segments(meeting.id)) == said
    await stores.meetings.end(meeting.id, by=HOST, now=clock.now())
    assert await stores.meetings.delete_ended_before(clock.advance(1)) == [meeting.id]
    assert await stores.transcripts.segments(meeting.id) == []
    page = await stores.meetings.of_host(HOST, start=None, end=None, cursor=None, limit=10)
    assert page.items == []
    assert await stores.meetings.create(meeting) == meeting  # as if it had never been


async def test_retention_spares_meetings_that_have_not_ended_and_is_bounded(
    store: MeetingStore, clock: ManualClock
) -> None:
    ended = [a_meeting(clock.now(), number) for number in range(3)]
    for meeting in ended:
        await store.create(meeting)
        await store.end(meeting.id, by=HOST, now=clock.advance(1))
    running = a_meeting(clock.now(), 9)
    await store.create(running)
    later = clock.advance(1_000)
    assert set(await store.delete_ended_before(later, limit=2)) == {ended[0].id, ended[1].id}
    assert await store.delete_ended_before(later, limit=2) == [ended[2].id]
    assert await store.delete_ended_before(later) == []
    assert await store.get(running.id) == running
