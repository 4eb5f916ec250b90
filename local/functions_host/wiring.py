"""Loads `function_app`, hosts it with the queue of its own wiring, and runs until told to stop."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Final

import function_app
from conference.adapters.system import SystemClock
from conference.ports.records import EventQueue
from conference.settings import Settings
from functions.provider import wiring
from local.functions_host.host import FunctionsHost
from local.functions_host.loading import load, queue_rules

ROOT: Final = Path(function_app.__file__).parent
log = logging.getLogger(__name__)


def build(settings: Settings) -> FunctionsHost:
    """The host of this repository's functions. Raises CannotHost."""
    return FunctionsHost(
        load(function_app.app),
        queue_rules(ROOT / "host.json"),
        queue=_queue,
        clock=SystemClock(),
        monitor_file=settings.data_dir / "functions" / "timers.json",
    )


async def _queue() -> EventQueue:
    return (await wiring.services()).queue


async def serve(settings: Settings, host: str, port: int) -> None:
    """Serves until SIGINT or SIGTERM. Raises CannotHost, OSError where the port is taken."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    functions_host = build(settings)
    address = await functions_host.start(host, port)
    print(f"Functions host is listening on {address}", flush=True)
    try:
        await stop.wait()
    finally:
        await functions_host.stop()
        function_app.app.startup_task_done = False  # the lifespan has ended: nothing is left for its __del__
        await wiring.close()
