"""Timers: NCRONTAB, one run at a time, what is past due, what is remembered."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from conference.adapters.memory.clock import ManualClock
from local.functions_host.loading import TimerFunction
from local.functions_host.schedules import Schedule
from local.functions_host.timers import Monitor, Timer

pytestmark = pytest.mark.unit
START = datetime(2026, 1, 1, 12, tzinfo=UTC)  # a Thursday


@pytest.mark.parametrize(
    ("expression", "following"),
    [
        ("*/30 * * * * *", "2026-01-01T12:00:30+00:00"),
        ("0 30 2 * * *", "2026-01-02T02:30:00+00:00"),
        ("5,10 0 * * * *", "2026-01-01T12:00:05+00:00"),
        ("0 0 9-17 * * MON-FRI", "2026-01-01T13:00:00+00:00"),
        ("0 0 0 1 1 *", "2027-01-01T00:00:00+00:00"),
        ("0 0 0 13 * FRI", "2026-02-13T00:00:00+00:00"),  # day of month and day of week: both
    ],
)
def test_the_first_field_is_seconds(expression: str, following: str) -> None:
    assert Schedule(expression).after(START).isoformat() == following


class Bell:
    """A timer function that notes its calls; `hold` makes it wait until `go` is set."""

    def __init__(self) -> None:
        self.rung: list[bool] = []
        self.hold = False
        self.go = asyncio.Event()
        self.fail = False
        self.finished = 0

    async def __call__(self, timer: func.TimerRequest) -> None:
        self.rung.append(timer.past_due)
        if self.fail:
            raise RuntimeError("out of order")
        if self.hold:
            await self.go.wait()
        self.finished += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock(START)
    real_sleep = asyncio.sleep

    async def sleep(seconds: float) -> None:
        clock.advance(seconds)
        await real_sleep(0)

    monkeypatch.setattr("local.functions_host.timers.asyncio.sleep", sleep)
    return clock


def timer_of(bell: Bell, clock: ManualClock, folder: Path, **rules: Any) -> Timer:
    async def ring(timer: func.TimerRequest) -> None:
        await bell(timer)

    chosen = {"run_on_startup": False, "use_monitor": False, "schedule": "0 0 * * * *", **rules}
    schedule = Schedule(chosen.pop("schedule"))
    return Timer(TimerFunction("bell", ring, "timer", schedule, **chosen), clock, Monitor(folder / "timers.json"))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.wait([asyncio.create_task(_nothing())])


async def _nothing() -> None:
    """One turn of the loop."""


async def stop(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_timer_rings_at_each_occurrence(clock: ManualClock, tmp_path: Path) -> None:
    bell = Bell()
    task = asyncio.create_task(timer_of(bell, clock, tmp_path).run())
    await until(lambda: len(bell.rung) >= 3)
    await stop(task)
    assert not any(bell.rung)
    assert clock.now() >= START + timedelta(hours=3)


async def test_a_timer_goes_on_after_a_failure(clock: ManualClock, tmp_path: Path) -> None:
    bell = Bell()
    bell.fail = True
    task = asyncio.create_task(timer_of(bell, clock, tmp_path).run())
    await until(lambda: len(bell.rung) >= 2)
    await stop(task)


async def test_occurrences_during_a_run_are_dropped(clock: ManualClock, tmp_path: Path) -> None:
    bell = Bell()
    bell.hold = True
    task = asyncio.create_task(timer_of(bell, clock, tmp_path).run())
    await until(lambda: len(bell.rung) == 1)
    clock.advance(5 * 3600)
    bell.hold = False
    bell.go.set()
    await until(lambda: len(bell.rung) == 2)
    await stop(task)
    assert START + timedelta(hours=7) <= clock.now() < START + timedelta(hours=9)


async def test_stopping_finishes_the_run_under_way(clock: ManualClock, tmp_path: Path) -> None:
    bell = Bell()
    bell.hold = True
    timer = timer_of(bell, clock, tmp_path)
    task = asyncio.create_task(timer.run())
    await until(lambda: len(bell.rung) == 1)
    await stop(task)
    bell.go.set()
    await timer.finish()
    assert bell.finished == 1


async def test_run_on_startup_runs_at_once(clock: ManualClock, tmp_path: Path) -> None:
    bell = Bell()
    task = asyncio.create_task(timer_of(bell, clock, tmp_path, run_on_startup=True).run())
    await until(lambda: len(bell.rung) == 1)
    assert clock.now() == START
    await stop(task)


async def test_a_monitored_timer_makes_up_for_what_was_missed_once(clock: ManualClock, tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "timers.json")
    monitor.ran("other", START)
    monitor.ran("bell", START - timedelta(hours=5))
    bell = Bell()
    task = asyncio.create_task(timer_of(bell, clock, tmp_path, use_monitor=True).run())
    await until(lambda: len(bell.rung) == 2)
    await stop(task)
    assert bell.rung == [True, False]
    last = monitor.last("bell")
    assert last is not None
    assert last >= START
    assert monitor.last("other") == START


async def test_a_timer_that_was_not_missed_waits(clock: ManualClock, tmp_path: Path) -> None:
    Monitor(tmp_path / "timers.json").ran("bell", START)
    bell = Bell()
    task = asyncio.create_task(timer_of(bell, clock, tmp_path, use_monitor=True).run())
    await until(lambda: len(bell.rung) == 1)
    await stop(task)
    assert bell.rung == [False]


def test_a_monitor_file_that_cannot_be_read_is_as_good_as_none(tmp_path: Path) -> None:
    file = tmp_path / "timers.json"
    for content in ("", "[]", '{"bell": 3}', '{"bell": "yesterday"}'):
        file.write_text(content)
        assert Monitor(file).last("bell") is None
