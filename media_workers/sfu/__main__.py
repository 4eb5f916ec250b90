"""`python -m media_workers.sfu`: one SFU node until SIGTERM or SIGINT; a second signal ends it without draining."""

import asyncio
import contextlib
import logging
import signal
import sys

from media_workers.sfu.engines import EngineMissing
from media_workers.sfu.wiring import build

_logger = logging.getLogger(__name__)


async def main() -> int:
    """Runs the worker; the exit code."""
    try:
        worker, redis = build()
    except EngineMissing as error:
        _logger.error("the SFU cannot start: %s", error)
        return 1
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stopped.set)
    try:
        await worker.start()
    except OSError as error:
        _logger.error("the SFU cannot start: %s", error.strerror or "a port cannot be bound")
        await redis.close()
        return 1
    _logger.info(
        "the SFU is ready",
        extra={"port": worker.port, "mediaPort": worker.media_port, "mediaPorts": worker.media_ports},
    )
    await worker.stopped.wait()
    again = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, again.set)
    drain = asyncio.create_task(worker.drain())
    hurry = asyncio.create_task(again.wait())
    await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
    for task in (drain, hurry):
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await worker.stop()
    await redis.close()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
