"""How many messages one signaling process delivers, and how late they are at half of that.

ROOMS rooms of PEOPLE each; everybody chats. A message goes to the process, through the Redis directory, which numbers
it, and to everybody in the room, its author included: PEOPLE deliveries. What is counted is deliveries, at the clients.
"""

import asyncio
import statistics
from typing import Final

from tests.bench.measuring import cpu_s
from tests.bench.results import Result
from tests.bench.signaling_site import Load, Site, signaling_site

NAMES: Final = ("signaling.relay_per_s", "signaling.relay_p99_ms")
ROOMS: Final = 50
PEOPLE: Final = 4
WARM_S: Final = 2.0
ROUNDS: Final = 5  # of each; the median counts, since other work on the machine disturbs some
ROUND_S: Final = 3.0
_UNLIMITED: Final = {"PARLEY_MESSAGE_RATE": "1000000", "PARLEY_MESSAGE_BURST": "1000000"}


async def _measure(site: Site) -> list[Result]:
    load = site.load
    joined = await load.do("join", rooms=await site.rooms(ROOMS, PEOPLE))
    assert joined["joined"] == ROOMS * PEOPLE
    await load.do("chat", seconds=WARM_S)
    rounds = [await _full(site) for _ in range(ROUNDS)]
    per_second, per_core = (statistics.median(values) for values in zip(*rounds, strict=True))
    print(f"  {ROOMS} rooms of {PEOPLE}, everybody with one message on its way:")
    print(f"    {per_second:,.0f} deliveries a second, the process at {per_second / per_core:.0%} of a core")
    halves = [await _half(load, per_second / 2) for _ in range(ROUNDS)]
    p50, p99 = (statistics.median(half[name] for half in halves) for name in ("p50_ms", "p99_ms"))
    worst = max(half["p99_ms"] for half in halves)
    print(f"  at half of that: p50 {p50:.1f} ms, p99 {p99:.1f} ms in the median round and {worst:.1f} in the worst")
    return [Result(NAMES[0], per_core, "deliveries per CPU second"), Result(NAMES[1], p99, "ms")]


async def _full(site: Site) -> tuple[float, float]:
    """Deliveries a second, and a second of the process's CPU time."""
    before = cpu_s(site.pid)
    answer = await site.load.do("chat", seconds=ROUND_S)
    delivered = float(answer["delivered"])
    return delivered / answer["seconds"], delivered / (cpu_s(site.pid) - before)


async def _half(load: Load, rate: float) -> dict[str, float]:
    """One paced round. Raises RuntimeError where a message was lost or came twice."""
    answer = await load.do("paced", seconds=ROUND_S, rate=rate, fan_out=PEOPLE)
    if answer["delivered"] != answer["sent"] * PEOPLE:
        raise RuntimeError(f"{answer['sent']} messages were delivered {answer['delivered']} times")
    return answer


def run() -> list[Result]:
    async def measure() -> list[Result]:
        async with signaling_site(_UNLIMITED) as site:
            return await _measure(site)

    return asyncio.run(measure())
