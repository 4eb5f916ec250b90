"""The timer side: each timer runs alone and never overlaps itself.

An occurrence that comes while the timer still runs is skipped, and the next run is told that it is past due. A timer
with `useMonitor` remembers its last run across restarts: one that was missed meanwhile runs at start, past due, once.
"""

import asyncio
import json
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import azure.functions as func
from azure.functions.timer import TimerRequest

from conference.ports.clock import Clock
from local.functions_host.invoking import invoke
from local.functions_host.loading import TimerFunction

log = logging.getLogger(__name__)
_LATE: Final = timedelta(seconds=1)
_LOOK_S: Final = 60.0


class Monitor:
    """When each timer with `useMonitor` ran last, in a small file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def last(self, name: str) -> datetime | None:
        """None where nothing is known, also of a file that cannot be read."""
        with suppress(OSError, ValueError, KeyError, TypeError):
            return datetime.fromisoformat(json.loads(self._file.read_text())[name])
        return None

    def ran(self, name: str, at: datetime) -> None:
        known: dict[str, str] = {}
        with suppress(OSError, ValueError):
            known = json.loads(self._file.read_text())
        known[name] = at.isoformat()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(known))
        fresh.replace(self._file)


class Timer:
    """Runs one timer function until cancelled; a run under way is finished first."""

    def __init__(self, function: TimerFunction, clock: Clock, monitor: Monitor) -> None:
        self._function = function
        self._clock = clock
        self._monitor = monitor
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        due = self._first()
        while True:
            await self._wait_until(due)
            # Shielded: stopping the host cancels the waiting, not the work.
            self._running = asyncio.create_task(self._fire(due))
            await asyncio.shield(self._running)
            now = self._clock.now()
            following = self._function.schedule.after(due)
            due = following if following > now else self._missed(now)

    async def finish(self) -> None:
        """Waits for the run under way."""
        if self._running is not None:
            await self._running

    def _first(self) -> datetime:
        now = self._clock.now()
        if self._function.run_on_startup:
            return now
        last = self._monitor.last(self._function.name) if self._function.use_monitor else None
        if last is not None and self._function.schedule.after(last) <= now:
            return self._function.schedule.after(last)
        if last is None and self._function.use_monitor:
            self._monitor.ran(self._function.name, now)  # from here on a missed occurrence is known
        return self._function.schedule.after(now)

    def _missed(self, now: datetime) -> datetime:
        """Occurrences went by while the timer ran: they are dropped, the next one stands."""
        log.info("timer overran its schedule", extra={"function": self._function.name})
        return self._function.schedule.after(now)

    async def _wait_until(self, due: datetime) -> None:
        """Looks at the clock at least once a minute: it may have been set."""
        left_s = (due - self._clock.now()).total_seconds()
        while left_s > 0:
            await asyncio.sleep(min(left_s, _LOOK_S))
            left_s = (due - self._clock.now()).total_seconds()

    async def _fire(self, due: datetime) -> None:
        now = self._clock.now()
        status = {"Last": due.astimezone(UTC).isoformat(), "Next": self._function.schedule.after(now).isoformat()}
        request: func.TimerRequest = TimerRequest(past_due=now - due > _LATE, schedule_status=status)
        try:
            await invoke(self._function.name, self._function.handler, self._function.argument, request)
        except Exception:
            log.exception("a timer failed", extra={"function": self._function.name})
        if self._function.use_monitor:
            self._monitor.ran(self._function.name, now)
