"""The queue pump, over the shipped memory queue."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest

from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.memory.queue import MemoryEventQueue
from conference.domain.errors import Unavailable
from conference.ports.records import EventQueue
from local.functions_host.loading import QueueFunction, QueueRules
from local.functions_host.queues import QueuePump

pytestmark = pytest.mark.unit
RULES = QueueRules(3, 16, timedelta(seconds=30), timedelta(seconds=0.2))


class Worker:
    """A queue function that fails as often as it is told."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.failures = 0

    def take(self, message: func.QueueMessage) -> None:
        assert message.dequeue_count is not None
        self.taken.append((message.get_body().decode(), message.dequeue_count))
        if self.failures:
            self.failures -= 1
            raise RuntimeError("no")


class Scene:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.queue = MemoryEventQueue(SequenceIds())
        self.worker = Worker()
        self.away = 0
        worker = self.worker

        async def take(message: func.QueueMessage) -> None:
            worker.take(message)

        function = QueueFunction("take", take, "message", "jobs")
        self.pump = QueuePump(function, RULES, self.open, self.clock)
        self.task = asyncio.create_task(self.pump.run())

    async def open(self) -> EventQueue:
        if self.away:
            self.away -= 1
            raise Unavailable("database")
        return self.queue

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self.queue.send("jobs", body, now=self.clock.now())

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.wait([self.task], timeout=0.01)


@pytest.fixture
async def scene() -> Any:
    scene = Scene()
    yield scene
    scene.pump.stop()
    await asyncio.wait_for(scene.task, 5)


async def test_messages_are_handled_in_order_and_deleted(scene: Scene) -> None:
    await scene.send("a", "b", "c")
    await scene.until(lambda: len(scene.worker.taken) == 3)
    assert scene.worker.taken == [("a", 1), ("b", 1), ("c", 1)]
    scene.pump.stop()
    await scene.task
    assert await scene.queue.length("jobs") == 0


async def test_a_failed_message_comes_again_after_the_time_out(scene: Scene) -> None:
    scene.worker.failures = 1
    await scene.send("a")
    await scene.until(lambda: len(scene.worker.taken) == 1)
    assert await scene.queue.length("jobs") == 1
    scene.clock.advance(31)
    await scene.until(lambda: len(scene.worker.taken) == 2)
    assert scene.worker.taken == [("a", 1), ("a", 2)]


async def test_a_message_that_never_works_is_poison(scene: Scene) -> None:
    scene.worker.failures = 100
    await scene.send("bad")
    for attempt in range(1, 4):
        await scene.until(lambda: bool(scene.worker.taken) and scene.worker.taken[-1][1] == attempt)  # noqa: B023
        scene.clock.advance(31)
    scene.pump.stop()
    await scene.task
    assert [count for _, count in scene.worker.taken] == [1, 2, 3]
    assert await scene.queue.length("jobs") == 0
    (poison,) = await scene.queue.receive("jobs-poison", now=scene.clock.now())
    assert poison.body == "bad"


async def test_the_pump_outlives_a_queue_that_is_away(scene: Scene) -> None:
    scene.away = 2
    await scene.send("a")
    await scene.until(lambda: scene.worker.taken == [("a", 1)])
