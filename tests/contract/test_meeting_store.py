"""Port `MeetingStore`: the meeting itself, places and leases."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.errors import ProtocolError, Refused
from conference.domain.ids import MeetingId, ParticipantId, Secret, SessionId
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Participant, Role, TopologyMode
from conference.domain.records import AuditAction, EventType
from conference.ports.meetings import Ended, Joined, MeetingStore
from conference.ports.stores import Stores
from tests.support.meetings import HOST, LEASE_S, a_join, a_meeting, present, seated, user

pytestmark = pytest.mark.contract


@pytest.fixture
def store(stores: Stores) -> MeetingStore:
    return stores.meetings


@pytest.fixture
async def meeting(store: MeetingStore, clock: ManualClock) -> Meeting:
    stored = await store.create(a_meeting(clock.now()))
    assert isinstance(stored, Meeting)
    return stored


async def _event_types(stores: Stores, meeting: Meeting) -> list[EventType]:
    events = await stores.outbox.events(meeting.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.type for event in events]


# --- the meeting itself ---


async def test_a_meeting_comes_back_as_it_was_stored(store: MeetingStore, clock: ManualClock) -> None:
    settings = MeetingSettings(
        ai_enabled=True,
        is_recording_enabled=True,
        max_participants=7,
        allowed_roles=(Role.HOST, Role.VIEWER),
        topology=TopologyMode.SFU,
        languages=("en", "de"),
    )
    zone = timezone(timedelta(hours=5, minutes=30))
    scheduled = datetime(2026, 5, 4, 3, 2, 1, 123456, tzinfo=zone)
    hash_ = Secret("$argon2id$…")
    sent = a_meeting(clock.now(), settings=settings, scheduled_time=scheduled, password_hash=hash_)
    assert await store.create(sent) == sent
    read = await store.get(sent.id)
    assert read == sent
    assert read.scheduled_time is not None
    assert read.created_at.tzinfo == UTC


async def test_an_unknown_meeting_is_none(store: MeetingStore) -> None:
    assert await store.get(MeetingId("00000000-0000-4000-8000-000000000000")) is None


async def test_a_repeated_creation_gives_the_stored_meeting_and_tells_once(stores: Stores, clock: ManualClock) -> None:
    first = a_meeting(clock.now())
    await stores.meetings.create(first, fingerprint="f1")
    again = await stores.meetings.create(replace(first, created_at=clock.advance(5)), fingerprint="f1")
    assert again == first
    assert await _event_types(stores, first) == [EventType.ROOM_CREATED]
    assert len(await stores.audit.find(meeting_id=first.id, action=AuditAction.ROOM_CREATED)) == 1


async def test_another_request_under_the_same_id_is_a_conflict(store: MeetingStore, meeting: Meeting) -> None:
    assert await store.create(meeting, fingerprint="another") == Refused("idempotency-conflict")


async def test_concurrent_repetitions_create_one_meeting(stores: Stores, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now())
    answers = await asyncio.gather(*(stores.meetings.create(meeting, fingerprint="f") for _ in range(10)))
    assert answers == [meeting] * 10
    assert await _event_types(stores, meeting) == [EventType.ROOM_CREATED]


async def test_settings_change_under_the_version_that_was_read(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    wanted = MeetingSettings(max_participants=3)
    changed = await store.change_settings(meeting.id, wanted, expected_version=1, now=clock.now())
    assert changed == replace(meeting, settings=wanted, version=2)
    assert await store.get(meeting.id) == changed
    stale = await store.change_settings(meeting.id, wanted, expected_version=1, now=clock.now())
    assert stale == Refused("precondition-failed")


async def test_settings_of_an_unknown_or_ended_meeting_do_not_change(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    unknown = MeetingId("nothing")
    answer = await store.change_settings(unknown, meeting.settings, expected_version=1, now=clock.now())
    assert answer == Refused("not-found")
    await store.end(meeting.id, by=HOST, now=clock.now())
    ended = await store.change_settings(meeting.id, meeting.settings, expected_version=2, now=clock.now())
    assert ended == Refused("meeting-ended")


async def test_a_host_sees_their_meetings_newest_first_in_pages(store: MeetingStore, clock: ManualClock) -> None:
    base = clock.now()
    offsets = [3, 1, 2, 2, 5]
    for number, hours in enumerate(offsets):
        await store.create(a_meeting(base, number, scheduled_time=base + timedelta(hours=hours)))
    await store.create(a_meeting(base, 99, host_id=user(5)))
    seen: list[Meeting] = []
    cursor = None
    for _ in range(3):
        page = await store.of_host(HOST, start=None, end=None, cursor=cursor, limit=2)
        seen += page.items
        cursor = page.next_cursor
    assert cursor is None
    assert [meeting.listed_at for meeting in seen] == [base + timedelta(hours=h) for h in sorted(offsets, reverse=True)]
    assert len({meeting.id for meeting in seen}) == len(offsets)


async def test_a_list_begins_at_start_and_stops_before_end(store: MeetingStore, clock: ManualClock) -> None:
    base = clock.now()
    for hours in range(4):
        await store.create(a_meeting(base, hours, scheduled_time=base + timedelta(hours=hours)))
    start, end = base + timedelta(hours=1), base + timedelta(hours=3)
    page = await store.of_host(HOST, start=start, end=end, cursor=None, limit=10)
    assert [meeting.scheduled_time for meeting in page.items] == [base + timedelta(hours=2), start]


@pytest.mark.parametrize("cursor", ["", "x", "!!!", "AAAA", "MjAyNi0wMS0wMXw", "9" * 1_000, "\ud800"])
async def test_a_made_up_cursor_is_refused(store: MeetingStore, meeting: Meeting, cursor: str) -> None:
    with pytest.raises(ProtocolError, match="invalid-cursor"):
        await store.of_host(HOST, start=None, end=None, cursor=cursor, limit=10)
    with pytest.raises(ProtocolError, match="invalid-cursor"):
        await store.participants(meeting.id, cursor=cursor, limit=10)


async def test_the_end_closes_everything_once(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    store = stores.meetings
    host = await present(store, meeting, HOST, clock.now())
    guest = await present(store, meeting, user(1), clock.now())
    reserved = await seated(store, meeting, user(2), clock.now())
    at = clock.advance(60)
    ended = await store.end(meeting.id, by=HOST, now=at)
    assert isinstance(ended, Ended)
    assert (ended.meeting.status, ended.meeting.end_time, ended.already) == (MeetingStatus.COMPLETED, at, False)
    assert ended.session is not None
    assert ended.session.end_time == at
    assert await store.session(ended.session.id) == ended.session
    for stay in (host, guest, reserved):
        left = await store.participant(meeting.id, stay.id)
        assert left is not None
        assert left.left_at == at
    types = await _event_types(stores, meeting)
    assert types[-3:] == [EventType.PARTICIPANT_LEFT, EventType.PARTICIPANT_LEFT, EventType.MEETING_ENDED]

    again = await store.end(meeting.id, by=HOST, now=clock.advance(60))
    assert again == replace(ended, already=True)
    assert await _event_types(stores, meeting) == types


async def test_an_end_that_names_a_version_is_of_that_version_only(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    await seated(store, meeting, HOST, clock.now())  # which makes the meeting ACTIVE, another version
    stale = await store.end(meeting.id, by=HOST, now=clock.now(), expected_version=meeting.version)
    assert stale == Refused("precondition-failed")
    current = await store.get(meeting.id)
    assert current is not None
    ended = await store.end(meeting.id, by=HOST, now=clock.now(), expected_version=current.version)
    assert isinstance(ended, Ended)
    again = await store.end(meeting.id, by=HOST, now=clock.now(), expected_version=current.version)
    assert isinstance(again, Ended)
    assert again.already


async def test_the_end_of_an_unknown_meeting_is_refused(store: MeetingStore, clock: ManualClock) -> None:
    assert await store.end(MeetingId("nothing"), by=HOST, now=clock.now()) == Refused("not-found")


async def test_a_meeting_that_nobody_joined_ends_without_a_session(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    ended = await store.end(meeting.id, by=HOST, now=clock.now())
    assert isinstance(ended, Ended)
    assert ended.session is None


# --- join ---


async def test_the_first_join_opens_a_session_and_the_second_uses_it(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    first = await seated(stores.meetings, meeting, HOST, clock.now())
    opened = clock.now()
    second = await seated(stores.meetings, meeting, user(1), clock.advance(1))
    active = await stores.meetings.get(meeting.id)
    assert active == replace(meeting, status=MeetingStatus.ACTIVE, start_time=opened, version=2)
    session = await stores.meetings.session(first.session_id)
    assert session is not None
    assert (session.room_id, session.start_time, session.end_time) == (meeting.id, opened, None)
    assert second.session_id == first.session_id
    assert await _event_types(stores, meeting) == [EventType.ROOM_CREATED, EventType.SESSION_STARTED]


async def test_a_place_is_not_yet_a_presence(store: MeetingStore, meeting: Meeting, clock: ManualClock) -> None:
    place = await seated(store, meeting, user(1), clock.now())
    assert (place.role, place.joined_at, place.left_at) == (Role.ATTENDEE, None, None)
    assert place.lease_until == clock.now() + timedelta(seconds=LEASE_S)
    assert await store.participant(meeting.id, place.id) == place
    assert await store.live_count(meeting.id, clock.now()) == 1


async def test_a_repeated_join_gives_the_same_place_a_longer_lease(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    place = await seated(store, meeting, user(1), clock.now())
    later = clock.advance(10)
    again = await store.join(a_join(meeting, user(1), later))
    assert isinstance(again, Joined)
    assert again.rejoined
    assert again.participant == replace(place, lease_until=later + timedelta(seconds=LEASE_S))
    shorter = await store.join(a_join(meeting, user(1), later, lease_until=later))
    assert isinstance(shorter, Joined)
    assert shorter.participant == again.participant


async def test_concurrent_joins_of_one_user_are_one_participant(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    answers = await asyncio.gather(*(store.join(a_join(meeting, user(1), clock.now())) for _ in range(20)))
    places = [answer for answer in answers if isinstance(answer, Joined)]
    assert len({place.participant.id for place in places}) == 1
    assert [place.rejoined for place in places].count(False) == 1
    assert await store.live_count(meeting.id, clock.now()) == 1


async def test_of_200_concurrent_joins_a_room_of_50_admits_50(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    answers = await asyncio.gather(*(store.join(a_join(meeting, user(n), clock.now())) for n in range(1, 201)))
    assert sum(isinstance(answer, Joined) for answer in answers) == 50
    assert answers.count(Refused("room-full")) == 150
    assert await store.live_count(meeting.id, clock.now()) == 50


async def test_two_processes_worth_of_stores_admit_no_more(twins: tuple[Stores, Stores], clock: ManualClock) -> None:
    stores = [twin.meetings for twin in twins]
    meeting = a_meeting(clock.now())
    await stores[0].create(meeting)
    joins = (stores[n % 2].join(a_join(meeting, user(n), clock.now())) for n in range(1, 201))
    answers = await asyncio.gather(*joins)
    assert sum(isinstance(answer, Joined) for answer in answers) == 50
    assert answers.count(Refused("room-full")) == 150


async def test_places_whose_leases_have_lapsed_go_to_as_many_newcomers(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    store = stores.meetings
    short = clock.now() + timedelta(seconds=10)
    lost = [await seated(store, meeting, user(n), clock.now(), lease_until=short) for n in range(1, 11)]
    kept = [await seated(store, meeting, user(n), clock.now()) for n in range(11, 51)]
    now = clock.advance(10)
    answers = await asyncio.gather(*(store.join(a_join(meeting, user(n), now)) for n in range(101, 131)))
    assert sum(isinstance(answer, Joined) for answer in answers) == len(lost)
    assert answers.count(Refused("room-full")) == 20
    assert await store.live_count(meeting.id, now) == 50
    for stay in kept:
        assert await store.participant(meeting.id, stay.id) == stay


async def test_nobody_is_refused_while_a_place_is_free(store: MeetingStore, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=10))
    await store.create(meeting)
    seats = [await seated(store, meeting, user(n), clock.now()) for n in range(10)]

    def leave(some: list[Participant]) -> list[Coroutine[object, object, bool]]:
        return [store.mark_left(meeting.id, seat.id, now=clock.now(), reason="left") for seat in some]

    async def come(number: int) -> bool:
        return isinstance(await store.join(a_join(meeting, user(number), clock.now())), Joined)

    assert all(await asyncio.gather(*leave(seats[:5])))
    assert all(await asyncio.gather(*map(come, range(100, 105)), *leave(seats[5:])))
    assert all(await asyncio.gather(*map(come, range(105, 110))))
    assert await store.live_count(meeting.id, clock.now()) == 10
    assert await store.join(a_join(meeting, user(1), clock.now())) == Refused("room-full")


async def test_nobody_is_in_a_meeting_that_ended_while_they_joined(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    store = stores.meetings
    joins = [store.join(a_join(meeting, user(n), clock.now())) for n in range(1, 31)]
    end = store.end(meeting.id, by=HOST, now=clock.now())
    *answers, ended = await asyncio.gather(*joins[:15], *joins[15:], end)
    assert isinstance(ended, Ended)
    assert all(isinstance(answer, Joined) or answer == Refused("meeting-ended") for answer in answers)
    assert await store.live_count(meeting.id, clock.now()) == 0
    everybody = (await store.participants(meeting.id, cursor=None, limit=100)).items
    assert len(everybody) == sum(isinstance(answer, Joined) for answer in answers)
    assert {stay.left_at for stay in everybody} <= {clock.now()}
    assert (await _event_types(stores, meeting))[-1] is EventType.MEETING_ENDED


async def test_one_who_is_removed_while_they_join_is_out(store: MeetingStore, clock: ManualClock) -> None:
    for number in range(5):
        meeting = a_meeting(clock.now(), number)
        await store.create(meeting)
        first = await seated(store, meeting, user(1), clock.now())
        await store.mark_left(meeting.id, first.id, now=clock.now(), reason="left")
        await asyncio.gather(
            store.join(a_join(meeting, user(1), clock.now())),
            store.remove(meeting.id, first.id, by=HOST, now=clock.now()),
        )
        assert await store.place_of(meeting.id, user(1), clock.now()) is None
        assert await store.join(a_join(meeting, user(1), clock.now())) == Refused("removed")


async def test_a_meeting_of_many_ends_for_all_of_them(stores: Stores, clock: ManualClock) -> None:
    many = 130
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=many))
    await stores.meetings.create(meeting)
    stays = [await present(stores.meetings, meeting, user(n), clock.now()) for n in range(many)]
    until = clock.now() + timedelta(seconds=2 * LEASE_S)
    everybody = [stay.id for stay in stays]
    assert await stores.meetings.renew_leases(meeting.id, everybody, now=clock.now(), until=until) == many
    at = clock.advance(1)
    answers = await asyncio.gather(*(stores.meetings.end(meeting.id, by=HOST, now=at) for _ in range(3)))
    assert sorted(answer.already for answer in answers if isinstance(answer, Ended)) == [False, True, True]
    assert {answer.meeting for answer in answers if isinstance(answer, Ended)} == {
        await stores.meetings.get(meeting.id)
    }
    left = (await stores.meetings.participants(meeting.id, cursor=None, limit=200)).items
    assert [(stay.left_at, stay.lease_until) for stay in left] == [(at, until)] * many
    types = await _event_types(stores, meeting)
    assert types[-1] is EventType.MEETING_ENDED
    assert [types.count(t) for t in (EventType.PARTICIPANT_JOINED, EventType.PARTICIPANT_LEFT)] == [many, many]


async def test_concurrent_arrivals_are_each_told_once(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    places = [await seated(stores.meetings, meeting, user(n), clock.now()) for n in range(1, 21)]
    until = clock.now() + timedelta(seconds=90)
    marks = (
        stores.meetings.mark_joined(meeting.id, place.id, now=clock.now(), lease_until=until)
        for place in places
        for _ in range(2)
    )
    assert None not in await asyncio.gather(*marks)
    events = [e for e in await stores.outbox.events(meeting.id) if e.type is EventType.PARTICIPANT_JOINED]
    assert sorted(str(e.payload["participantId"]) for e in events) == sorted(place.id for place in places)
    assert len(await stores.audit.find(meeting_id=meeting.id, action=AuditAction.PARTICIPANT_JOINED)) == 20


async def test_a_users_place_is_found_while_it_is_live(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    place = await seated(store, meeting, user(1), clock.now())
    assert await store.place_of(meeting.id, user(1), clock.now()) == place
    assert await store.place_of(meeting.id, user(2), clock.now()) is None
    assert await store.place_of(a_meeting(clock.now(), 404).id, user(1), clock.now()) is None
    assert await store.place_of(meeting.id, user(1), place.lease_until) is None
    await store.mark_left(meeting.id, place.id, now=clock.now(), reason="left")
    assert await store.place_of(meeting.id, user(1), clock.now()) is None


async def test_a_full_room_still_lets_its_own_back_in(store: MeetingStore, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=2))
    await store.create(meeting)
    await seated(store, meeting, user(1), clock.now())
    await seated(store, meeting, user(2), clock.now())
    assert await store.join(a_join(meeting, user(3), clock.now())) == Refused("room-full")
    assert isinstance(await store.join(a_join(meeting, user(2), clock.now())), Joined)


async def test_a_lost_clients_place_is_free_when_its_lease_ends(store: MeetingStore, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=2))
    await store.create(meeting)
    await present(store, meeting, user(1), clock.now())
    lost = await present(store, meeting, user(2), clock.now())
    clock.advance(LEASE_S - 1)
    await store.renew_leases(meeting.id, [lost.id], now=clock.now(), until=clock.now() + timedelta(seconds=90))
    assert isinstance(await store.join(a_join(meeting, user(3), clock.advance(1))), Joined)  # user 1's place
    assert await store.join(a_join(meeting, user(4), clock.now())) == Refused("room-full")


async def test_a_place_that_was_given_on_is_not_brought_back_by_a_late_renewal(
    stores: Stores, clock: ManualClock
) -> None:
    store = stores.meetings
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=2))
    await store.create(meeting)
    first = await present(store, meeting, user(1), clock.now())
    second = await seated(store, meeting, user(2), clock.now())
    end = first.lease_until
    assert isinstance(await store.join(a_join(meeting, user(3), end)), Joined)
    before, until = end - timedelta(seconds=1), end + timedelta(seconds=LEASE_S)
    assert await store.mark_joined(meeting.id, second.id, now=before, lease_until=until) is None
    assert await store.renew_leases(meeting.id, [first.id, second.id], now=before, until=until) == 0
    assert await store.live_count(meeting.id, end) == 1
    left = [event for event in await stores.outbox.events(meeting.id) if event.type is EventType.PARTICIPANT_LEFT]
    assert [(event.at, event.payload["userId"]) for event in left] == [(end, user(1))]


async def test_a_user_who_comes_back_after_the_lease_has_a_new_stay(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    before = await present(stores.meetings, meeting, user(1), clock.now())
    after = await seated(stores.meetings, meeting, user(1), clock.advance(LEASE_S))
    assert after.id != before.id
    assert await stores.meetings.participant(meeting.id, before.id) == replace(before, left_at=before.lease_until)
    left = (await stores.outbox.events(meeting.id))[-1]
    assert (left.type, left.at) == (EventType.PARTICIPANT_LEFT, before.lease_until)
    assert left.payload["reason"] == "timeout"


@pytest.mark.parametrize(
    ("fields", "joiner", "role", "reason"),
    [
        ({"status": MeetingStatus.COMPLETED}, 1, Role.ATTENDEE, "meeting-ended"),
        ({"settings": MeetingSettings(allowed_roles=(Role.HOST, Role.ATTENDEE))}, 1, Role.VIEWER, "role-not-allowed"),
    ],
)
async def test_a_join_that_policy_forbids_leaves_nothing_behind(
    stores: Stores, clock: ManualClock, fields: dict[str, object], joiner: int, role: Role, reason: str
) -> None:
    meeting = a_meeting(clock.now(), **fields)  # type: ignore[arg-type]
    await stores.meetings.create(meeting)
    answer = await stores.meetings.join(a_join(meeting, user(joiner), clock.now(), role=role))
    assert answer == Refused(reason)
    assert (await stores.meetings.participants(meeting.id, cursor=None, limit=10)).items == []
    assert await _event_types(stores, meeting) == [EventType.ROOM_CREATED]


async def test_the_door_opens_15_minutes_early_and_for_the_host_at_any_time(
    store: MeetingStore, clock: ManualClock
) -> None:
    meeting = a_meeting(clock.now(), scheduled_time=clock.now() + timedelta(minutes=15, seconds=1))
    await store.create(meeting)
    assert await store.join(a_join(meeting, user(1), clock.now())) == Refused("not-started")
    assert isinstance(await store.join(a_join(meeting, HOST, clock.now())), Joined)
    assert isinstance(await store.join(a_join(meeting, user(1), clock.advance(1))), Joined)


async def test_an_unknown_meeting_cannot_be_joined(store: MeetingStore, clock: ManualClock) -> None:
    nowhere = a_meeting(clock.now(), 404)
    assert await store.join(a_join(nowhere, user(1), clock.now())) == Refused("not-found")


# --- stays ---


async def test_joining_the_room_is_told_once(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    place = await seated(stores.meetings, meeting, user(1), clock.now())
    at = clock.advance(2)
    until = at + timedelta(seconds=90)
    joined = await stores.meetings.mark_joined(meeting.id, place.id, now=at, lease_until=until)
    assert joined == replace(place, joined_at=at, lease_until=until)
    again = await stores.meetings.mark_joined(meeting.id, place.id, now=clock.advance(5), lease_until=until)
    assert again == joined
    assert (await _event_types(stores, meeting)).count(EventType.PARTICIPANT_JOINED) == 1
    (entry,) = await stores.audit.find(meeting_id=meeting.id, action=AuditAction.PARTICIPANT_JOINED)
    assert (entry.user_id, entry.at, entry.outcome) == (user(1), at, "ok")
    assert entry.detail["participantId"] == place.id


async def test_who_has_no_place_any_more_cannot_join_the_room(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    place = await seated(store, meeting, user(1), clock.now())
    gone = await seated(store, meeting, user(2), clock.now())
    await store.mark_left(meeting.id, gone.id, now=clock.now(), reason="left")
    until = clock.now() + timedelta(hours=1)
    assert await store.mark_joined(meeting.id, gone.id, now=clock.now(), lease_until=until) is None
    assert await store.mark_joined(meeting.id, ParticipantId("x"), now=clock.now(), lease_until=until) is None
    assert await store.mark_joined(MeetingId("x"), place.id, now=clock.now(), lease_until=until) is None
    assert await store.mark_joined(meeting.id, place.id, now=clock.advance(LEASE_S), lease_until=until) is None


async def test_leaving_is_told_once(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    stay = await present(stores.meetings, meeting, user(1), clock.now())
    at = clock.advance(9)
    assert await stores.meetings.mark_left(meeting.id, stay.id, now=at, reason="left")
    assert not await stores.meetings.mark_left(meeting.id, stay.id, now=clock.advance(1), reason="left")
    assert await stores.meetings.participant(meeting.id, stay.id) == replace(stay, left_at=at)
    assert (await _event_types(stores, meeting)).count(EventType.PARTICIPANT_LEFT) == 1
    (entry,) = await stores.audit.find(meeting_id=meeting.id, action=AuditAction.PARTICIPANT_LEFT)
    assert (entry.user_id, entry.detail["reason"]) == (user(1), "left")


async def test_a_place_that_was_never_taken_up_ends_without_a_word(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    place = await seated(stores.meetings, meeting, user(1), clock.now())
    assert await stores.meetings.mark_left(meeting.id, place.id, now=clock.now(), reason="left")
    assert EventType.PARTICIPANT_LEFT not in await _event_types(stores, meeting)


async def test_leases_are_renewed_for_all_who_still_hold_theirs(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    held = [await seated(store, meeting, user(n), clock.now()) for n in (1, 2)]
    short = clock.now() + timedelta(seconds=10)
    lapsed = await seated(store, meeting, user(3), clock.now(), lease_until=short)
    gone = await seated(store, meeting, user(4), clock.now())
    await store.mark_left(meeting.id, gone.id, now=clock.now(), reason="left")
    now = clock.advance(10)
    until = now + timedelta(seconds=90)
    everybody = [stay.id for stay in (*held, lapsed, gone)]
    assert await store.renew_leases(meeting.id, everybody, now=now, until=until) == 2
    for stay in held:
        assert await store.participant(meeting.id, stay.id) == replace(stay, lease_until=until)
    assert await store.participant(meeting.id, lapsed.id) == lapsed
    assert await store.renew_leases(meeting.id, [], now=now, until=until) == 0


async def test_a_removed_user_stays_out(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    stay = await present(stores.meetings, meeting, user(1), clock.now())
    at = clock.advance(3)
    removed = await stores.meetings.remove(meeting.id, stay.id, by=HOST, now=at)
    assert removed == replace(stay, left_at=at)
    assert (await stores.outbox.events(meeting.id))[-1].payload["reason"] == "removed"
    assert await stores.meetings.join(a_join(meeting, user(1), clock.now())) == Refused("removed")
    assert isinstance(await stores.meetings.join(a_join(meeting, user(2), clock.now())), Joined)


async def test_the_removal_of_one_who_has_not_come_in_yet_is_told(
    stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    place = await seated(stores.meetings, meeting, user(1), clock.now())
    await stores.meetings.remove(meeting.id, place.id, by=HOST, now=clock.advance(1))
    event = (await stores.outbox.events(meeting.id))[-1]
    assert (event.type, event.at, event.payload["participantId"]) == (
        EventType.PARTICIPANT_LEFT,
        clock.now(),
        place.id,
    )


async def test_removal_ends_the_users_present_stay_whichever_is_named(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    first = await present(store, meeting, user(1), clock.now())
    await store.mark_left(meeting.id, first.id, now=clock.now(), reason="left")
    second = await present(store, meeting, user(1), clock.advance(1))
    removed = await store.remove(meeting.id, first.id, by=HOST, now=clock.now())
    assert removed == replace(second, left_at=clock.now())
    assert await store.remove(meeting.id, second.id, by=HOST, now=clock.advance(1)) == removed


async def test_the_host_and_strangers_cannot_be_removed(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    host = await seated(store, meeting, HOST, clock.now())
    assert await store.remove(meeting.id, host.id, by=HOST, now=clock.now()) == Refused("forbidden")
    assert await store.remove(meeting.id, ParticipantId("x"), by=HOST, now=clock.now()) == Refused("not-found")


async def test_a_role_is_given_within_the_allowed_ones_and_kept_at_a_rejoin(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    host = await seated(store, meeting, HOST, clock.now())
    guest = await seated(store, meeting, user(1), clock.now())
    changed = await store.set_role(meeting.id, guest.id, Role.VIEWER, now=clock.now())
    assert changed == replace(guest, role=Role.VIEWER)
    assert await seated(store, meeting, user(1), clock.now()) == changed
    for stay, role in ((host, Role.VIEWER), (guest, Role.HOST)):
        assert await store.set_role(meeting.id, stay.id, role, now=clock.now()) == Refused("role-not-allowed")
    await store.mark_left(meeting.id, guest.id, now=clock.now(), reason="left")
    assert await store.set_role(meeting.id, guest.id, Role.VIEWER, now=clock.now()) == Refused("not-found")


async def test_participants_are_listed_in_the_order_they_came(
    store: MeetingStore, meeting: Meeting, clock: ManualClock
) -> None:
    stays = [await seated(store, meeting, user(n), clock.advance(n % 2)) for n in range(1, 6)]
    seen: list[Participant] = []
    cursor = None
    for _ in range(3):
        page = await store.participants(meeting.id, cursor=cursor, limit=2)
        seen += page.items
        cursor = page.next_cursor
    assert cursor is None
    assert seen == sorted(stays, key=lambda stay: (stay.created_at, stay.id))


async def test_an_unknown_session_is_none(store: MeetingStore) -> None:
    assert await store.session(SessionId("x")) is None
