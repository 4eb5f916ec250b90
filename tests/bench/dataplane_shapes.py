"""Cost of a packet in other shapes of a meeting, for information: 1 -> 20 and 1 -> 100 video, and ten people with
simulcast and sound who all see each other."""

import asyncio
from typing import Final

from tests.bench.dataplane import compare
from tests.bench.dataplane_generator import build
from tests.bench.dataplane_network import network, priority
from tests.bench.dataplane_scenario import Scenario
from tests.bench.dataplane_systems import Floor, Parley, Site, System
from tests.bench.results import Result

SCALES: Final = (0.5, 1.0, 1.5, 2.0)
SHAPES: Final = {
    "dataplane.video20.us_per_packet": (Scenario("1 -> 20", 1, 20, ("video",)), SCALES),
    "dataplane.video100.us_per_packet": (Scenario("1 -> 100", 1, 100, ("video",)), SCALES),
    "dataplane.meeting.us_per_packet": (
        Scenario("10 x 10", 10, 10, ("video", "audio"), has_simulcast=True, is_meeting=True),
        (0.25, 0.5, 0.75, 1.0),
    ),
}
NAMES: Final = tuple(SHAPES)
ROUNDS: Final = 1


async def _measure(site: Site) -> list[Result]:
    results = []
    for name, (scenario, scales) in SHAPES.items():
        # What the floor does with all layers of a simulcast is not what a forwarder does.
        beside: list[System] = [] if scenario.has_simulcast else [Floor()]
        found = await compare(site, scenario, scales, [Parley("native"), *beside], rounds=ROUNDS)
        results.append(Result(name, found.cost("native"), "µs of CPU"))
    return results


def run() -> list[Result]:
    with priority(), network() as made:
        return asyncio.run(_measure(Site(made, build())))
