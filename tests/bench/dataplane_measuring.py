"""Windows of steady load: what arrived, what it cost, and the slope over several rates."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.dataplane_slope import Point, process_cpu_s, us_per_packet
from tests.bench.dataplane_systems import Running

SETTLE_S: Final = 0.3
# A sender's estimate of a link begins low: its videos come one after the other.
SETTLE_MAX_S: Final = 20.0
STEADY: Final = 0.02  # of what was to arrive is missing at most


@dataclass(frozen=True, slots=True)
class Window:
    """One rate, measured. `missing` is the share of what should have arrived and did not."""

    point: Point
    report: dict[str, Any]
    missing: float

    @property
    def is_lossless(self) -> bool:
        total = self.report["total"]
        return bool(total["lost"] == 0 and total["bad"] == 0 and self.report["unsent"] == 0 and self.missing < STEADY)


def missing(running: Running, report: dict[str, Any]) -> float:
    """The share of what should have arrived and did not; 0 with simulcast, where that is not known."""
    expected = 0 if running.scenario.has_simulcast else report["sent"] * running.scenario.fan_out
    return max(0.0, 1 - report["total"]["packets"] / expected) if expected else 0.0


async def _settle(running: Running) -> None:
    """Waits until everything arrives, within limits."""
    deadline = time.perf_counter() + SETTLE_MAX_S
    while True:
        await running.generator.mark()
        await asyncio.sleep(SETTLE_S)
        if missing(running, await running.generator.snapshot()) <= STEADY or time.perf_counter() > deadline:
            return


async def window(running: Running, scale: float, seconds: float, *, spin: bool = True) -> Window:
    """Sends at `scale` times the scenario's usual rate and measures once it is steady.

    A generator that spins costs the server no wake-ups, as a machine of its own would not. One that sleeps between
    packets is not interrupted in the middle of its work where others want its core, and so tells delays better."""
    scenario, load = running.scenario, running.generator
    receive = scenario.receive(rtcp=running.has_rtcp, transport_cc=running.transport_cc)
    await load.begin(scenario.send(scale), receive, spin=spin)
    await _settle(running)
    await load.mark()
    cpu, began = process_cpu_s(running.pid), time.perf_counter()
    await asyncio.sleep(seconds)
    used, took = process_cpu_s(running.pid) - cpu, time.perf_counter() - began
    report = await load.snapshot()
    await load.stop()
    rate = report["total"]["packets"] / report["wall_s"]
    return Window(Point(rate, used / took), report, missing(running, report))


@dataclass(frozen=True, slots=True)
class Slope:
    """Microseconds of CPU for each packet over several rates, and what went wrong in them."""

    us_per_packet: float
    windows: tuple[Window, ...]

    @property
    def complaint(self) -> str:
        """What makes the number doubtful; empty for nothing."""
        bad = [w for w in self.windows if not w.is_lossless]
        return "; ".join(
            f"at {w.point.packets_per_s:,.0f}/s {w.report['total']['lost']} lost, {w.missing:.1%} missing" for w in bad
        )


async def slope(running: Running, scales: Sequence[float], seconds: float) -> Slope:
    """One round over `scales`. Raises ValueError where all rates came out alike."""
    windows = [await window(running, scale, seconds) for scale in scales]
    return Slope(us_per_packet([w.point for w in windows]), tuple(windows))
