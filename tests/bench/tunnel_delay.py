"""What the HTTP tunnel adds to the delay of a call, from microphone to ear, and how well lips and voice fit behind it.

Two Chromiums meet on the SFU; one has UDP, the other joins in turn by UDP and by each wire of the tunnel, over a link
that is good, and then one that loses 1 % and has a round trip of 100 ms. Both beep each second and flash every other.
"""

import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.behind_a_link import Site, site
from tests.bench.onsets import MICROPHONE, PROBE, SOUND_OF, matched
from tests.bench.process_tree import come_first
from tests.bench.results import Result, percentile
from tests.support.bad_network import GOOD, State
from tests.support.media import GREEN, RED, Devices, Person
from tests.support.visitor import Visitor, wait_for

NAMES: Final = (
    "tunnel.websocket.added_delay_ms",
    "tunnel.websocket.added_delay_p95_ms",
    "tunnel.stream.added_delay_ms",
    "tunnel.longpoll.added_delay_ms",
    "tunnel.websocket.added_delay_lossy_ms",
    "tunnel.websocket.added_delay_lossy_p95_ms",
    "tunnel.websocket.lip_sync_ms",
)
SETTLE_S: Final = 12.0  # joining is work, which jitter buffers remember for some seconds
LISTEN_S: Final = 20.0
LOSSY: Final[State] = {"delay_ms": 50, "loss": 0.01}
KINDS: Final = {"": "", "websocket": "websocket", "stream": "streaming", "poll": "longpoll"}
_TILE_OF: Final = """userId => document.querySelector(`[data-testid=tile][data-user-id="${userId}"] video`)"""


@dataclass(frozen=True, slots=True)
class Heard:
    """Delays of beeps out of the link's far end and into it, and of flashes, ms."""

    up: list[float]
    down: list[float]
    seen_up: list[float]
    seen_down: list[float]

    @property
    def lip_sync(self) -> tuple[float, float]:
        """How much later than its sound a picture is, in both directions, ms."""
        return (
            statistics.median(self.seen_up) - statistics.median(self.up),
            statistics.median(self.seen_down) - statistics.median(self.down),
        )

    def added_to(self, base: "Heard", percent: float = 50) -> float:
        """How much later so many of the beeps have been heard, in the direction that is worse, ms."""
        pairs = ((self.up, base.up), (self.down, base.down))
        return max(percentile(mine, percent) - percentile(theirs, percent) for mine, theirs in pairs)


def _signalling(person: Person, folder: Path) -> Devices:
    """A beep of 50 ms each second, and a flash of 100 ms every other second (Chromium plays files at 30 frames/s)."""
    devices = Devices(folder / f"flashes-{person.channel}.mjpeg", folder / "beeps.wav")
    ground, flash = f"color=c={person.colour}:s=320x180:r=30:d=8", "drawbox=c=white:t=fill:enable='lt(mod(n,60),3)'"
    picture = ["-f", "lavfi", "-i", f"{ground},eq=brightness=-0.3,{flash}", "-c:v", "mjpeg", "-q:v", "4", "-f", "mjpeg"]
    sound = "aevalsrc='if(lt(mod(t,1),0.05),0.8*sin(2*PI*1000*t),0)':s=48000:d=8"
    for words in ([*picture, str(devices.video)], ["-f", "lavfi", "-i", sound, str(devices.audio)]):
        subprocess.run(["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", *words], check=True, timeout=60)
    return devices


async def _attends(listener: Visitor, speaker: Visitor, name: str) -> None:
    """From now on both note the beeps and flashes of `speaker`."""
    user_id = speaker.user_id
    await wait_for(
        lambda: listener.evaluate(f"id => Boolean(({SOUND_OF})(id) && ({_TILE_OF})(id)?.videoWidth)", user_id),
        f"{listener.person.login} gets sound and picture",
        20,
    )
    await speaker.evaluate(f"n => listen(n + '-sent', {MICROPHONE})", name)
    await speaker.evaluate(f"([n, id]) => watch(n + '-shown', ({_TILE_OF})(id))", [name, user_id])
    await listener.evaluate(f"([n, id]) => listen(n + '-heard', ({SOUND_OF})(id).media)", [name, user_id])
    await listener.evaluate(f"([n, id]) => watch(n + '-seen', ({_TILE_OF})(id))", [name, user_id])


