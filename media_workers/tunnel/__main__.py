"""`python -m media_workers.tunnel`: one tunnel gateway until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import sys

from media_workers.tunnel.wiring import build

_log = logging.getLogger(__name__)


async def main() -> int:
    """Runs the worker; the exit code."""
    worker, address, redis = build()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        port = await worker.start(*address)
    except OSError as error:
        _log.error("the tunnel gateway cannot start: %s", error.strerror or "the port cannot be bound")
        await worker.stop()
        await redis.close()
        return 1
    _log.info("the tunnel gateway is ready", extra={"port": port})
    await stop.wait()
    worker.drain()
    await worker.stop()
    await redis.close()
    return 0


def _loop_factory() -> asyncio.AbstractEventLoop:
    try:
        import uvloop  # late: it exists only where the platform has it
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=_loop_factory) as runner:
        sys.exit(runner.run(main()))
