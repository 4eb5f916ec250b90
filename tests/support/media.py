"""Media that tests can tell apart: a colour that moves and a tone, made by ffmpeg.

Each person gets a colour for the camera and a pitch for the microphone, so that a test can say *whose* picture it sees
and whose voice it hears.
"""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FFMPEG_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class Person:
    """A test user of the local identity provider and what their devices give."""

    login: str  # login_hint at the local provider
    colour: str  # ffmpeg colour name of the camera picture
    channel: int  # which of red, green, blue dominates it
    tone_hz: int


RED: Final = Person("alex@example.org", "0xD01818", 0, 440)
GREEN: Final = Person("blair@example.org", "0x18C018", 1, 880)
BLUE: Final = Person("casey@example.org", "0x1818D8", 2, 1320)


@dataclass(frozen=True, slots=True)
class Devices:
    """Files that Chromium plays as camera and microphone, in a loop."""

    video: Path
    audio: Path


def make_devices(person: Person, folder: Path, *, width: int = 320, height: int = 180, fps: int = 15) -> Devices:
    """Four seconds of picture and sound of `person` in `folder` (made once)."""
    stem = f"{person.login.partition('@')[0]}-{width}x{height}"
    devices = Devices(folder / f"{stem}.mjpeg", folder / f"{stem}.wav")
    if devices.audio.exists():
        return devices
    # A white box that moves makes every frame differ, as a camera's do.
    ground = f"color=c={person.colour}:s={width}x{height}:r={fps}:d=4[ground]"
    box = f"color=c=white:s={width // 10}x{height // 10}:r={fps}:d=4[box]"
    graph = f"{ground};{box};[ground][box]overlay=x='mod(n*8,{width})':y={height // 8}"
    _ffmpeg("-f", "lavfi", "-i", graph, "-c:v", "mjpeg", "-q:v", "4", "-f", "mjpeg", str(devices.video))
    tone = f"sine=frequency={person.tone_hz}:sample_rate=48000:duration=4,volume=4"
    _ffmpeg("-f", "lavfi", "-i", tone, "-ac", "1", str(devices.audio))
    return devices


def make_detailed_devices(person: Person, folder: Path, *, width: int, height: int, fps: int = 15) -> Devices:
    """As `make_devices`, with a picture that costs an encoder all the bits that it may spend."""
    plain = make_devices(person, folder, width=width, height=height, fps=fps)
    devices = Devices(folder / f"{plain.video.stem}-detailed.mjpeg", plain.audio)
    graph = f"testsrc2=s={width}x{height}:r={fps}:d=4,noise=alls=12:allf=t"
    _ffmpeg("-f", "lavfi", "-i", graph, "-c:v", "mjpeg", "-q:v", "4", "-f", "mjpeg", str(devices.video))
    return devices


def missing_tool() -> str | None:
    """The sentence that says what to install, or None."""
    return None if shutil.which("ffmpeg") else "ffmpeg is not installed (Debian package ffmpeg)"


def _ffmpeg(*arguments: str) -> None:
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, timeout=FFMPEG_TIMEOUT_S)
