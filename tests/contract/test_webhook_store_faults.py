"""Webhooks in Cosmos DB while the service throttles, fails, or does what it is told and loses the answer."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta

import pytest

from conference.adapters.cosmos import Patience
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.domain.errors import Unavailable
from conference.domain.ids import EventId
from conference.domain.meetings import Meeting
from conference.domain.records import EventType
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import AttemptOutcome, WebhookAttempt, WebhookEndpoint
from conference.ports.stores import Stores
from conference.ports.webhooks import Offer, StreamLease
from local.cosmos.faults import Fault, Kind
from tests.support.cosmos import RunningCosmos, stores_over
from tests.support.meetings import TENANT, a_meeting, uuid_of
from tests.support.webhooks import an_endpoint

pytestmark = pytest.mark.contract
HOLD_S = 60.0


@dataclass
class World:
    cosmos: RunningCosmos
    stores: Stores
    endpoint: WebhookEndpoint
    room: Meeting

    def fault(self, kind: Kind, on: str, times: int = 1) -> None:
        fault = Fault(kind, times, frozenset({on}), container="webhook-streams")
        self.cosmos.server.faults.switch_on(fault)

    async def offers(self, seq: int, clock: ManualClock) -> None:
        await self.stores.webhooks.offer([Offer(TENANT, self.endpoint.id, self.room.id, seq)], clock.now())

    async def claims(self, clock: ManualClock) -> list[StreamLease]:
        claimed = await self.stores.webhooks.claim(clock.now(), limit=10, per_endpoint=10, hold_s=HOLD_S)
        return list(claimed)


@pytest.fixture
async def world(cosmos: RunningCosmos, clock: ManualClock) -> AsyncIterator[World]:
    database = cosmos.open(Patience(answer_s=1.0, operation_s=5.0))
    stores = stores_over(database, SequenceIds())
    endpoint, room = an_endpoint(clock.now()), a_meeting(clock.now())
    await stores.meetings.create(room)
    await stores.webhooks.create(endpoint, fingerprint="", most=1)
    yield World(cosmos, stores, endpoint, room)
    await database.close()


def _attempt(lease: StreamLease, clock: ManualClock) -> WebhookAttempt:
    return WebhookAttempt(
        id=uuid_of(0xFFFF, lease.next_seq),
        endpoint_id=lease.endpoint_id,
        meeting_id=lease.meeting_id,
        seq=lease.next_seq,
        event_id=EventId("e"),
        event_type=EventType.ROOM_CREATED,
        at=clock.now(),
        attempt=1,
        outcome=AttemptOutcome.DELIVERED,
        status=200,
        error=None,
        duration_ms=1,
    )


@pytest.mark.parametrize("kind", ["lose-answer", "unavailable", "throttle", "conflict"])
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_settlement_is_made_and_logged_once(world: World, clock: ManualClock, kind: Kind, keeps: bool) -> None:
    for seq in (1, 2):
        await world.offers(seq, clock)
    (lease,) = await world.claims(clock)
    held_until = clock.now() + timedelta(seconds=HOLD_S) if keeps else None
    world.fault(kind, "batch")
    settlement = Settlement(2, clock.now(), held_until=held_until)
    assert await world.stores.webhooks.settle(lease, settlement, _attempt(lease, clock))
    assert world.cosmos.server.faults.met == 1
    logged = await world.stores.webhooks.attempts(world.endpoint.id, cursor=None, limit=10)
    assert len(logged.items) == 1
    clock.advance(HOLD_S if keeps else 0)
    (again,) = await world.claims(clock)
    assert (again.next_seq, again.last_seq) == (2, 2)


@pytest.mark.parametrize("kind", ["lose-answer", "unavailable", "throttle", "conflict"])
async def test_an_offer_is_made_whatever_happens_to_its_answer(world: World, clock: ManualClock, kind: Kind) -> None:
    for seq in (1, 2):
        world.fault(kind, "write")
        await world.offers(seq, clock)
    assert world.cosmos.server.faults.met == 2
    (lease,) = await world.claims(clock)
    assert (lease.next_seq, lease.last_seq) == (1, 2)


async def test_a_lease_whose_answer_was_lost_is_free_when_its_hold_ends(world: World, clock: ManualClock) -> None:
    await world.offers(1, clock)
    world.fault("lose-answer", "write")
    assert await world.claims(clock) == []  # the client asked again, and the stream was not as it had been
    assert await world.claims(clock) == []  # nobody has it, and nobody sends
    clock.advance(HOLD_S)
    assert [lease.next_seq for lease in await world.claims(clock)] == [1]


async def test_an_account_that_stays_away_is_unavailable_and_nothing_is_lost(world: World, clock: ManualClock) -> None:
    await world.offers(1, clock)
    (lease,) = await world.claims(clock)
    world.fault("unavailable", "batch", times=50)
    with pytest.raises(Unavailable):
        await world.stores.webhooks.settle(lease, Settlement(2, None), _attempt(lease, clock))
    world.cosmos.server.faults.clear()
    clock.advance(HOLD_S)
    assert [lease.next_seq for lease in await world.claims(clock)] == [1]
    assert (await world.stores.webhooks.attempts(world.endpoint.id, cursor=None, limit=10)).items == []
