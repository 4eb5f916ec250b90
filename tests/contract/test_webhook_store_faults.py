"""Webhooks in Cosmos DB while the service throttles, fails, or does what it is told and loses the answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest

from conference.adapters.cosmos import CosmosDatabase, Patience, webhooks
from conference.adapters.cosmos.client import Document
from conference.adapters.cosmos.containers import WEBHOOK_STREAMS, WEBHOOKS
from conference.adapters.cosmos.webhooks import CosmosWebhookStore
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.domain.errors import Refused, Unavailable
from conference.domain.meetings import Meeting
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import WebhookEndpoint
from conference.ports.stores import Stores
from conference.ports.webhooks import Offer, StreamLease
from functions.upkeep import ATTEMPTS_KEPT
from local.cosmos.faults import Fault, Kind
from tests.support.cosmos import RunningCosmos, cosmos_server, stores_over
from tests.support.meetings import HOST, TENANT, a_meeting
from tests.support.webhooks import an_attempt, an_endpoint

pytestmark = pytest.mark.contract
HOLD_S = 60.0


@dataclass
class World:
    cosmos: RunningCosmos
    database: CosmosDatabase
    stores: Stores
    endpoint: WebhookEndpoint
    room: Meeting

    def fault(self, kind: Kind, on: str, times: int = 1, container: str = "webhook-streams") -> None:
        fault = Fault(kind, times, frozenset({on}), container=container)
        self.cosmos.server.faults.switch_on(fault)

    async def offers(self, seq: int, clock: ManualClock) -> None:
        await self.stores.webhooks.offer([Offer(TENANT, self.endpoint.id, self.room.id, seq)], clock.now())

    async def claims(self, clock: ManualClock) -> list[StreamLease]:
        claimed = await self.stores.webhooks.claim(clock.now(), limit=10, per_endpoint=10, hold_s=HOLD_S)
        return list(claimed)


@asynccontextmanager
async def opened(cosmos: RunningCosmos) -> AsyncIterator[World]:
    database = cosmos.open(Patience(answer_s=2.0, operation_s=10.0))
    stores, now = stores_over(database, SequenceIds()), ManualClock().now()
    endpoint, room = an_endpoint(now), a_meeting(now)
    await stores.meetings.create(room)
    await stores.webhooks.create(endpoint, fingerprint="", most=1)
    yield World(cosmos, database, stores, endpoint, room)
    await database.close()


@pytest.fixture
async def world(cosmos: RunningCosmos) -> AsyncIterator[World]:
    async with opened(cosmos) as made:
        yield made


@pytest.mark.parametrize("kind", ["lose-answer", "unavailable", "throttle", "conflict"])
@pytest.mark.parametrize("keeps", [True, False])
async def test_a_settlement_is_made_and_logged_once(world: World, clock: ManualClock, kind: Kind, keeps: bool) -> None:
    for seq in (1, 2):
        await world.offers(seq, clock)
    (lease,) = await world.claims(clock)
    held_until = clock.now() + timedelta(seconds=HOLD_S) if keeps else None
    world.fault(kind, "batch")
    settlement = Settlement(2, clock.now(), held_until=held_until)
    assert await world.stores.webhooks.settle(lease, settlement, an_attempt(lease, clock.now()))
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


async def test_a_lease_whose_answer_was_lost_is_found_and_used(world: World, clock: ManualClock) -> None:
    await world.offers(1, clock)
    world.fault("lose-answer", "write")
    (lease,) = await world.claims(clock)
    assert await world.claims(clock) == []
    assert await world.stores.webhooks.settle(lease, Settlement(2, None), an_attempt(lease, clock.now()))


@pytest.mark.parametrize("kind", ["unavailable", "throttle"])
async def test_a_claim_that_was_refused_holds_nothing(world: World, clock: ManualClock, kind: Kind) -> None:
    await world.offers(1, clock)
    world.fault(kind, "write", times=50)
    with pytest.raises(Unavailable):
        await world.claims(clock)
    world.cosmos.server.faults.clear()
    assert [lease.next_seq for lease in await world.claims(clock)] == [1]


async def test_a_claim_that_met_another_write_is_left_to_the_next_look(world: World, clock: ManualClock) -> None:
    await world.offers(1, clock)
    world.fault("conflict", "write")
    assert await world.claims(clock) == []
    assert [lease.next_seq for lease in await world.claims(clock)] == [1]


@pytest.mark.parametrize("kind", ["lose-answer", "unavailable", "throttle", "conflict"])
async def test_what_is_given_back_without_an_entry_is_known_as_given_back(
    world: World, clock: ManualClock, kind: Kind
) -> None:
    await world.offers(1, clock)
    (lease,) = await world.claims(clock)
    world.fault(kind, "batch")
    assert await world.stores.webhooks.settle(lease, Settlement(1, None))
    assert not await world.stores.webhooks.settle(lease, Settlement(1, None))
    assert await world.claims(clock) == []
    await world.stores.webhooks.wake(world.endpoint.id, clock.now())
    assert len(await world.claims(clock)) == 1


@pytest.mark.parametrize("kind", ["lose-answer", "unavailable", "throttle", "conflict"])
async def test_an_endpoint_is_made_changed_and_deleted_whatever_happens_to_the_answer(
    world: World, clock: ManualClock, kind: Kind
) -> None:
    await world.offers(1, clock)
    store, other = world.stores.webhooks, an_endpoint(clock.now(), 2)
    world.fault(kind, "write", container="webhooks")
    assert await store.create(other, fingerprint="f", most=2) == other
    world.fault(kind, "write", container="webhooks")
    changed = await store.change(replace(other, description="new"))
    assert changed == replace(other, description="new", version=2)
    world.fault(kind, "write", container="webhooks")
    world.fault(kind, "batch")
    assert await store.delete(TENANT, world.endpoint.id)
    assert world.cosmos.server.faults.met == 4
    assert list(await store.of_tenant(TENANT)) == [changed]
    assert await world.claims(clock) == []


@pytest.mark.parametrize("then", ["the timer", "the same request again"])
async def test_a_deletion_that_was_left_half_done_is_finished(world: World, clock: ManualClock, then: str) -> None:
    store = world.stores.webhooks
    await world.offers(1, clock)
    world.fault("unavailable", "batch", times=50)
    assert await store.delete(TENANT, world.endpoint.id)
    world.cosmos.server.faults.clear()
    assert await store.get(TENANT, world.endpoint.id) is None
    assert list(await store.of_tenant(TENANT)) == []
    assert await store.change(world.endpoint) == Refused("not-found")
    other = a_meeting(clock.now(), 2)
    await world.stores.meetings.create(other)
    await store.offer([Offer(TENANT, world.endpoint.id, other.id, 1)], clock.now())
    left = await world.database.items(WEBHOOK_STREAMS).query("SELECT VALUE c.meetingId FROM c")
    assert left == [world.room.id]
    if then == "the timer":
        assert await store.prune(clock.now()) == 0
        assert await world.database.items(WEBHOOKS).query("SELECT * FROM c") == []
    else:
        assert await store.create(world.endpoint, fingerprint="", most=1) == world.endpoint
    assert await world.database.items(WEBHOOK_STREAMS).query("SELECT * FROM c") == []
    assert await store.delete(TENANT, world.endpoint.id) == (then != "the timer")


async def test_a_run_of_the_timer_deletes_a_bounded_part_of_what_an_endpoint_left(
    world: World, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = [world.room, *(a_meeting(clock.now(), number) for number in range(2, 6))]
    for room in rooms[1:]:
        await world.stores.meetings.create(room)
    await world.stores.webhooks.offer([Offer(TENANT, world.endpoint.id, room.id, 1) for room in rooms], clock.now())
    monkeypatch.setattr(webhooks, "_A_LOOK", 1)
    monkeypatch.setattr(webhooks, "_LOOKS", 0)
    monkeypatch.setattr(webhooks, "_LOOKS_OF_A_RUN", 2)
    assert await world.stores.webhooks.delete(TENANT, world.endpoint.id)
    left = []
    for _ in range(3):
        await world.stores.webhooks.prune(clock.now())
        left.append(len(await world.database.items(WEBHOOK_STREAMS).query("SELECT * FROM c")))
    assert left == [3, 1, 0]
    assert await world.database.items(WEBHOOKS).query("SELECT * FROM c") == []


async def test_a_rewind_and_a_wake_survive_a_lost_answer(world: World, clock: ManualClock) -> None:
    await world.offers(3, clock)
    world.fault("lose-answer", "write")
    await world.stores.webhooks.rewind(
        TENANT, world.endpoint.id, world.room.id, from_seq=1, last_seq=3, now=clock.now()
    )
    (lease,) = await world.claims(clock)
    assert (lease.next_seq, lease.last_seq) == (1, 3)
    assert await world.stores.webhooks.settle(lease, Settlement(1, None, dead=True))
    world.fault("lose-answer", "write")
    await world.stores.webhooks.wake(world.endpoint.id, clock.now(), skip_dead=True)
    assert [lease.next_seq for lease in await world.claims(clock)] == [2]  # passed over once


@pytest.mark.parametrize("what", ["endpoint", "room"])
async def test_a_stream_that_begins_while_its_endpoint_or_room_goes_is_taken_back(
    world: World, clock: ManualClock, what: str
) -> None:
    """The deletion as a whole comes between the look and the write."""
    items = world.database.items(WEBHOOK_STREAMS)
    store = world.stores.webhooks
    assert isinstance(store, CosmosWebhookStore)
    create = store._items.create

    async def late(document: Document) -> Document:
        if what == "endpoint":
            assert await store.delete(TENANT, world.endpoint.id)
        else:
            await world.stores.meetings.end(world.room.id, by=HOST, now=clock.advance(1))
            assert await world.stores.meetings.delete_ended_before(clock.advance(1)) == [world.room.id]
        return await create(document)

    store._items.create = late  # type: ignore[method-assign]
    await world.offers(1, clock)
    assert await items.query("SELECT * FROM c") == []


async def test_tries_and_idle_streams_expire_and_what_waits_does_not(clock: ManualClock) -> None:
    at = [1_800_000_000.0]
    async with cosmos_server(lambda: at[0]) as running, opened(running) as world:
        rooms = [world.room, a_meeting(clock.now(), 2)]
        await world.stores.meetings.create(rooms[1])
        await world.stores.webhooks.offer([Offer(TENANT, world.endpoint.id, room.id, 1) for room in rooms], clock.now())
        by_room = {lease.meeting_id: lease for lease in await world.claims(clock)}
        done, parked = by_room[rooms[0].id], by_room[rooms[1].id]
        assert await world.stores.webhooks.settle(done, Settlement(2, None), an_attempt(done, clock.now()))
        assert await world.stores.webhooks.settle(parked, Settlement(1, None))
        at[0] += ATTEMPTS_KEPT.total_seconds() - 1
        assert len((await world.stores.webhooks.attempts(world.endpoint.id, cursor=None, limit=10)).items) == 1
        at[0] += 1
        assert (await world.stores.webhooks.attempts(world.endpoint.id, cursor=None, limit=10)).items == []
        at[0] += 365 * 86_400
        left = await world.database.items(WEBHOOK_STREAMS).query("SELECT VALUE c.meetingId FROM c")
        assert left == [rooms[1].id]
        await world.stores.webhooks.offer([Offer(TENANT, world.endpoint.id, rooms[0].id, 2)], clock.now())
        assert [lease.next_seq for lease in await world.claims(clock)] == [2]


async def test_an_account_that_stays_away_is_unavailable_and_nothing_is_lost(world: World, clock: ManualClock) -> None:
    await world.offers(1, clock)
    (lease,) = await world.claims(clock)
    world.fault("unavailable", "batch", times=50)
    with pytest.raises(Unavailable):
        await world.stores.webhooks.settle(lease, Settlement(2, None), an_attempt(lease, clock.now()))
    world.cosmos.server.faults.clear()
    clock.advance(HOLD_S)
    assert [lease.next_seq for lease in await world.claims(clock)] == [1]
    assert (await world.stores.webhooks.attempts(world.endpoint.id, cursor=None, limit=10)).items == []
