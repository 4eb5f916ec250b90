"""Whether a packet costs the same however many subscribers there are: 20,000 packets a second over 10 to 2,000 of them.

Rooms have ten subscribers, so that the work for a packet stays alike and only the number of transports grows. What the
transports cost while nothing is sent (consent, reports) is measured first and left out.
"""

import asyncio
import time
from typing import Final

from tests.bench.dataplane_generator import LoadError, build
from tests.bench.dataplane_measuring import window
from tests.bench.dataplane_network import network, priority
from tests.bench.dataplane_scenario import Scenario
from tests.bench.dataplane_slope import process_cpu_s, spread
from tests.bench.dataplane_systems import Parley, Running, Site
from tests.bench.results import Result

NAMES: Final = ("dataplane.flat_ratio",)
SUBSCRIBERS: Final = (10, 100, 1_000, 2_000)
ROOM: Final = 10
PACKETS_PER_S: Final = 20_000
SILENT_S: Final = 2.0
WINDOW_S: Final = 2.0
ROUNDS: Final = 2


async def _silent(running: Running) -> float:
    """CPU seconds each second while nothing is sent."""
    cpu, began = process_cpu_s(running.pid), time.perf_counter()
    await asyncio.sleep(SILENT_S)
    return (process_cpu_s(running.pid) - cpu) / (time.perf_counter() - began)


async def cost(site: Site, subscribers: int) -> float:
    """Microseconds of CPU for each packet. Raises LoadError."""
    scenario = Scenario(f"flat-{subscribers}", 1, ROOM, ("video",), rooms=subscribers // ROOM)
    scale = scenario.scale_for(PACKETS_PER_S)
    async with Parley("native").serve(site, scenario) as running:
        costs, silent = [], 0.0
        for _ in range(ROUNDS):
            silent = await _silent(running)
            found = await window(running, scale, WINDOW_S)
            costs.append((found.point.cpu - silent) / found.point.packets_per_s * 1e6)
            if not found.is_lossless:
                print(f"  {subscribers} subscribers: {found.report['total']['lost']} lost, {found.missing:.1%} missing")
    print(
        f"  {subscribers} subscribers: {spread(costs)} µs a packet; silent {silent * 1e3:.1f} ms a second", flush=True
    )
    return spread(costs).median


async def _measure(site: Site) -> list[Result]:
    costs = [await cost(site, count) for count in SUBSCRIBERS]
    return [Result(NAMES[0], max(costs) / min(costs), "ratio")]


def run() -> list[Result]:
    with priority(), network() as made:
        try:
            return asyncio.run(_measure(Site(made, build())))
        except LoadError as error:
            print(f"  not measured: {error}", flush=True)
            return [Result(NAMES[0], None, "")]
