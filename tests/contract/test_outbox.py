"""Port `Outbox`, and the relay of the Functions app that empties it into a queue."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import cast
from uuid import UUID

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.domain.errors import Unavailable
from conference.domain.ids import EventId
from conference.domain.meetings import Meeting
from conference.domain.records import DomainEvent, EventType
from conference.ports.records import Outbox
from conference.ports.stores import Stores
from conference.protocol.events import decode_event
from functions.events import QUEUE, relay
from functions.services import Services
from tests.support.meetings import HOST, a_consent, a_meeting, user

pytestmark = pytest.mark.contract


async def _busy_meeting(stores: Stores, clock: ManualClock, number: int = 1, decisions: int = 3) -> Meeting:
    """A meeting with one event of its creation and one a decision."""
    meeting = a_meeting(clock.now(), number)
    await stores.meetings.create(meeting)
    for index in range(decisions):
        await stores.meetings.record_consent(a_consent(meeting, user(index), clock.now(), 100 * number + index))
    return meeting


async def test_events_are_numbered_from_1_in_the_order_they_happened(stores: Stores, clock: ManualClock) -> None:
    meeting = await _busy_meeting(stores, clock)
    events = await stores.outbox.events(meeting.id)
    assert [event.seq for event in events] == [1, 2, 3, 4]
    assert [event.type for event in events] == [EventType.ROOM_CREATED] + [EventType.CONSENT_RECORDED] * 3
    assert [event.payload.get("userId") for event in events] == [None, user(0), user(1), user(2)]
    assert len({UUID(event.id) for event in events}) == 4
    assert events[0].at == clock.now()


async def test_concurrent_changes_are_numbered_without_gaps(stores: Stores, clock: ManualClock) -> None:
    meeting = await _busy_meeting(stores, clock, decisions=0)
    decisions = (a_consent(meeting, user(n), clock.now(), n) for n in range(20))
    await asyncio.gather(*(stores.meetings.record_consent(decision) for decision in decisions))
    assert [event.seq for event in await stores.outbox.events(meeting.id)] == list(range(1, 22))


async def test_one_event_a_room_is_in_flight(stores: Stores, clock: ManualClock) -> None:
    rooms = [await _busy_meeting(stores, clock, number) for number in (1, 2)]
    first = await stores.outbox.claim(clock.now())
    assert {(event.meeting_id, event.seq) for event in first} == {(room.id, 1) for room in rooms}
    assert await stores.outbox.claim(clock.now()) == []
    await stores.outbox.published([event.id for event in first if event.meeting_id == rooms[0].id], clock.now())
    assert [(event.meeting_id, event.seq) for event in await stores.outbox.claim(clock.now())] == [(rooms[0].id, 2)]


async def test_a_claim_that_nobody_finished_is_free_when_its_hold_ends(stores: Stores, clock: ManualClock) -> None:
    await _busy_meeting(stores, clock)
    claimed = await stores.outbox.claim(clock.now(), hold_s=30)
    assert await stores.outbox.claim(clock.advance(29), hold_s=30) == []
    assert await stores.outbox.claim(clock.advance(1), hold_s=30) == claimed


async def test_a_claim_takes_no_more_than_its_limit(stores: Stores, clock: ManualClock) -> None:
    for number in range(3):
        await _busy_meeting(stores, clock, number, decisions=0)
    assert [len(await stores.outbox.claim(clock.now(), limit=2)) for _ in range(3)] == [2, 1, 0]


async def test_publishing_twice_or_the_unknown_changes_nothing(stores: Stores, clock: ManualClock) -> None:
    meeting = await _busy_meeting(stores, clock, decisions=1)
    (first,) = await stores.outbox.claim(clock.now())
    for _ in range(2):
        await stores.outbox.published([first.id, EventId("x")], clock.now())
    await stores.outbox.published([], clock.now())
    assert [event.seq for event in await stores.outbox.claim(clock.now())] == [2]
    assert len(await stores.outbox.events(meeting.id)) == 2


async def test_two_relays_at_once_claim_no_event_twice(twins: tuple[Stores, Stores], clock: ManualClock) -> None:
    stores = twins
    for number in range(20):
        await _busy_meeting(stores[0], clock, number, decisions=0)
    claims = await asyncio.gather(*(stores[n % 2].outbox.claim(clock.now(), limit=5) for n in range(8)))
    claimed = [event.id for events in claims for event in events]
    assert len(claimed) == len(set(claimed))
    rest = await stores[0].outbox.claim(clock.now())
    assert len(claimed) + len(rest) == 20


async def test_two_relays_at_once_deliver_everything_once_and_in_order(
    twins: tuple[Stores, Stores], clock: ManualClock
) -> None:
    rooms = [await _busy_meeting(twins[0], clock, number, decisions=6) for number in (1, 2, 3)]
    delivered: list[DomainEvent] = []

    async def work(stores: Stores) -> None:
        while claimed := await stores.outbox.claim(clock.now()):
            delivered.extend(claimed)
            await stores.outbox.published([event.id for event in claimed], clock.now())

    await asyncio.gather(*map(work, twins))
    await work(twins[1])  # what the other held while this one looked for the last time
    for room in rooms:
        assert [event.seq for event in delivered if event.meeting_id == room.id] == list(range(1, 8))


async def test_another_process_marks_what_was_published(twins: tuple[Stores, Stores], clock: ManualClock) -> None:
    await _busy_meeting(twins[0], clock, decisions=1)
    (first,) = await twins[0].outbox.claim(clock.now())
    await twins[1].outbox.published([first.id], clock.now())
    assert [event.seq for event in await twins[1].outbox.claim(clock.now())] == [2]


# --- the relay ---


def _services(stores: Stores, clock: ManualClock, outbox: Outbox | None = None) -> Services:
    """What the relay uses of the app's services."""
    used = SimpleNamespace(
        outbox=outbox or stores.outbox,
        queue=stores.queue,
        clock=clock,
        meetings=stores.meetings,
        webhooks=stores.webhooks,
    )
    return cast(Services, used)


