"""The stores on Cosmos DB that throttles, conflicts, is down, slow or silent: bounded, clear, nothing doubled or
lost."""

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import timedelta

import pytest

from conference.adapters.cosmos import CosmosDatabase, Patience
from conference.adapters.cosmos.client import Document, Items, Raced
from conference.adapters.cosmos.containers import ALL, AUDIT, HOSTS, LEASES, MEETINGS
from conference.adapters.cosmos.documents import CAPACITY, item_id
from conference.adapters.cosmos.operations import create, patch
from conference.adapters.cosmos.provision import provision
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.domain.consent import ConsentStatus, broken_link
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, Secret
from conference.domain.meetings import Meeting, MeetingSettings
from conference.domain.records import AuditAction, EventType
from conference.ports.meetings import Ended, Joined
from conference.ports.stores import Stores
from local.cosmos.faults import Fault, Kind
from tests.support.cosmos import KEY, RunningCosmos, stores_over
from tests.support.meetings import HOST, LEASE_S, a_consent, a_join, a_meeting, present, seated, user
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

HASTY = Patience(connect_s=1.0, answer_s=0.5, operation_s=4.0, throttled_tries=4, throttled_s=1)
# Requests of a join, an arrival, a decision and an end: each kind of request meets each kind of fault.
PASSING = [
    *((kind, on) for kind in ("throttle", "unavailable", "lose-answer") for on in ("query", "batch", "write", "read")),
    ("conflict", "batch"),  # the service asks only writers to try again
    ("conflict", "write"),
]


@pytest.fixture
async def database(cosmos: RunningCosmos) -> AsyncIterator[CosmosDatabase]:
    opened = cosmos.open()
    yield opened
    await opened.close()


@pytest.fixture
async def stores(database: CosmosDatabase, ids: SequenceIds) -> Stores:
    return stores_over(database, ids)


@pytest.fixture
async def meeting(stores: Stores, clock: ManualClock) -> Meeting:
    meeting = a_meeting(clock.now())
    await stores.meetings.create(meeting)
    return meeting


@pytest.fixture
async def hasty(cosmos: RunningCosmos, ids: SequenceIds) -> AsyncIterator[Stores]:
    """Stores of a client that does not wait long."""
    opened = cosmos.open(HASTY)
    yield stores_over(opened, SequenceIds(7))
    await opened.close()


def _fault(
    cosmos: RunningCosmos, kind: Kind, *on: str, times: int = 1, after_ms: int = 20, container: str = ""
) -> None:
    cosmos.server.faults.switch_on(Fault(kind, times, frozenset(on), after_ms, container))


async def _check_whole(stores: Stores, meeting: Meeting, clock: ManualClock) -> None:
    """What has to hold after any fault: one number an event, one entry an arrival, places as counted, a sound chain."""
    events = await stores.outbox.events(meeting.id)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    everybody = (await stores.meetings.participants(meeting.id, cursor=None, limit=1_000)).items
    joined = [event.payload["participantId"] for event in events if event.type is EventType.PARTICIPANT_JOINED]
    assert sorted(map(str, joined)) == sorted(stay.id for stay in everybody if stay.joined_at is not None)
    entries = await stores.audit.find(meeting_id=meeting.id, action=AuditAction.PARTICIPANT_JOINED, limit=1_000)
    assert sorted(entry.detail["participantId"] for entry in entries) == sorted(map(str, joined))
    assert broken_link(await stores.meetings.consents(meeting.id)) is None


async def _live_and_counted(database: CosmosDatabase, stores: Stores, meeting: Meeting) -> tuple[int, int]:
    """Open stays, and what `capacity` says."""
    everybody = (await stores.meetings.participants(meeting.id, cursor=None, limit=1_000)).items
    capacity = await database.items(MEETINGS).read(meeting.id, CAPACITY)
    assert capacity is not None
    return sum(stay.left_at is None for stay in everybody), capacity["live"]


# --- faults ---


