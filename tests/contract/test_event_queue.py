"""Port `EventQueue`: Azure Storage Queue's rules, in memory, in SQL and on Azurite, which goes by the test's clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
from azure.storage.queue.aio import QueueServiceClient

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.memory.queue import MemoryEventQueue
from conference.adapters.queues import AzureEventQueue
from conference.adapters.sql import open_database, sql_stores
from conference.ports.records import EventQueue
from local.azurite.server import Azurite
from tests.support.azurite import DrivenClock

pytestmark = pytest.mark.contract


@pytest.fixture
def clock(queue_url: str, request: pytest.FixtureRequest) -> ManualClock:
    if queue_url == "azure":
        driven: DrivenClock = request.getfixturevalue("driven_clock")
        return driven
    return ManualClock()


@pytest.fixture
async def queue(queue_url: str, ids: SequenceIds, request: pytest.FixtureRequest) -> AsyncIterator[EventQueue]:
    if queue_url == "memory":
        yield MemoryEventQueue(ids)
    elif queue_url == "azure":
        server: Azurite = request.getfixturevalue("azurite")
        await _clear(server)
        async with aclosing(AzureEventQueue(server.queue_endpoint, EMULATOR_KEY)) as found:
            yield found
    else:
        database = open_database(queue_url)
        yield sql_stores(database, ids).queue
        await database.close()


async def _clear(server: Azurite) -> None:
    async with QueueServiceClient(server.queue_endpoint, credential=EMULATOR_KEY) as service:
        async for found in service.list_queues():
            await service.delete_queue(found)


async def test_messages_come_in_the_order_they_were_sent(queue: EventQueue, clock: ManualClock) -> None:
    for body in ("a", "ä €", '{"json": true}'):
        await queue.send("events", body, now=clock.now())
    messages = await queue.receive("events", now=clock.now())
    assert [message.body for message in messages] == ["a", "ä €", '{"json": true}']
    assert {(message.dequeue_count, message.inserted_at) for message in messages} == {(1, clock.now())}
    assert len({message.id for message in messages}) == 3


async def test_a_received_message_is_hidden_until_its_time_out(queue: EventQueue, clock: ManualClock) -> None:
    await queue.send("events", "a", now=clock.now())
    (first,) = await queue.receive("events", now=clock.now(), visibility_s=30)
    assert await queue.receive("events", now=clock.advance(29)) == []
    (again,) = await queue.receive("events", now=clock.advance(1))
    assert (again.id, again.body, again.dequeue_count) == (first.id, "a", 2)
    assert again.pop_receipt != first.pop_receipt


async def test_only_the_latest_receipt_deletes(queue: EventQueue, clock: ManualClock) -> None:
    await queue.send("events", "a", now=clock.now())
    (stale,) = await queue.receive("events", now=clock.now(), visibility_s=1)
    (fresh,) = await queue.receive("events", now=clock.advance(1))
    assert not await queue.delete("events", stale)
    assert not await queue.delete("others", fresh)
    assert await queue.delete("events", fresh)
    assert not await queue.delete("events", fresh)
    assert await queue.length("events") == 0


async def test_a_message_id_sent_again_is_one_message(queue: EventQueue, clock: ManualClock) -> None:
    await queue.send("events", "a", now=clock.now(), message_id="m")
    await queue.send("events", "b", now=clock.advance(1), message_id="m")
    await queue.send("others", "c", now=clock.now(), message_id="m")
    (message,) = await queue.receive("events", now=clock.now())
    assert message.body == "a"
    assert await queue.length("others") == 1


async def test_a_delayed_message_appears_when_its_time_has_come(queue: EventQueue, clock: ManualClock) -> None:
    await queue.send("events", "later", now=clock.now(), delay_s=5)
    assert await queue.length("events") == 1
    assert await queue.receive("events", now=clock.advance(4)) == []
    assert [message.body for message in await queue.receive("events", now=clock.advance(1))] == ["later"]


async def test_a_receive_takes_no_more_than_its_limit(queue: EventQueue, clock: ManualClock) -> None:
    for number in range(5):
        await queue.send("events", str(number), now=clock.now())
    assert [message.body for message in await queue.receive("events", now=clock.now(), limit=3)] == ["0", "1", "2"]
    assert [message.body for message in await queue.receive("events", now=clock.now(), limit=3)] == ["3", "4"]


async def test_queues_are_apart_and_an_unknown_one_is_empty(queue: EventQueue, clock: ManualClock) -> None:
    await queue.send("events", "a", now=clock.now())
    assert await queue.receive("events-poison", now=clock.now()) == []
    assert await queue.length("events-poison") == 0
    assert await queue.length("events") == 1


async def test_two_processes_receive_no_message_twice(sql_url: str) -> None:
    clock = ManualClock()
    databases = [open_database(sql_url), open_database(sql_url)]
    queues = [sql_stores(database, SequenceIds(n)).queue for n, database in enumerate(databases)]
    for number in range(30):
        await queues[0].send("events", str(number), now=clock.now())
    batches = await asyncio.gather(*(queues[n % 2].receive("events", now=clock.now(), limit=4) for n in range(6)))
    received = [message.id for batch in batches for message in batch]
    assert len(received) == len(set(received))
    rest = await queues[0].receive("events", now=clock.now(), limit=32)
    assert len(received) + len(rest) == 30
    for database in databases:
        await database.close()
