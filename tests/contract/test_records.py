"""Ports `UserStore`, `RecordingStore`, `TranscriptStore` and `AuditLog`."""

from dataclasses import replace
from datetime import timedelta

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.ids import EventId, MeetingId, RecordingId, TenantId
from conference.domain.meetings import Meeting, Participant, User
from conference.domain.records import (
    ActionItem,
    AuditAction,
    AuditEvent,
    MeetingMetadata,
    Recording,
    RecordingState,
    Segment,
    StorageTier,
)
from conference.ports.stores import Stores
from tests.support.meetings import HOST, TENANT, a_meeting, present, seated, user

pytestmark = pytest.mark.contract


@pytest.fixture
async def meeting(stores: Stores, clock: ManualClock) -> Meeting:
    meeting = a_meeting(clock.now())
    await stores.meetings.create(meeting)
    return meeting


@pytest.fixture
async def stay(stores: Stores, meeting: Meeting, clock: ManualClock) -> Participant:
    return await present(stores.meetings, meeting, user(1), clock.now())


# --- users ---


async def test_a_user_keeps_the_first_sight_and_gets_the_latest_name(stores: Stores, clock: ManualClock) -> None:
    first = User(user(1), TENANT, "one@example.org", "One", clock.now())
    assert await stores.users.upsert(first) == first
    renamed = replace(first, email="1@example.org", display_name="Number One", created_at=clock.advance(60))
    stored = await stores.users.upsert(renamed)
    assert stored == replace(renamed, created_at=first.created_at)
    assert await stores.users.get(user(1)) == stored


async def test_names_are_of_those_who_are_known(stores: Stores, clock: ManualClock) -> None:
    for number, name in ((1, "One"), (2, "Two")):
        await stores.users.upsert(User(user(number), TENANT, "", name, clock.now()))
    assert await stores.users.names([user(2), user(3)]) == {user(2): "Two"}
    assert await stores.users.names([]) == {}


async def test_a_user_who_has_not_signed_in_is_unknown_although_they_have_a_meeting(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    await seated(stores.meetings, meeting, user(7), clock.now())
    for unknown in (HOST, user(7)):
        assert await stores.users.get(unknown) is None
    assert await stores.users.names([HOST]) == {}
    signed_in = User(HOST, TENANT, "host@example.org", "Host", clock.advance(5))
    assert await stores.users.upsert(signed_in) == signed_in


# --- recordings ---


async def test_recordings_come_back_in_the_order_they_were_made(
    stores: Stores, meeting: Meeting, stay: Participant, clock: ManualClock
) -> None:
    later = clock.now() + timedelta(seconds=9)
    composite = Recording(
        id=RecordingId("b"),
        meeting_id=meeting.id,
        session_id=stay.session_id,
        blob_url="recordings/b.mp4",
        duration_seconds=61.5,
        storage_tier=StorageTier.HOT,
        state=RecordingState.READY,
        created_at=later,
        manifest={"tracks": [{"trackId": "t", "offset": 0.25}]},
    )
    tracks = replace(composite, id=RecordingId("a"), participant_id=stay.id, created_at=clock.now(), manifest={})
    for recording in (composite, tracks):
        await stores.recordings.put(recording)
    assert list(await stores.recordings.of_meeting(meeting.id)) == [tracks, composite]
    archived = replace(composite, storage_tier=StorageTier.ARCHIVE)
    await stores.recordings.put(archived)
    assert list(await stores.recordings.of_meeting(meeting.id)) == [tracks, archived]
    assert await stores.recordings.of_meeting(MeetingId("x")) == []


# --- transcripts ---


async def test_segments_are_ordered_by_time_and_the_newest_revision_stays(
    stores: Stores, meeting: Meeting, stay: Participant
) -> None:
    second = Segment("s2", stay.id, 2.0, 3.0, "en", "world", final=False, rev=1)
    first = Segment("s1", stay.id, 0.5, 1.5, "en", "hello", final=False)
    await stores.transcripts.put_segments(meeting.id, [second, first])
    stale = replace(second, text="word", rev=0)
    newer = replace(first, text="hello,", rev=3)
    await stores.transcripts.put_segments(meeting.id, [stale, newer])
    await stores.transcripts.put_segments(meeting.id, [])
    assert list(await stores.transcripts.segments(meeting.id)) == [newer, second]
    assert await stores.transcripts.segments(MeetingId("x")) == []


async def test_a_final_segment_never_changes(stores: Stores, meeting: Meeting, stay: Participant) -> None:
    final = Segment("s1", stay.id, 0.0, 1.0, "en", "so be it", final=True, rev=2)
    await stores.transcripts.put_segments(meeting.id, [final])
    await stores.transcripts.put_segments(meeting.id, [replace(final, text="or not", rev=3)])
    assert list(await stores.transcripts.segments(meeting.id)) == [final]


async def test_metadata_is_replaced_by_the_latest(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    items = (ActionItem("send the slides", "One", ("s1", "s2")), ActionItem("book a room", None, ("s3",)))
    metadata = MeetingMetadata(meeting.id, "We met.", items, (ActionItem("go", None, ("s1",)),), "calm", clock.now())
    assert await stores.transcripts.metadata(meeting.id) is None
    await stores.transcripts.put_metadata(replace(metadata, summary="Draft."))
    await stores.transcripts.put_metadata(metadata)
    assert await stores.transcripts.metadata(meeting.id) == metadata


# --- audit ---


async def test_an_audit_entry_is_written_once_and_comes_back_as_it_was(stores: Stores, clock: ManualClock) -> None:
    entry = AuditEvent(
        EventId("e1"), AuditAction.LOGIN, clock.now(), "ok", TENANT, user(1), MeetingId("m"), {"issuer": "local"}
    )
    await stores.audit.write(entry)
    await stores.audit.write(replace(entry, outcome="token-refused"))
    assert list(await stores.audit.find()) == [entry]


async def test_audit_entries_are_found_newest_first_by_what_is_asked(stores: Stores, clock: ManualClock) -> None:
    other = TenantId("22222222-2222-4222-8222-222222222222")
    entries = [
        AuditEvent(EventId("1"), AuditAction.LOGIN, clock.now(), "ok", TENANT, user(1)),
        AuditEvent(EventId("2"), AuditAction.TOKEN_REFUSED, clock.advance(1), "expired"),
        AuditEvent(EventId("3"), AuditAction.RECORDING_ACCESS, clock.advance(1), "ok", TENANT, user(1), MeetingId("m")),
        AuditEvent(EventId("4"), AuditAction.LOGIN, clock.advance(1), "ok", other, user(2)),
    ]
    for entry in entries:
        await stores.audit.write(entry)

    async def found(**asked: object) -> list[str]:
        return [entry.id for entry in await stores.audit.find(**asked)]  # type: ignore[arg-type]

    assert await found() == ["4", "3", "2", "1"]
    assert await found(tenant_id=TENANT) == ["3", "1"]
    assert await found(meeting_id="m") == ["3"]
    assert await found(action=AuditAction.LOGIN) == ["4", "1"]
    assert await found(since=entries[2].at) == ["4", "3"]
    assert await found(tenant_id=TENANT, action=AuditAction.LOGIN, limit=1) == ["1"]
    assert await found(limit=2) == ["4", "3"]
