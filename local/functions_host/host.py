"""The host: starts the three sides, and stops them in the order that loses nothing."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from conference import tasks
from conference.ports.clock import Clock
from conference.ports.records import EventQueue
from local.functions_host.http import HttpSide
from local.functions_host.loading import Functions, QueueRules
from local.functions_host.queues import QueuePump
from local.functions_host.timers import Monitor, Timer

log = logging.getLogger(__name__)
STOP_S: Final = 10.0


class FunctionsHost:
    """Hosts loaded functions. `queue` gives the queue that triggers are fed from, once it can be opened."""

    def __init__(
        self,
        functions: Functions,
        rules: QueueRules,
        *,
        queue: Callable[[], Awaitable[EventQueue]],
        clock: Clock,
        monitor_file: Path,
    ) -> None:
        self._functions = functions
        self._http = HttpSide(functions.http)
        monitor = Monitor(monitor_file)
        self._timers = [Timer(timer, clock, monitor) for timer in functions.timers]
        self._pumps = [QueuePump(function, rules, queue, clock) for function in functions.queues]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self, host: str, port: int) -> str:
        """Listens and starts timers and queues; gives the address. Raises OSError where the port is taken."""
        address = await self._http.start(host, port)
        self._tasks = [asyncio.create_task(timer.run()) for timer in self._timers]
        self._tasks += [asyncio.create_task(pump.run()) for pump in self._pumps]
        return address

    async def stop(self) -> None:
        """Takes no more, lets what is under way finish for STOP_S, then ends it."""
        await self._http.stop()
        for pump in self._pumps:
            pump.stop()
        timers, pumps = self._tasks[: len(self._timers)], self._tasks[len(self._timers) :]
        for task in timers:
            task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(timer.finish() for timer in self._timers), *pumps, return_exceptions=True)
        await tasks.end(self._tasks)
        await self._end_lifespan()

    async def _end_lifespan(self) -> None:
        """AsgiFunctionApp starts its app's lifespan with the first request, and ends it only when it is collected,
        in a loop of its own: end it here, in the loop where it began."""
        middleware = self._functions.http.asgi
        if middleware is not None and middleware.lifespan_startup_event is not None:
            await middleware.notify_shutdown()