@pytest.mark.parametrize(("kind", "on"), PASSING)
async def test_a_passing_fault_is_not_noticed(
    cosmos: RunningCosmos, database: CosmosDatabase, stores: Stores, clock: ManualClock, kind: Kind, on: str
) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(ai_enabled=True))
    for _ in range(3):
        _fault(cosmos, kind, on)
        await stores.meetings.create(meeting, fingerprint="f")
        await stores.meetings.record_consent(a_consent(meeting, user(1), clock.now(), 1))
        place = await seated(stores.meetings, meeting, user(1), clock.now())
        until = clock.now() + timedelta(seconds=LEASE_S)
        assert await stores.meetings.mark_joined(meeting.id, place.id, now=clock.now(), lease_until=until)
    cosmos.server.faults.clear()
    assert cosmos.server.faults.met >= 1
    assert await _live_and_counted(database, stores, meeting) == (1, 1)
    assert len(await stores.meetings.consents(meeting.id)) == 1
    await _check_whole(stores, meeting, clock)
    ended = await stores.meetings.end(meeting.id, by=HOST, now=clock.now())
    assert isinstance(ended, Ended)
    types = [event.type for event in await stores.outbox.events(meeting.id)]
    assert types == [
        EventType.ROOM_CREATED,
        EventType.CONSENT_RECORDED,
        EventType.SESSION_STARTED,
        EventType.PARTICIPANT_JOINED,
        EventType.PARTICIPANT_LEFT,
        EventType.MEETING_ENDED,
    ]


@pytest.mark.parametrize(
    ("kind", "on"),
    [
        ("throttle", "query"),
        ("throttle", "batch"),
        ("unavailable", "query"),
        ("unavailable", "batch"),
        ("conflict", "batch"),
        ("hang", "query"),
        ("hang", "batch"),
        ("slow", "query"),
        ("lose-answer", "query"),
    ],
)
async def test_a_lasting_fault_is_a_bounded_refusal(
    cosmos: RunningCosmos, stores: Stores, hasty: Stores, meeting: Meeting, clock: ManualClock, kind: Kind, on: str
) -> None:
    await hasty.meetings.get(meeting.id)  # connects
    _fault(cosmos, kind, on, times=1_000, after_ms=700)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable) as caught:
        await hasty.meetings.join(a_join(meeting, user(1), clock.now()))
    assert asyncio.get_running_loop().time() - began < 2 * HASTY.operation_s
    assert (caught.value.what, caught.value.retryable) == ("the database", True)
    cosmos.server.faults.clear()
    assert isinstance(await stores.meetings.join(a_join(meeting, user(1), clock.now())), Joined)
    assert await stores.meetings.live_count(meeting.id, clock.now()) == 1


@pytest.mark.parametrize("kind", ["slow", "lose-answer"])
async def test_what_was_done_and_not_answered_is_found_done(
    cosmos: RunningCosmos, database: CosmosDatabase, hasty: Stores, meeting: Meeting, clock: ManualClock, kind: Kind
) -> None:
    await hasty.meetings.get(meeting.id)
    _fault(cosmos, kind, "batch", times=1_000, after_ms=700)
    with suppress(Unavailable):
        await hasty.meetings.join(a_join(meeting, user(1), clock.now()))
    cosmos.server.faults.clear()

    async def is_in() -> bool:
        return await hasty.meetings.place_of(meeting.id, user(1), clock.now()) is not None

    await eventually(is_in)
    assert await _live_and_counted(database, hasty, meeting) == (1, 1)
    assert [event.seq for event in await hasty.outbox.events(meeting.id)] == [1, 2]


async def test_who_is_throttled_too_long_is_told_when_to_come_back(
    cosmos: RunningCosmos, hasty: Stores, meeting: Meeting
) -> None:
    _fault(cosmos, "throttle", "read", times=1_000, after_ms=400)
    with pytest.raises(Unavailable) as caught:
        await hasty.meetings.get(meeting.id)
    assert caught.value.after_s == pytest.approx(0.4)
    assert cosmos.server.faults.met <= HASTY.throttled_tries + 1


async def test_many_joins_under_throttling_admit_just_as_many(
    cosmos: RunningCosmos, database: CosmosDatabase, stores: Stores, clock: ManualClock
) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=10))
    await stores.meetings.create(meeting)
    _fault(cosmos, "throttle", "batch", times=10, after_ms=10)
    _fault(cosmos, "conflict", "batch", times=10)
    _fault(cosmos, "lose-answer", "batch", times=5)
    _fault(cosmos, "unavailable", "query", times=5)
    answers = await asyncio.gather(*(stores.meetings.join(a_join(meeting, user(n), clock.now())) for n in range(1, 41)))
    assert sum(isinstance(answer, Joined) for answer in answers) == 10
    assert answers.count(Refused("room-full")) == 30
    assert await _live_and_counted(database, stores, meeting) == (10, 10)