async def _received(stores: Stores, clock: ManualClock) -> list[DomainEvent]:
    messages = await stores.queue.receive(QUEUE, now=clock.now(), limit=1_000)
    return [decode_event(message.body) for message in messages]


async def test_the_relay_delivers_everything_in_order_per_room(stores: Stores, clock: ManualClock) -> None:
    rooms = [await _busy_meeting(stores, clock, number) for number in (1, 2, 3)]
    assert await relay(_services(stores, clock)) == 12
    assert await relay(_services(stores, clock)) == 0
    received = await _received(stores, clock)
    for room in rooms:
        of_room = [event for event in received if event.meeting_id == room.id]
        assert of_room == list(await stores.outbox.events(room.id))


async def test_a_rooms_long_backlog_is_moved_in_one_run(stores: Stores, clock: ManualClock) -> None:
    await _busy_meeting(stores, clock, decisions=120)
    assert await relay(_services(stores, clock)) == 121


async def test_two_relays_at_once_keep_the_order_of_a_room(stores: Stores, clock: ManualClock) -> None:
    await _busy_meeting(stores, clock, decisions=10)
    await asyncio.gather(*(relay(_services(stores, clock)) for _ in range(2)))
    await relay(_services(stores, clock))
    assert [event.seq for event in await _received(stores, clock)] == list(range(1, 12))


class _CrashingOutbox:
    """Fails once, after the events were sent and before they are marked."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._crashed = False
        self.claim = outbox.claim
        self.events = outbox.events

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None:
        if not self._crashed:
            self._crashed = True
            raise Unavailable("database")
        await self._outbox.published(event_ids, now)


async def test_an_event_sent_twice_after_a_crash_is_one_message(stores: Stores, clock: ManualClock) -> None:
    meeting = await _busy_meeting(stores, clock, decisions=1)
    services = _services(stores, clock, _CrashingOutbox(stores.outbox))
    with pytest.raises(Unavailable):
        await relay(services)
    assert await relay(services) == 0  # still held
    clock.advance(30)
    assert await relay(services) == 2
    assert await _received(stores, clock) == list(await stores.outbox.events(meeting.id))


async def test_the_end_of_a_meeting_is_told_after_everything_else(stores: Stores, clock: ManualClock) -> None:
    meeting = await _busy_meeting(stores, clock)
    await stores.meetings.end(meeting.id, by=HOST, now=clock.advance(1))
    await relay(_services(stores, clock))
    last = (await _received(stores, clock))[-1]
    assert (last.type, last.payload) == (EventType.MEETING_ENDED, {"sessionId": None, "by": HOST})
