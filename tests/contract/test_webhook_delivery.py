"""Delivery to webhooks over each store: several instances at once, and a receiver that was away."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.sql import open_database, sql_stores
from conference.domain.meetings import Meeting
from conference.domain.webhooks import WebhookEndpoint
from conference.ports.clock import Clock, Ids
from conference.ports.stores import Stores
from functions.events import relay
from functions.services import Services
from functions.webhooks.delivery import PER_ENDPOINT, deliver
from tests.support.cosmos import RunningCosmos, stores_over
from tests.support.meetings import a_consent, a_meeting, user
from tests.support.webhooks import DOWN, OK, PlainSecrets, Receivers, an_endpoint

pytestmark = pytest.mark.contract


def _services(stores: Stores, clock: Clock, ids: Ids, receivers: Receivers) -> Services:
    """What the relay and the delivery use of the app's services."""
    used = SimpleNamespace(
        clock=clock,
        ids=ids,
        outbox=stores.outbox,
        queue=stores.queue,
        meetings=stores.meetings,
        webhooks=stores.webhooks,
        webhook_sender=receivers,
        webhook_secrets=PlainSecrets(),
    )
    return cast(Services, used)


async def _subscribed(stores: Stores, clock: ManualClock, number: int = 1) -> WebhookEndpoint:
    created = await stores.webhooks.create(an_endpoint(clock.now(), number), fingerprint="", most=20)
    assert isinstance(created, WebhookEndpoint)
    return created


async def _rooms(stores: Stores, clock: ManualClock, count: int, decisions: int) -> list[Meeting]:
    rooms = [a_meeting(clock.now(), number) for number in range(1, count + 1)]
    for room in rooms:
        await stores.meetings.create(room)
        for index in range(decisions):
            number = 1_000 * int(room.id[-4:], 16) + index
            await stores.meetings.record_consent(a_consent(room, user(index), clock.now(), number))
    return rooms


async def test_what_a_receiver_missed_comes_in_order_on_every_store(
    stores: Stores, clock: ManualClock, ids: SequenceIds
) -> None:
    receivers = Receivers(answer=lambda url, event: DOWN)
    services = _services(stores, clock, ids, receivers)
    endpoint = await _subscribed(stores, clock)
    rooms = await _rooms(stores, clock, 3, 4)
    await relay(services)
    for _ in range(6):
        await deliver(services)
        clock.advance(600)
    assert receivers.taken == []
    receivers.answer = lambda url, event: OK
    for _ in range(7):
        clock.advance(600)
        await deliver(services)
    assert receivers.numbers() == {room.id: [1, 2, 3, 4, 5] for room in rooms}
    logged = await stores.webhooks.attempts(endpoint.id, cursor=None, limit=100)
    assert sum(attempt.outcome == "delivered" for attempt in logged.items) == 15


async def test_instances_on_one_database_never_send_beside_each_other(sql_url: str, clock: ManualClock) -> None:
    databases = [open_database(sql_url) for _ in range(3)]
    await _never_beside_each_other([sql_stores(db, SequenceIds(number)) for number, db in enumerate(databases)], clock)
    for database in databases:
        await database.close()


async def test_instances_on_one_account_never_send_beside_each_other(cosmos: RunningCosmos, clock: ManualClock) -> None:
    databases = [cosmos.open() for _ in range(3)]
    await _never_beside_each_other([stores_over(db, SequenceIds(number)) for number, db in enumerate(databases)], clock)
    for database in databases:
        await database.close()


async def _never_beside_each_other(stores: Sequence[Stores], clock: ManualClock) -> None:
    receivers = Receivers(pause=lambda: asyncio.sleep(0.002))
    instances = [_services(stores, clock, SequenceIds(10 + number), receivers) for number, stores in enumerate(stores)]
    endpoints = [await _subscribed(stores[0], clock, number) for number in (1, 2)]
    rooms = await _rooms(stores[0], clock, 12, 4)
    await asyncio.gather(*(relay(services) for services in instances))
    await relay(instances[0])
    for _ in range(20):
        if not sum(await asyncio.gather(*(deliver(services) for services in instances))):
            break
    for endpoint in endpoints:
        assert receivers.numbers(endpoint.url) == {room.id: [1, 2, 3, 4, 5] for room in rooms}
        assert max(receivers.most_at_once[endpoint.url, room.id] for room in rooms) == 1
        assert receivers.most_at_once[endpoint.url] <= PER_ENDPOINT * len(instances)  # each claim counts on its own