async def test_a_wrong_key_is_said_so_and_not_tried_again(cosmos: RunningCosmos, meeting: Meeting) -> None:
    wrong = Secret(base64.b64encode(b"another key").decode())
    database = CosmosDatabase(cosmos.url, cosmos.database, key=wrong, patience=HASTY)
    with pytest.raises(Unavailable, match="refuses this process's credential") as caught:
        await stores_over(database, SequenceIds()).meetings.get(meeting.id)
    assert (caught.value.retryable, caught.value.after_s) == (False, None)
    await database.close()


@pytest.mark.parametrize(("level", "warned"), [("Strong", 0), ("BoundedStaleness", 0), ("Session", 1), ("Eventual", 1)])
async def test_a_consistency_that_is_too_weak_is_told_once(
    cosmos: RunningCosmos, meeting: Meeting, caplog: pytest.LogCaptureFixture, level: str, warned: int
) -> None:
    cosmos.server.consistency = level
    database = cosmos.open()
    store = stores_over(database, SequenceIds()).meetings
    for _ in range(2):
        assert await store.get(meeting.id) == meeting
    said = [record for record in caplog.records if "consistency" in record.getMessage()]
    assert len(said) == warned
    await database.close()


async def test_a_missing_container_or_database_is_said_so(cosmos: RunningCosmos, clock: ManualClock) -> None:
    cosmos.server.account.databases[cosmos.database].containers.pop("meetings")
    elsewhere = CosmosDatabase(cosmos.url, "elsewhere", key=Secret(KEY), patience=HASTY)
    for opened in (cosmos.open(HASTY), elsewhere):
        store = stores_over(opened, SequenceIds()).meetings
        for call in (store.get(MeetingId("m")), store.create(a_meeting(clock.now()))):
            with pytest.raises(Unavailable, match="lacks its containers") as caught:
                await call
            assert not caught.value.retryable
        await opened.close()


async def test_an_account_that_is_not_there_is_unavailable_and_comes_back(
    cosmos: RunningCosmos, unused_tcp_port: int, meeting: Meeting
) -> None:
    database = cosmos.open(HASTY, url=f"http://127.0.0.1:{unused_tcp_port}")
    store = stores_over(database, SequenceIds()).meetings
    for _ in range(2):
        with pytest.raises(Unavailable):
            await store.get(meeting.id)
    pipe = await asyncio.start_server(_pipe_to(cosmos), "127.0.0.1", unused_tcp_port)
    async with pipe:
        assert await store.get(meeting.id) == meeting
        await database.close()


def _pipe_to(cosmos: RunningCosmos) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = cosmos.url.removeprefix("http://").split(":")
        there, back = await asyncio.open_connection(host, int(port))
        await asyncio.gather(pump(reader, back), pump(there, writer), return_exceptions=True)

    return serve


