"""The event queue on Azurite: poison messages, what goes wrong on the way, and a service that is gone for a while."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.queues import AzureEventQueue
from conference.adapters.queues.queue import LARGEST_BYTES
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.ports.records import EventQueue
from local.azurite.server import Azurite
from local.functions_host.loading import QueueFunction, QueueRules
from local.functions_host.queues import QueuePump
from tests.support.azurite import DrivenClock, fresh_name
from tests.support.faults import HANG, LOST, RESET, FaultyFront, faulty
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

QUICK = Retries(attempts=5, attempt_s=0.5, total_s=10.0, base_s=0.01, wait_s=0.05)
NOW = datetime(2026, 11, 30, tzinfo=UTC)


@pytest.fixture
async def front(azurite: Azurite) -> AsyncIterator[FaultyFront]:
    async with faulty(azurite.queue_endpoint) as found:
        yield found


@pytest.fixture
async def queue(front: FaultyFront) -> AsyncIterator[AzureEventQueue]:
    async with aclosing(AzureEventQueue(front.endpoint, EMULATOR_KEY, retries=QUICK)) as found:
        yield found


@pytest.fixture
def name() -> str:
    return fresh_name()


async def _bodies(queue: EventQueue, name: str) -> list[str]:
    return [message.body for message in await queue.receive(name, now=NOW, limit=32)]


@pytest.mark.parametrize("fate", [503, 500, 429, 408, RESET, HANG, LOST])
async def test_a_message_is_sent_once_whatever_happens_on_the_way(
    queue: AzureEventQueue, front: FaultyFront, name: str, fate: str | int
) -> None:
    await queue.send(name, "first", now=NOW, message_id="first")
    front.fates.extend([fate, fate] if fate != LOST else [LOST])
    await queue.send(name, "second", now=NOW, message_id="second")
    assert await _bodies(queue, name) == ["first", "second"]


@pytest.mark.parametrize("fate", [503, RESET, HANG])
async def test_receiving_goes_on_after_a_failure(
    queue: AzureEventQueue, front: FaultyFront, name: str, fate: str | int
) -> None:
    await queue.send(name, "a", now=NOW)
    front.fates.extend([fate, fate])
    assert await _bodies(queue, name) == ["a"]


async def test_a_batch_whose_answer_is_lost_comes_again_after_its_time_out(
    azurite: Azurite, driven_clock: DrivenClock, front: FaultyFront, queue: AzureEventQueue, name: str
) -> None:
    await queue.send(name, "a", now=NOW)
    front.fates.append(LOST)
    assert await _bodies(queue, name) == []
    driven_clock.advance(30)
    assert await _bodies(queue, name) == ["a"]


async def test_a_delete_whose_answer_is_lost_has_deleted(queue: AzureEventQueue, front: FaultyFront, name: str) -> None:
    await queue.send(name, "a", now=NOW)
    (message,) = await queue.receive(name, now=NOW)
    front.fates.append(LOST)
    await queue.delete(name, message)
    assert await queue.length(name) == 0


@pytest.mark.parametrize("fate", [503, HANG, RESET])
async def test_a_service_that_stays_away_is_unavailable_after_a_bounded_number_of_tries(
    queue: AzureEventQueue, front: FaultyFront, name: str, fate: str | int, caplog: pytest.LogCaptureFixture
) -> None:
    front.fates.extend([fate] * 50)
    with pytest.raises(Unavailable) as unavailable:
        await queue.send(name, "a", now=NOW)
    assert unavailable.value.retryable
    (given_up,) = (record for record in caplog.records if record.message == "a service was given up")
    assert vars(given_up)["attempts"] == QUICK.attempts
    assert 1 <= front.seen <= QUICK.attempts, "a try may time out before its request has arrived"


async def test_a_refused_sign_in_is_tried_once(front: FaultyFront, name: str) -> None:
    wrong = EMULATOR_KEY[:-4] + "AA=="
    async with aclosing(AzureEventQueue(front.endpoint, wrong, retries=QUICK)) as queue:
        with pytest.raises(Unavailable) as unavailable:
            await queue.send(name, "a", now=NOW)
    assert not unavailable.value.retryable
    assert front.seen == 1


async def test_a_body_over_64_kib_is_refused_before_it_is_sent(
    queue: AzureEventQueue, front: FaultyFront, name: str
) -> None:
    with pytest.raises(ValueError, match="at most 65536 bytes"):
        await queue.send(name, "ä" * (LARGEST_BYTES // 2) + "a", now=NOW)
    assert front.seen == 0
    # In ASCII: Azurite counts a character of two bytes as three or more where it comes in two pieces.
    await queue.send(name, "a" * LARGEST_BYTES, now=NOW)


async def test_nothing_is_lost_or_doubled_while_azurite_is_frozen(azurite: Azurite, name: str) -> None:
    retries = Retries(attempts=50, attempt_s=0.3, total_s=20.0, base_s=0.05, wait_s=0.1)
    async with aclosing(AzureEventQueue(azurite.queue_endpoint, EMULATOR_KEY, retries=retries)) as queue:
        await queue.send(name, "0", now=NOW, message_id="0")
        with azurite.paused():
            sending = [
                asyncio.create_task(queue.send(name, str(number), now=NOW, message_id=str(number)))
                for number in range(1, 10)
            ]
            done, _ = await asyncio.wait(sending, timeout=1.5)
            assert not done
        await asyncio.gather(*sending)
        assert sorted(await _bodies(queue, name)) == [str(number) for number in range(10)]


async def _pump(
    queue: EventQueue, clock: DrivenClock, name: str, handler: Callable[..., Awaitable[None]]
) -> tuple[QueuePump, "asyncio.Task[None]"]:
    rules = QueueRules(5, 16, timedelta(seconds=30), timedelta(seconds=0.1))

    async def opened() -> EventQueue:
        return queue

    pump = QueuePump(QueueFunction("on_event", handler, "message", name), rules, opened, clock)
    return pump, asyncio.create_task(pump.run())


async def test_a_message_that_fails_five_times_goes_to_the_poison_queue(
    azurite: Azurite, driven_clock: DrivenClock, name: str
) -> None:
    attempts: list[int] = []

    async def handler(message: object) -> None:
        attempts.append(int(getattr(message, "dequeue_count", 0)))
        raise ValueError("as always")

    async with aclosing(AzureEventQueue(azurite.queue_endpoint, EMULATOR_KEY)) as queue:
        await queue.send(name, "poison", now=driven_clock.now())
        pump, running = await _pump(queue, driven_clock, name, handler)
        for attempt in range(1, 6):
            await eventually(lambda attempt=attempt: len(attempts) == attempt)  # type: ignore[misc]
            driven_clock.advance(30)
        await eventually(lambda: _has_length(queue, f"{name}-poison", 1))
        pump.stop()
        await running
        assert attempts == [1, 2, 3, 4, 5]
        assert await queue.length(name) == 0
        assert await _bodies(queue, f"{name}-poison") == ["poison"]


async def _has_length(queue: EventQueue, name: str, wanted: int) -> bool:
    return await queue.length(name) == wanted
