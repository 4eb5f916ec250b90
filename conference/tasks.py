"""Background work of a process: kept alive, its failures logged by type, all of it ended with its owner."""

import asyncio
import logging
from collections.abc import Collection, Coroutine
from typing import Any, Final

from conference.domain.errors import ParleyError

_CANCEL_AGAIN_S: Final = 0.1
_log = logging.getLogger(__name__)


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancels them and waits until none runs. Cancelled again and again: a library that is connecting may take a
    cancellation for its own time-out, and a loop that outlives errors then goes on."""
    running = {task for task in tasks if task is not asyncio.current_task()}
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=_CANCEL_AGAIN_S)


class Tasks:
    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, ParleyError):
            _log.warning("background work failed", extra={"error": type(error).__name__})
        elif error is not None:
            _log.error("background work failed", exc_info=error)

    async def stop(self) -> None:
        """Ends all of it, and what is spawned meanwhile."""
        while self._running:
            await end(tuple(self._running))
