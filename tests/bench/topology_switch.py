"""The gap in sound and picture when a room moves from mesh to the SFU, as one of its people perceives it.

Two people are a mesh (the limit is two) at 320x180; a third joins and leaves again, SWITCHES times. A probe in the page
of the first notes the frames of the second that are presented and the blocks of sound that are played.
"""

import asyncio
import statistics
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from tests.bench.results import Result
from tests.bench.visiting import sit_down
from tests.support import browser, media
from tests.support.media import BLUE, GREEN, RED
from tests.support.system import System, running
from tests.support.visitor import Visitor, wait_for

NAMES: Final = ("topology.switch.audio_gap_ms", "topology.switch.video_gap_ms")
SWITCHES: Final = 5
CALM_S: Final = 3
SETTINGS: Final = {"PARLEY_MESH_LIMIT": "2", "PARLEY_MESH_CALM_SECONDS": str(CALM_S)}
PROBE: Final = Path(__file__).with_name("topology_probe.js")
MARGIN_MS: Final = 500.0
_IS: Final = """(side) => {
  const {topology, mesh, transports} = globalThis.parley.call;
  const isOver = side === 'sfu' ? mesh.links.size === 0 : transports.publisher === null;
  return topology.side === side && isOver;
}"""


async def _now(visitor: Visitor) -> float:
    return float(await visitor.evaluate("performance.now()"))


async def _gaps(visitor: Visitor, side: str, since: float) -> dict[str, Any]:
    """The longest gaps from `since` until the room has changed to `side` altogether."""
    await wait_for(lambda: visitor.evaluate(_IS, side), f"the room is on {side}", 30)
    await asyncio.sleep(MARGIN_MS / 1000)
    found: dict[str, Any] = await visitor.evaluate(
        "([from, to]) => gaps(from, to)", [since, await _now(visitor) - MARGIN_MS / 2]
    )
    return found


async def _switches(system: System, folder: Path) -> list[dict[str, Any]]:
    async with AsyncExitStack() as stack:
        host, guest, third = [
            await sit_down(stack, system, person, media.make_devices(person, folder), PROBE)
            for person in (RED, GREEN, BLUE)
        ]
        meeting_id = await host.create_meeting(recording=False)
        await host.join(consent=None)
        await guest.open_meeting(meeting_id)
        await guest.join(consent=None)
        await host.sees(guest)
        await host.evaluate("userId => perceive(userId)", guest.user_id)
        await asyncio.sleep(2)
        now = await _now(host)
        steady = await host.evaluate("([from, to]) => gaps(from, to)", [now - 1_500, now - 100])
        print(f"  nothing happens: sound {steady['audio']:.0f} ms, picture {steady['video']:.0f} ms")
        found = []
        for _ in range(SWITCHES):
            await third.open_meeting(meeting_id)
            since = await _now(host)
            await third.join(consent=None)
            there = await _gaps(host, "sfu", since)
            since = await _now(host)
            await third.control("leave").click()
            back = await _gaps(host, "mesh", since)
            print(
                f"  to the SFU: sound {there['audio']:.0f} ms, picture {there['video']:.0f} ms; "
                f"back: sound {back['audio']:.0f} ms, picture {back['video']:.0f} ms"
            )
            found.append(there)
        return found


def run() -> list[Result]:
    """Raises RuntimeError where Chromium or ffmpeg is missing."""
    if reason := browser.missing() or media.missing_tool():
        raise RuntimeError(reason)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        with running(folder / "data", SETTINGS) as system:
            found = asyncio.run(_switches(system, folder))
    sides = ("audio", "video")
    return [
        Result(name, statistics.median(gaps[side] for gaps in found), "ms")
        for name, side in zip(NAMES, sides, strict=True)
    ]
