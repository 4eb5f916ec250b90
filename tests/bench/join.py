"""Joining a call in real Chromium: from POST join, devices open, to the first decoded frame of the person there.

One person publishes 320x180 all the time; another, in a browser process of their own, loads the meeting's page, sees
their preview, joins and leaves again, JOINS times. A script in the page notes when each step happens (`join_probe.js`).
"""

import asyncio
import statistics
import tempfile
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Final

from tests.bench.results import Result, percentile
from tests.bench.visiting import sit_down
from tests.support import browser, media
from tests.support.media import GREEN, RED
from tests.support.system import System, running
from tests.support.visitor import Visitor

NAMES: Final = ("join.first_frame_p50_ms", "join.first_frame_p95_ms")
JOINS: Final = 30
DEADLINE_MS: Final = 15_000
PROBE: Final = Path(__file__).with_name("join_probe.js")
# The path to the first frame: each step waits for the one before it.
PATH: Final = (
    "rest.sent",
    "rest.answered",
    "socket.open",
    "in.RoomJoined",
    "in.SfuEndpoint",
    "in.ReceiveOffer",
    "out.SendAnswer",
    "subscribe.ice-connected",
    "subscribe.connected",
    "frame.decoded",
)
_PREVIEW_RUNS: Final = "() => document.querySelector('[data-testid=preview]')?.videoWidth > 0"

Steps = dict[str, float]  # epoch milliseconds


async def _devices_open(visitor: Visitor) -> None:
    await visitor.page.wait_for_function(_PREVIEW_RUNS, timeout=DEADLINE_MS)


async def _join(visitor: Visitor, meeting_id: str) -> Steps:
    """One join, from a page that was loaded afresh; the person has left when it returns."""
    page = visitor.page
    await visitor.open_meeting(meeting_id)
    await _devices_open(visitor)
    await page.get_by_test_id("join-button").click()
    await page.wait_for_function("() => globalThis.joinSteps['frame.decoded']", timeout=DEADLINE_MS)
    steps: Steps = await page.evaluate("globalThis.joinSteps")
    await visitor.control("leave").click()
    await page.get_by_test_id("call-ended").wait_for()
    return steps


async def _joins(system: System, folder: Path) -> list[Steps]:
    async with AsyncExitStack() as stack:
        host, guest = [
            await sit_down(stack, system, person, media.make_devices(person, folder), PROBE) for person in (RED, GREEN)
        ]
        meeting_id = await host.create_meeting(recording=False)
        await _devices_open(host)
        await host.join(consent=None)
        await _join(guest, meeting_id)  # warms caches; not counted
        return [await _join(guest, meeting_id) for _ in range(JOINS)]


def _print_split(joins: list[Steps]) -> None:
    print("  median ms from one step of the path to the next:")
    for before, after in pairwise(PATH):
        times = [steps[after] - steps[before] for steps in joins if before in steps and after in steps]
        if times:
            print(f"    {before:>24} -> {after:<24} {statistics.median(times):7.1f}  p95 {percentile(times, 95):7.1f}")
    print("  median ms of every step after POST join:")
    names = sorted({name for steps in joins for name in steps})
    medians = {n: statistics.median([s[n] - s["rest.sent"] for s in joins if n in s]) for n in names}
    print("    " + ", ".join(f"{name} {ms:.0f}" for name, ms in sorted(medians.items(), key=lambda item: item[1])))


def run() -> list[Result]:
    """Raises RuntimeError where Chromium or ffmpeg is missing."""
    if reason := browser.missing() or media.missing_tool():
        raise RuntimeError(reason)
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        with running(folder / "data") as system:
            joins = asyncio.run(_joins(system, folder))
    _print_split(joins)
    times = [steps["frame.decoded"] - steps["rest.sent"] for steps in joins]
    return [Result(NAMES[0], statistics.median(times), "ms"), Result(NAMES[1], percentile(times, 95), "ms")]