async def test_half_open_sockets_are_given_up(clock: ManualClock) -> None:
    """A peer that accepts and never says anything."""
    silent: list[asyncio.StreamWriter] = []

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        silent.append(writer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    key = Secret(base64.b64encode(b"x").decode())
    database = CosmosDatabase(f"http://127.0.0.1:{port}", "parley", key=key, patience=HASTY)
    began = asyncio.get_running_loop().time()
    with pytest.raises(Unavailable):
        await stores_over(database, SequenceIds()).meetings.join(a_join(a_meeting(clock.now()), HOST, clock.now()))
    assert asyncio.get_running_loop().time() - began < 3 * HASTY.operation_s
    await database.close()
    for writer in silent:
        writer.close()
    server.close()


# --- what follows late ---


async def test_an_audit_entry_and_a_hosts_list_that_failed_are_made_good(
    cosmos: RunningCosmos, stores: Stores, hasty: Stores, clock: ManualClock
) -> None:
    meeting = a_meeting(clock.now())
    await hasty.users.get(HOST)  # connects
    _fault(cosmos, "unavailable", times=1_000, container=AUDIT.name)
    _fault(cosmos, "unavailable", times=1_000, container=HOSTS.name)
    assert await hasty.meetings.create(meeting) == meeting
    with pytest.raises(Unavailable):
        await hasty.outbox.claim(clock.now())  # the entry comes before the event
    cosmos.server.faults.clear()
    assert (await stores.meetings.of_host(HOST, start=None, end=None, cursor=None, limit=10)).items == []
    assert list(await stores.audit.find(meeting_id=meeting.id)) == []
    (event,) = await stores.outbox.claim(clock.now())
    assert (event.seq, event.type) == (1, EventType.ROOM_CREATED)
    assert (await stores.meetings.of_host(HOST, start=None, end=None, cursor=None, limit=10)).items == [meeting]
    assert [entry.action for entry in await stores.audit.find(meeting_id=meeting.id)] == [AuditAction.ROOM_CREATED]


async def test_an_end_that_was_left_half_done_is_finished_by_the_timer(
    cosmos: RunningCosmos, stores: Stores, hasty: Stores, clock: ManualClock
) -> None:
    many = 60
    meeting = a_meeting(clock.now(), settings=MeetingSettings(max_participants=many))
    await stores.meetings.create(meeting)
    for number in range(many):
        await seated(stores.meetings, meeting, user(number), clock.now())
    await hasty.meetings.get(meeting.id)
    cosmos.server.faults.switch_on(Fault("unavailable", 1_000, frozenset({"batch"}), skip=1))
    at = clock.advance(1)
    with pytest.raises(Unavailable):
        await hasty.meetings.end(meeting.id, by=HOST, now=at)
    cosmos.server.faults.clear()
    assert await stores.meetings.join(a_join(meeting, user(999), at)) == Refused("meeting-ended")
    assert EventType.MEETING_ENDED not in [event.type for event in await stores.outbox.events(meeting.id)]
    await stores.meetings.expire_rooms(clock.advance(1), idle_s=60)
    assert [event.type for event in await stores.outbox.events(meeting.id)][-1] is EventType.MEETING_ENDED
    assert await stores.meetings.live_count(meeting.id, at) == 0
    ended = await stores.meetings.get(meeting.id)
    assert ended is not None
    assert ended.end_time == at


async def test_a_relay_that_lost_its_place_numbers_nothing_twice(
    cosmos: RunningCosmos, database: CosmosDatabase, stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    await present(stores.meetings, meeting, user(1), clock.now())
    before = await stores.outbox.events(meeting.id)
    leases = database.items(LEASES)
    assert await leases.delete("outbox", "outbox")
    other = cosmos.open()
    again = stores_over(other, SequenceIds(9))
    assert await again.outbox.events(meeting.id) == before
    await other.close()


async def test_a_room_that_fails_does_not_hold_up_the_events_of_others(
    cosmos: RunningCosmos, stores: Stores, clock: ManualClock
) -> None:
    for number in (1, 2):
        await stores.meetings.create(a_meeting(clock.now(), number))
    assert await stores.outbox.claim(clock.now(), limit=0) == []  # numbers them
    _fault(cosmos, "lose-answer", "batch")
    (first,) = await stores.outbox.claim(clock.now(), hold_s=30)
    assert cosmos.server.faults.met == 1
    await stores.outbox.published([first.id], clock.now())
    _fault(cosmos, "lose-answer", "batch")
    with pytest.raises(Unavailable):  # where nothing is left to give
        await stores.outbox.claim(clock.advance(30), hold_s=30)
    (second,) = await stores.outbox.claim(clock.advance(30))
    assert second.meeting_id != first.meeting_id
    await stores.outbox.published([second.id], clock.now())
    assert await stores.outbox.claim(clock.advance(3_600)) == []


async def test_readers_of_a_feed_that_hangs_do_not_wait_for_each_other_without_end(
    cosmos: RunningCosmos, meeting: Meeting
) -> None:
    patience = Patience(answer_s=0.3, operation_s=1.0)
    opened = cosmos.open(patience)
    outbox = stores_over(opened, SequenceIds(7)).outbox
    await outbox.events(meeting.id)  # connects
    _fault(cosmos, "hang", "feed", times=1_000)
    began, readers = asyncio.get_running_loop().time(), 12
    answers = await asyncio.gather(*(outbox.events(meeting.id) for _ in range(readers)), return_exceptions=True)
    assert asyncio.get_running_loop().time() - began < readers * patience.operation_s / 2
    assert [type(answer) for answer in answers] == [Unavailable] * readers
    cosmos.server.faults.clear()
    assert [event.seq for event in await outbox.events(meeting.id)] == [1]
    await opened.close()


async def test_readers_of_the_feed_who_wait_share_one_reading(
    database: CosmosDatabase, stores: Stores, meeting: Meeting, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stores.outbox.events(meeting.id)
    readings, changes = 0, Items.changes

    async def counted(items: Items, continuation: str | None) -> tuple[list[Document], str | None]:
        nonlocal readings
        found = await changes(items, continuation)
        readings += not found[0]  # the end of one
        return found

    monkeypatch.setattr(Items, "changes", counted)
    await present(stores.meetings, meeting, user(1), clock.now())
    answers = await asyncio.gather(*(stores.outbox.events(meeting.id) for _ in range(20)))
    assert readings == 2
    assert [[event.seq for event in answer] for answer in answers] == [[1, 2, 3]] * 20
    await seated(stores.meetings, meeting, user(2), clock.now())
    await stores.outbox.events(meeting.id)
    assert readings == 3


async def test_a_room_whose_session_ended_while_it_was_read_is_left_alone(
    database: CosmosDatabase, stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    """Of a query that is no snapshot: `capacity` names a session that is not among the items."""
    place = await seated(stores.meetings, meeting, user(1), clock.now())
    assert await database.items(MEETINGS).delete(meeting.id, item_id("session", place.session_id))
    assert list(await stores.meetings.expire_rooms(clock.advance(86_400), idle_s=60)) == []


# --- the batch ---


async def test_a_count_that_is_too_high_is_corrected_before_anybody_is_refused(
    database: CosmosDatabase, stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    await seated(stores.meetings, meeting, HOST, clock.now())
    await database.items(MEETINGS).batch(meeting.id, [patch(CAPACITY, set={"live": 50})])
    assert isinstance(await stores.meetings.join(a_join(meeting, user(1), clock.now())), Joined)
    assert await _live_and_counted(database, stores, meeting) == (2, 2)


async def test_a_batch_of_ours_is_all_or_nothing(database: CosmosDatabase, stores: Stores, meeting: Meeting) -> None:
    items = database.items(MEETINGS)
    extra = {"id": "extra", "kind": "extra", "meetingId": meeting.id}
    with pytest.raises(Raced) as caught:
        await items.batch(meeting.id, [create(extra), patch(CAPACITY, add={"live": 1}, where="c.live > 7")])
    assert (caught.value.status, caught.value.index) == (412, 1)
    assert await items.read(meeting.id, "extra") is None


async def test_the_container_itself_refuses_a_fork_of_the_consent_log(
    database: CosmosDatabase, stores: Stores, meeting: Meeting, clock: ManualClock
) -> None:
    await stores.meetings.record_consent(a_consent(meeting, HOST, clock.now()))
    items: Items = database.items(MEETINGS)
    (entry,) = await items.query("SELECT * FROM c WHERE c.kind = 'consent'", key=meeting.id)
    with pytest.raises(Raced):
        await items.create({**entry, "consentId": "forged", "hash": "x"})
    assert len(await stores.meetings.consents(meeting.id)) == 1


async def test_a_withdrawal_while_somebody_joins_counts_in_one_order(stores: Stores, clock: ManualClock) -> None:
    meeting = a_meeting(clock.now(), settings=MeetingSettings(is_recording_enabled=True))
    await stores.meetings.create(meeting)
    for number in range(1, 6):
        await stores.meetings.record_consent(a_consent(meeting, user(number), clock.now(), number))

        withdrawn = a_consent(meeting, user(number), clock.now(), 100 + number, status=ConsentStatus.WITHDRAWN)
        joined, entry = await asyncio.gather(
            stores.meetings.join(a_join(meeting, user(number), clock.now())), stores.meetings.record_consent(withdrawn)
        )
        assert isinstance(joined, Joined)
        assert not isinstance(entry, Refused)
        # Whoever is told of the grant has joined before the withdrawal, which then names the stay.
        assert bool(joined.grants) == (entry.participant_id == joined.participant.id)


async def test_the_containers_are_made_once_and_as_defined(cosmos: RunningCosmos, database: CosmosDatabase) -> None:
    await asyncio.gather(*(provision(database) for _ in range(3)))
    made = cosmos.server.account.databases[cosmos.database].containers
    assert set(made) == {definition.name for definition in ALL}
    for definition in ALL:
        description = made[definition.name].description
        assert description["partitionKey"]["paths"] == list(definition.partition_key)
        assert description.get("defaultTtl") == definition.default_ttl
        assert description["indexingPolicy"] == definition.indexing_policy


@pytest.mark.parametrize(
    "endpoint", ["https://parley.documents.azure.com", "http://10.0.0.1:8081", "https://127.0.0.1.example.org"]
)
def test_a_key_is_for_this_machine_only(endpoint: str) -> None:
    with pytest.raises(ValueError, match="emulator"):
        CosmosDatabase(endpoint, "parley", key=Secret("a2V5"))
    with pytest.raises(ValueError, match="credential"):
        CosmosDatabase(endpoint, "parley")
