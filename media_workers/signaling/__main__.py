"""`python -m media_workers.signaling`: one signaling process until SIGTERM or SIGINT; a second one ends it at once."""

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Coroutine
from typing import Any

from media_workers.signaling.wiring import build

_log = logging.getLogger(__name__)


async def main() -> int:
    """Runs the worker; the exit code."""
    wiring = build()
    worker = wiring.worker
    loop = asyncio.get_running_loop()
    hurry = asyncio.Event()

    def asked() -> None:
        (hurry if worker.drain_asked.is_set() else worker.drain_asked).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked)
    try:
        port = await worker.start(*wiring.address)
    except OSError as error:
        _log.error("signaling cannot start: %s", error.strerror or "the port cannot be bound")
        await wiring.close()
        return 1
    _log.info("signaling is ready", extra={"port": port})
    await worker.drain_asked.wait()
    await _first(worker.drain(), hurry.wait())
    await worker.stop()
    await wiring.close()
    return 0


async def _first(*works: Coroutine[Any, Any, object]) -> None:
    """Returns when the first of them is done, and ends the others."""
    tasks = {asyncio.create_task(work) for work in works}
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # late: it exists only where the platform has it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        sys.exit(runner.run(main()))
