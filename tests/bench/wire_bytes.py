"""What a call of sound costs on the wire by each rung of the ladder: everything that crosses the link of one of two
people whose cameras are off, in each direction, with the headers of IP.

Both sound all the time. It is a tone, at the rate that the encoder of each rung takes for it; that is printed too.
"""

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.behind_a_link import Site, site
from tests.bench.process_tree import come_first
from tests.bench.results import Result
from tests.support import media
from tests.support.bad_network import Report
from tests.support.media import GREEN, RED
from tests.support.relay_only import relay_only
from tests.support.visitor import Visitor

SETTLE_S: Final = 8.0
COUNT_S: Final = 10.0
_SOUND_BYTES: Final = """async (userId) => (await globalThis.parley.stats())
  .find((entry) => entry.userId === userId && entry.source === 'microphone')?.bytesReceived ?? 0"""


@dataclass(frozen=True, slots=True)
class Rung:
    """`way` is what the page is told in its address, `script` what it runs first."""

    name: str
    way: str = ""
    script: str = ""


RUNGS: Final = (
    Rung("wire.udp_kbps"),
    Rung("wire.turn_udp_kbps", script=relay_only("^turn:.*transport=udp")),
    Rung("wire.turn_tcp_kbps", script=relay_only("^turn:.*transport=tcp")),
    Rung("wire.websocket_kbps", "websocket"),
    Rung("wire.stream_kbps", "stream"),
    Rung("wire.longpoll_kbps", "poll"),
)
NAMES: Final = tuple(rung.name for rung in RUNGS)


def _kbps(count: float) -> float:
    return count * 8 / COUNT_S / 1000


async def _counted(place: Site, near: Visitor, far: Visitor) -> tuple[Report, Report, float]:
    """The link's counts before and after, and the bytes of sound of `far` that came to `near` in between."""
    sound = float(await near.evaluate(_SOUND_BYTES, far.user_id))
    before = place.network.counts()
    await asyncio.sleep(COUNT_S)
    after = place.network.counts()
    return before, after, float(await near.evaluate(_SOUND_BYTES, far.user_id)) - sound


async def _by(place: Site, near: Visitor, meeting_id: str, rung: Rung) -> float:
    async with AsyncExitStack() as stack:
        devices = media.make_devices(GREEN, place.folder)
        far = await place.sits_down(stack, GREEN, devices, script=rung.script, is_behind=True)
        await far.open_meeting(meeting_id, rung.way)
        await far.join(consent=None)
        await far.control("camera").click()
        for one, other in ((near, far), (far, near)):
            await one.hears(other)
        come_first()
        await asyncio.sleep(SETTLE_S)
        before, after, sound = await _counted(place, near, far)
    up, down = after.far.sent[1] - before.far.sent[1], after.near.sent[1] - before.near.sent[1]
    packets = after.far.sent[0] - before.far.sent[0], after.near.sent[0] - before.near.sent[0]
    print(
        f"  {rung.name}: up {_kbps(up):.0f}, down {_kbps(down):.0f} kb/s; {packets[0] / COUNT_S:.0f} and "
        f"{packets[1] / COUNT_S:.0f} packets/s; sound {_kbps(sound):.0f} kb/s",
        flush=True,
    )
    if not sound:
        raise RuntimeError(f"{rung.name}: no sound came")
    return _kbps(up + down)


async def _all(place: Site) -> list[float]:
    async with AsyncExitStack() as stack:
        devices = media.make_devices(RED, place.folder)
        near = await place.sits_down(stack, RED, devices, is_behind=False)
        meeting_id = await near.create_meeting(recording=False)
        await near.join(consent=None)
        await near.control("camera").click()
        return [await _by(place, near, meeting_id, rung) for rung in RUNGS]


def run() -> list[Result]:
    """Raises RuntimeError where Chromium, ffmpeg, the link's program or the right to make a namespace is missing."""
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name, site(Path(name)) as place:
        values = asyncio.run(_all(place))
    return [Result(name, value, "kb/s") for name, value in zip(NAMES, values, strict=True)]