async def _delays(listener: Visitor, speaker: Visitor, name: str, since: float) -> tuple[list[float], list[float]]:
    """Of beeps and of flashes."""
    found = []
    for begin, end in (("sent", "heard"), ("shown", "seen")):
        sent = await speaker.evaluate("n => onsets(n)", f"{name}-{begin}")
        got = await listener.evaluate("n => onsets(n)", f"{name}-{end}")
        found.append(matched([at for at in sent if at >= since], got))
    sounds, pictures = found
    if len(sounds) < LISTEN_S * 0.7 or len(pictures) < LISTEN_S * 0.3:
        raise RuntimeError(f"{name}: {len(sounds)} beeps were heard and {len(pictures)} flashes seen")
    return sounds, pictures


class Meeting:
    """`near` stays in the meeting, `far` joins by one way after the other."""

    def __init__(self, place: Site, near: Visitor, far: Visitor, meeting_id: str) -> None:
        self._place = place
        self._near = near
        self._far = far
        self._meeting_id = meeting_id
        self._count = 0

    async def by(self, way: str, link: State) -> Heard:
        """What is heard where `far` joins by this way ("" for what the ladder takes), the link being so."""
        near, far = self._near, self._far
        self._count += 1
        name = f"{self._count}-{way}"
        await far.open_meeting(self._meeting_id, way)
        await far.join(consent=None)
        carries = await far.evaluate("() => parley.call.transports.tunnel?.kind ?? ''")
        if carries != KINDS[way]:
            raise RuntimeError(f"the call goes by {carries or 'WebRTC'} and not by {way or 'WebRTC'}")
        try:
            await _attends(near, far, f"{name}-up")
            await _attends(far, near, f"{name}-down")
            self._place.network.both(link)
            come_first(self._place.system.process.pid)
            await asyncio.sleep(SETTLE_S)
            since = float(await near.evaluate("performance.timeOrigin + performance.now()"))
            await asyncio.sleep(LISTEN_S)
        finally:
            report = self._place.network.both(GOOD)
        up, seen_up = await _delays(near, far, f"{name}-up", since)
        down, seen_down = await _delays(far, near, f"{name}-down", since)
        heard = Heard(up, down, seen_up, seen_down)
        _tell(way or "udp", link, heard, report.latest_us)
        await far.page.goto("/")
        return heard


def _tell(way: str, link: State, heard: Heard, latest_us: int) -> None:
    def of(values: list[float]) -> str:
        return f"{statistics.median(values):.0f} and {percentile(values, 95):.0f}"

    print(
        f"  {way}{' (lossy)' if link else ''}, median and 95 %: out {of(heard.up)} ms, in {of(heard.down)} ms; "
        f"picture out {of(heard.seen_up)}, in {of(heard.seen_down)}; behind its sound by {heard.lip_sync[0]:.0f} and "
        f"{heard.lip_sync[1]:.0f}; the link was late by {latest_us / 1000:.1f} at most",
        flush=True,
    )


async def _measure(place: Site, ways: Sequence[tuple[str, State]]) -> list[Heard]:
    async with AsyncExitStack() as stack:
        near, far = [
            await place.sits_down(stack, person, _signalling(person, place.folder), probe=PROBE, is_behind=is_behind)
            for person, is_behind in ((RED, False), (GREEN, True))
        ]
        meeting_id = await near.create_meeting(recording=False)
        await near.join(consent=None)
        meeting = Meeting(place, near, far, meeting_id)
        return [await meeting.by(way, link) for way, link in ways]


def measured(ways: Sequence[tuple[str, State]]) -> list[Heard]:
    """Raises RuntimeError where it cannot be measured here."""
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name, site(Path(name)) as place:
        return asyncio.run(_measure(place, ways))


def run() -> list[Result]:
    """Raises RuntimeError where Chromium, ffmpeg, the link's program or the right to make a namespace is missing."""
    ways = [("", GOOD), ("websocket", GOOD), ("stream", GOOD), ("poll", GOOD), ("", LOSSY), ("websocket", LOSSY)]
    udp, websocket, stream, poll, lossy_udp, lossy = measured(ways)
    values = (
        websocket.added_to(udp),
        websocket.added_to(udp, 95),
        stream.added_to(udp),
        poll.added_to(udp),
        lossy.added_to(lossy_udp),
        lossy.added_to(lossy_udp, 95),
        abs(websocket.lip_sync[1]),
    )
    return [Result(name, value, "ms") for name, value in zip(NAMES, values, strict=True)]


if __name__ == "__main__":  # some ways only: python -m tests.bench.tunnel_delay "" websocket websocket:lossy
    measured([(word.partition(":")[0], LOSSY if word.endswith(":lossy") else GOOD) for word in sys.argv[1:]])
