"""Ending background work, also work that takes a cancellation for a time-out of its own."""

import asyncio

import pytest

from conference import tasks

pytestmark = pytest.mark.unit


async def test_work_that_swallows_cancellations_ends() -> None:
    cancellations = 0

    async def stubborn() -> None:
        nonlocal cancellations
        while cancellations < 3:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancellations += 1

    running = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.end([running])
    assert cancellations == 3
    assert running.done()


async def test_a_task_that_ends_others_is_left_alone() -> None:
    other = asyncio.create_task(asyncio.sleep(60))
    current = asyncio.current_task()
    assert current is not None
    await tasks.end([current, other])
    assert other.cancelled()


async def test_all_of_it_ends_and_what_is_spawned_meanwhile() -> None:
    group = tasks.Tasks()
    ended: list[str] = []

    async def child() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("child")

    async def parent() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            group.spawn(child())
            ended.append("parent")

    group.spawn(parent())
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await group.stop()
    assert ended[0] == "parent"
