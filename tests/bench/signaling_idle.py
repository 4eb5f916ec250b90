"""Memory of a signaling process for each person who is connected, joined and silent.

SOCKETS people in rooms of PEOPLE, each with a session on an SFU node; one room came and went before, so that what is
paid once is not counted. The difference in resident memory, divided by the sockets: seats, rooms and their replay too.
"""

import asyncio
import resource
from typing import Final

from tests.bench.measuring import cpu_s, resident_kb
from tests.bench.results import Result
from tests.bench.signaling_site import Site, signaling_site

NAMES: Final = ("signaling.idle_connection_kb",)
SOCKETS: Final = 5_000
PEOPLE: Final = 5
SETTLE_S: Final = 3.0


async def _settled(site: Site) -> int:
    """Resident memory once joining is done: when the process has been quiet for a while."""
    before, used = cpu_s(site.pid), 1.0
    for _ in range(20):
        await asyncio.sleep(SETTLE_S / 2)
        now = cpu_s(site.pid)
        before, used = now, now - before
        if used < SETTLE_S / 10:
            break
    return resident_kb(site.pid)


async def _measure(site: Site) -> list[Result]:
    await site.load.do("join", rooms=await site.rooms(4, PEOPLE))
    await site.load.do("leave")
    empty = await _settled(site)
    clock = asyncio.get_running_loop().time
    rooms = await site.rooms(SOCKETS // PEOPLE, PEOPLE)
    before, used = clock(), cpu_s(site.pid)
    joined = await site.load.do("join", rooms=rooms)
    seconds, used = clock() - before, cpu_s(site.pid) - used
    full = await _settled(site)
    print(
        f"  {joined['joined']:,} people joined in {seconds:.1f} s with {used / joined['joined'] * 1000:.2f} ms CPU each"
    )
    print(f"  resident: {empty / 1024:.0f} MiB empty, {full / 1024:.0f} MiB full")
    await site.load.do("leave")
    print(f"  resident after all have left: {await _settled(site) / 1024:.0f} MiB")
    return [Result(NAMES[0], (full - empty) / joined["joined"], "KiB")]


def run() -> list[Result]:
    """Raises RuntimeError where so many files cannot be open at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < SOCKETS + 500:
        raise RuntimeError(f"a process may open {hard} files here, {SOCKETS + 500} are needed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def measure() -> list[Result]:
        async with signaling_site({}) as site:
            return await _measure(site)

    return asyncio.run(measure())
