"""The native data plane beside the floor, Janus and the reference engine, in turn in one run.

Cost is CPU time for each forwarded packet, as the slope over several rates, of 1 -> 50 video at 0.75 to 3 Mb/s and of
audio 10 -> 200. All servers stand ready with their peers connected; a round measures one after the other, and the
median of the rounds counts. The delay is measured at half of the highest rate that arrives without loss.
"""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.dataplane_generator import LoadError, build
from tests.bench.dataplane_janus import Janus
from tests.bench.dataplane_measuring import Slope, Window, slope, window
from tests.bench.dataplane_network import network, priority
from tests.bench.dataplane_scenario import Scenario
from tests.bench.dataplane_slope import spread
from tests.bench.dataplane_systems import Floor, Parley, Running, Site, System
from tests.bench.results import Result

NAMES: Final = (
    "dataplane.video.us_per_packet",
    "dataplane.audio.us_per_packet",
    "dataplane.video.ratio_to_sendto",
    "dataplane.audio.ratio_to_sendto",
    "dataplane.video.ratio_to_janus",
    "dataplane.audio.ratio_to_janus",
    "dataplane.delay_p99_ms",
)
DETAILS: Final = Path("build/dataplane.json")
ROUNDS: Final = 4
WINDOW_S: Final = 1.5
WARM_UP_S: Final = 4.0
VIDEO: Final = Scenario("video", 1, 50, ("video",))
VIDEO_SCALES: Final = (0.5, 1.0, 1.5, 2.0)  # 3,900 to 15,600 packets a second
AUDIO: Final = Scenario("audio", 10, 200, ("audio",))
AUDIO_SCALES: Final = (0.05, 0.1, 0.15, 0.2)  # 5,000 to 20,000: the most that Janus takes on one core
DELAY: Final = Scenario("delay", 1, 50, ("video",), rooms=24)
FIRST_SCALE: Final = 0.25
STEP: Final = 1.4
MAX_STEPS: Final = 10
PROBE_S: Final = 0.7
DELAY_S: Final = 4.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The slopes of each system that could be served, by round, and why others could not."""

    slopes: dict[str, list[Slope]]
    why_not: dict[str, str]

    def costs(self, system: str) -> list[float]:
        return [found.us_per_packet for found in self.slopes.get(system, [])]

    def cost(self, system: str) -> float | None:
        costs = self.costs(system)
        return spread(costs).median if costs else None

    def ratio(self, other: str) -> float | None:
        """Ours to theirs: the median of what each round gave."""
        pairs = [(ours, theirs) for ours, theirs in zip(self.costs("native"), self.costs(other), strict=False)]
        return spread([ours / theirs for ours, theirs in pairs]).median if pairs else None


async def compare(
    site: Site,
    scenario: Scenario,
    scales: Sequence[float],
    systems: Sequence[System],
    beside: Sequence[System] = (),
    *,
    rounds: int = ROUNDS,
) -> Comparison:
    """Serves a scenario by all systems at once and measures them in turn; what is `beside` only in the first round."""
    made = Comparison({}, {})
    async with contextlib.AsyncExitStack() as stack:
        running: list[Running] = []
        for system in (*systems, *beside):
            try:
                running.append(await stack.enter_async_context(system.serve(site, scenario)))
            except LoadError as error:
                made.why_not[system.name] = str(error)
                print(f"  {scenario.name}: {system.name} is not measured: {error}", flush=True)
        for one in running:
            # What an engine believes of its links grows with the load; the first round is not to see that.
            await window(one, max(scales), WARM_UP_S)
        compared = {system.name for system in systems}
        for turn in range(rounds):
            for one in [one for one in running if turn == 0 or one.name in compared]:
                found = await slope(one, scales, WINDOW_S)
                made.slopes.setdefault(one.name, []).append(found)
                if found.complaint:
                    print(f"  {scenario.name}: {one.name}: {found.complaint}", flush=True)
    for name in made.slopes:
        print(f"  {scenario.name}: {name} {spread(made.costs(name))} µs a packet", flush=True)
    return made


async def highest_rate(running: Running) -> float:
    """The highest scale at which nothing is lost, in steps of 40 %. Raises LoadError where the first step loses."""
    scale, best = FIRST_SCALE, 0.0
    for _ in range(MAX_STEPS):
        found = await window(running, scale, PROBE_S, spin=False)
        if not found.is_lossless:
            # Another process may have had the core: what is lost twice is lost by the server.
            found = await window(running, scale, PROBE_S, spin=False)
        if not found.is_lossless:
            break
        best, scale = scale, scale * STEP
    if not best:
        raise LoadError("packets are lost at the lowest rate")
    return best


async def delay(site: Site, system: System) -> tuple[float, Window] | None:
    """The highest rate without loss in packets a second, and the window at half of it."""
    try:
        async with system.serve(site, DELAY) as running:
            best = await highest_rate(running)
            found = await window(running, best / 2, DELAY_S, spin=False)
    except LoadError as error:
        print(f"  delay: {system.name} is not measured: {error}", flush=True)
        return None
    highest = found.point.packets_per_s * 2
    total = found.report["total"]
    print(
        f"  delay: {system.name} {highest:,.0f} packets/s without loss; at half of it "
        f"p50 {total['delay_p50_ms']:.2f} ms, p99 {total['delay_p99_ms']:.2f} ms, {total['lost']} lost",
        flush=True,
    )
    return highest, found


def _detail(comparisons: dict[str, Comparison]) -> dict[str, object]:
    return {
        name: {
            system: {
                "us_per_packet": [round(cost, 3) for cost in made.costs(system)],
                "points": [[(w.point.packets_per_s, w.point.cpu) for w in found.windows] for found in slopes],
                "complaints": [found.complaint for found in slopes if found.complaint],
            }
            for system, slopes in made.slopes.items()
        }
        | {system: {"why_not": reason} for system, reason in made.why_not.items()}
        for name, made in comparisons.items()
    }


async def _measure(site: Site) -> list[Result]:
    systems: list[System] = [Parley("native"), Floor(), Janus()]
    beside: list[System] = [Parley("reference"), Janus(loops=1)]
    video = await compare(site, VIDEO, VIDEO_SCALES, systems, beside)
    audio = await compare(site, AUDIO, AUDIO_SCALES, systems, beside)
    late = await delay(site, systems[0])
    DETAILS.parent.mkdir(parents=True, exist_ok=True)
    details = _detail({"video": video, "audio": audio})
    details["delay"] = None if late is None else {"highest_per_s": late[0], "total": late[1].report["total"]}
    DETAILS.write_text(json.dumps(details, indent=1) + "\n")
    values = (
        video.cost("native"),
        audio.cost("native"),
        video.ratio("sendto"),
        audio.ratio("sendto"),
        video.ratio("janus"),
        audio.ratio("janus"),
        None if late is None else late[1].report["total"]["delay_p99_ms"],
    )
    units = ("µs of CPU", "µs of CPU", "ratio", "ratio", "ratio", "ratio", "ms")
    return [Result(name, value, unit) for name, value, unit in zip(NAMES, values, units, strict=True)]


def run() -> list[Result]:
    with priority(), network() as made:
        if made.why_not is not None:
            print(f"  everything runs on the loopback, and Janus not at all: {made.why_not}", flush=True)
        return asyncio.run(_measure(Site(made, build())))
