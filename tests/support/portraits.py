"""Cameras with somebody in front of them: drawn portraits that move a little, for pictures that people look at.

Chromium draws the SVG of each frame and ffmpeg makes a camera file of them; nobody real is shown.
"""

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.async_api import Browser

from tests.support.media import FFMPEG_TIMEOUT_S, Devices, Person, make_devices

FRAMES: Final = 24
FPS: Final = 12
WIDTH, HEIGHT = 640, 360


@dataclass(frozen=True, slots=True)
class Look:
    """Colours of a drawn person and their room."""

    wall: str
    wall_light: str
    skin: str
    hair: str
    shirt: str
    long_hair: bool = False
    glasses: bool = False


LOOKS: Final = (
    Look("#33475b", "#5d7a94", "#e3b18f", "#3a2a20", "#c8553d"),
    Look("#4a3f55", "#8a7599", "#8d5a3c", "#1d1512", "#e9c46a", long_hair=True),
    Look("#2f4a40", "#6f9484", "#f0c9a8", "#b5651d", "#4063a8", glasses=True),
    Look("#56443a", "#a3897a", "#c68d63", "#2b2b2b", "#e8e4da", long_hair=True, glasses=True),
)


def svg(look: Look, phase: float) -> str:
    """One frame; `phase` from 0 to 1 goes once round a breath and a nod."""
    sway, nod = 5 * math.sin(2 * math.pi * phase), 3 * math.sin(4 * math.pi * phase)
    mouth = 4 + 5 * abs(math.sin(6 * math.pi * phase))
    long_hair = '<path d="M235 170 Q225 290 262 300 L378 300 Q415 290 405 170 Z"/>' if look.long_hair else ""
    glasses = (
        '<g fill="none" stroke="#222" stroke-width="4"><circle cx="294" cy="172" r="19"/>'
        '<circle cx="346" cy="172" r="19"/><path d="M313 172 H327"/></g>'
        if look.glasses
        else ""
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 640 360">
<defs><radialGradient id="w" cx="0.3" cy="0.2" r="1"><stop offset="0" stop-color="{look.wall_light}"/>
<stop offset="1" stop-color="{look.wall}"/></radialGradient></defs>
<rect width="640" height="360" fill="url(#w)"/>
<g fill="#0002"><rect x="40" y="40" width="120" height="150" rx="4"/><rect x="480" y="70" width="110" height="16"/>
<rect x="480" y="130" width="110" height="16"/><rect x="490" y="96" width="18" height="34"/>
<rect x="512" y="90" width="14" height="40"/><rect x="532" y="100" width="20" height="30"/></g>
<g transform="translate({sway:.2f} {nod / 2:.2f})">
<g fill="{look.hair}">{long_hair}</g>
<path d="M150 360 Q160 265 270 258 L370 258 Q480 265 490 360 Z" fill="{look.shirt}"/>
<path d="M286 225 h68 v38 q-34 24 -68 0 Z" fill="{look.skin}" opacity="0.92"/>
<g transform="translate(0 {nod:.2f})">
<ellipse cx="320" cy="170" rx="72" ry="88" fill="{look.skin}"/>
<path d="M246 165 Q240 72 320 70 Q400 72 394 165 Q385 118 320 114 Q255 118 246 165 Z" fill="{look.hair}"/>
<g fill="#2a2320"><circle cx="294" cy="172" r="6"/><circle cx="346" cy="172" r="6"/></g>{glasses}
<path d="M282 152 q12 -8 24 0 M334 152 q12 -8 24 0" stroke="{look.hair}" stroke-width="5" fill="none"/>
<ellipse cx="320" cy="216" rx="20" ry="{mouth:.1f}" fill="#8c3b3b"/>
</g></g></svg>"""


async def make_portrait(browser: Browser, person: Person, look: Look, folder: Path) -> Devices:
    """A camera file of the drawn person in `folder`, with the person's own tone as sound."""
    sound = make_devices(person, folder).audio
    page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
    frames = folder / f"portrait-{person.login.partition('@')[0]}"
    frames.mkdir(exist_ok=True)
    for index in range(FRAMES):
        await page.set_content(f"<style>body{{margin:0}}</style>{svg(look, index / FRAMES)}")
        await page.screenshot(path=frames / f"{index:03}.png")
    await page.close()
    return Devices(_film(frames), sound)


def _film(frames: Path) -> Path:
    video = frames.with_suffix(".mjpeg")
    command = ["ffmpeg", "-hide_banner", "-loglevel", "error", "-nostdin", "-y", "-framerate", str(FPS)]
    command += ["-i", str(frames / "%03d.png"), "-c:v", "mjpeg", "-q:v", "3", "-pix_fmt", "yuvj420p", str(video)]
    subprocess.run(command, check=True, timeout=FFMPEG_TIMEOUT_S)
    return video
