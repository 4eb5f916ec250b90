"""How many messages one signaling process delivers, and how late they are at half of that.

ROOMS rooms of PEOPLE each; everybody chats. A message goes to the process, through the Redis directory, which numbers
it, and to everybody in the room, its author included: PEOPLE deliveries. What is counted is deliveries, at the clients.
"""

import asyncio
from typing import Final

from tests.bench.measuring import cpu_s
from tests.bench.results import Result
from tests.bench.signaling_site import Site, signaling_site

NAMES: Final = ("signaling.relay_per_s", "signaling.relay_p99_ms")
ROOMS: Final = 50
PEOPLE: Final = 4
WARM_S: Final = 2.0
FULL_S: Final = 10.0
HALF_S: Final = 10.0
_UNLIMITED: Final = {"PARLEY_MESSAGE_RATE": "1000000", "PARLEY_MESSAGE_BURST": "1000000"}


async def _measure(site: Site) -> list[Result]:
    load = site.load
    joined = await load.do("join", rooms=await site.rooms(ROOMS, PEOPLE))
    assert joined["joined"] == ROOMS * PEOPLE
    await load.do("chat", seconds=WARM_S)
    before = cpu_s(site.pid)
    full = await load.do("chat", seconds=FULL_S)
    used = cpu_s(site.pid) - before
    per_second, per_core = full["delivered"] / full["seconds"], full["delivered"] / used
    print(f"  {ROOMS} rooms of {PEOPLE}, everybody with one message on its way:")
    print(f"    {per_second:,.0f} deliveries a second, the process at {used / full['seconds']:.0%} of a core")
    half = await load.do("paced", seconds=HALF_S, rate=per_second / 2, fan_out=PEOPLE)
    print(f"  at half of that, {half['delivered'] / HALF_S:,.0f} a second: {half['p50_ms']:.1f} ms in the median")
    if half["delivered"] != half["sent"] * PEOPLE:
        raise RuntimeError(f"{half['sent']} messages were delivered {half['delivered']} times")
    return [Result(NAMES[0], per_core, "deliveries per CPU second"), Result(NAMES[1], half["p99_ms"], "ms")]


def run() -> list[Result]:
    async def measure() -> list[Result]:
        async with signaling_site(_UNLIMITED) as site:
            return await _measure(site)

    return asyncio.run(measure())
