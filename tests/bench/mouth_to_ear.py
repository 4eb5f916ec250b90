"""From the microphone's track of one browser to the sound that another one plays: over the SFU by UDP, peer to peer,
and through TURN over TCP.

The microphone plays a beep each second. A script in both pages notes when a beep begins in the track that is sent, and
in the one that is received; encoder, packets, network, jitter buffer and decoder lie in between, the sound card does
not.
"""

import asyncio
import statistics
import subprocess
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.onsets import MICROPHONE, PROBE, SOUND_OF, matched
from tests.bench.process_tree import come_first
from tests.bench.results import Result, percentile
from tests.bench.visiting import sit_down
from tests.support import browser, media
from tests.support.media import GREEN, RED, Devices, Person
from tests.support.relay_only import relay_only
from tests.support.system import System, running
from tests.support.visitor import wait_for

NAMES: Final = ("media.mouth_to_ear_p95_ms", "media.mouth_to_ear_mesh_p95_ms", "media.mouth_to_ear_turn_tcp_p95_ms")
SETTLE_S: Final = 5.0
LISTEN_S: Final = 30.0


@dataclass(frozen=True)
class Way:
    """A way from one to the other: settings of the system, and what the pages are told first."""

    name: str
    settings: dict[str, str]
    script: str = ""


WAYS: Final = (
    Way(NAMES[0], {}),
    Way(NAMES[1], {"PARLEY_MESH_LIMIT": "2"}),
    Way(NAMES[2], {"PARLEY_TURN_SERVER": "embedded"}, relay_only("transport=tcp")),
)


def _beeping(person: Person, folder: Path) -> Devices:
    """The person's picture, and a beep of 50 ms each second."""
    plain = media.make_devices(person, folder)
    beeps = folder / "beeps.wav"
    if not beeps.exists():
        sound = "aevalsrc='if(lt(mod(t,1),0.05),0.8*sin(2*PI*1000*t),0)':s=48000:d=10"
        command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-y", "-f", "lavfi", "-i", sound, str(beeps)]
        subprocess.run(command, check=True, timeout=60)
    return Devices(plain.video, beeps)


async def _delays(system: System, folder: Path, way: Way) -> list[float]:
    async with AsyncExitStack() as stack:
        host, guest = [
            await sit_down(stack, system, person, _beeping(person, folder), PROBE, way.script)
            for person in (RED, GREEN)
        ]
        meeting_id = await host.create_meeting(recording=False)
        await host.join(consent=None)
        await guest.open_meeting(meeting_id)
        await guest.join(consent=None)
        await wait_for(
            lambda: guest.evaluate(f"userId => Boolean(({SOUND_OF})(userId))", host.user_id), "sound comes", 20
        )
        await host.evaluate(f"() => listen('sent', {MICROPHONE})")
        await guest.evaluate(f"userId => listen('heard', ({SOUND_OF})(userId).media)", host.user_id)
        come_first(system.process.pid)
        await asyncio.sleep(SETTLE_S + LISTEN_S)
        sent = await host.evaluate("() => onsets('sent')")
        heard = await guest.evaluate("() => onsets('heard')")
    return matched([at for at in sent if at >= sent[0] + SETTLE_S * 1000], heard)


def run() -> list[Result]:
    """Raises RuntimeError where Chromium or ffmpeg is missing."""
    if reason := browser.missing() or media.missing_tool():
        raise RuntimeError(reason)
    results = []
    with tempfile.TemporaryDirectory(prefix="parley-bench-") as name:
        for way in WAYS:
            folder = Path(name)
            with running(folder / way.name, way.settings) as system:
                delays = asyncio.run(_delays(system, folder, way))
            if len(delays) < LISTEN_S / 2:
                raise RuntimeError(f"{way.name}: {len(delays)} beeps were heard")
            print(
                f"  {way.name}: {len(delays)} beeps, median {statistics.median(delays):.0f} ms, "
                f"95 % {percentile(delays, 95):.0f} ms",
                flush=True,
            )
            results.append(Result(way.name, percentile(delays, 95), "ms"))
    return results
