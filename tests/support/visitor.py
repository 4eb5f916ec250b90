"""A person at the page: what they do (by the controls that everybody has) and what they see and hear.

What is seen is measured in the page: frames that the video element really showed and the colour of their pixels; what
is heard by the pitch of the received track. `globalThis.parley` (the page's read-only debug handle) gives the tracks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from playwright.async_api import Locator, Page, expect

from tests.support.media import Person

T = TypeVar("T")
DEADLINE_S: Final = 25.0
DEBUG_SCRIPT: Final = "localStorage.setItem('parleyDebug', '1')"

_FRAMES: Final = """async (userId) => {
  const video = document.querySelector(`[data-testid=tile][data-user-id="${userId}"] video`);
  if (!video || !video.videoWidth) return null;
  const shown = () => video.getVideoPlaybackQuality().totalVideoFrames;
  const before = shown(), started = performance.now();
  await new Promise((done) => setTimeout(done, 2000));
  const rate = (shown() - before) * 1000 / (performance.now() - started);
  const canvas = new OffscreenCanvas(16, 9), context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 16, 9);
  const pixels = context.getImageData(0, 0, 16, 9).data, sum = [0, 0, 0];
  for (let i = 0; i < pixels.length; i += 4) for (let c = 0; c < 3; c++) sum[c] += pixels[i + c];
  return {rate, colour: sum.map((value) => value / (pixels.length / 4))};
}"""

_PITCH: Final = """async (userId) => {
  const received = [...(globalThis.parley.call.topology.received.values())];
  const found = received.find(({info}) => info.userId === userId && info.source === 'microphone');
  if (!found) return null;
  const context = new AudioContext();
  await context.resume();
  const analyser = context.createAnalyser();
  analyser.fftSize = 8192;
  context.createMediaStreamSource(new MediaStream([found.media])).connect(analyser);
  await new Promise((done) => setTimeout(done, 600));
  const bins = new Float32Array(analyser.frequencyBinCount);
  analyser.getFloatFrequencyData(bins);
  let best = 0;
  bins.forEach((value, index) => { if (value > bins[best]) best = index; });
  const result = {hertz: best * context.sampleRate / analyser.fftSize, decibels: bins[best]};
  await context.close();
  return result;
}"""


@dataclass(slots=True)
class Visitor:
    """One person and the page in front of them."""

    person: Person
    page: Page
    user_id: str = ""

    # --- getting in ---
    async def sign_in(self) -> None:
        """From the signed-out home screen through the provider's user picker."""
        await self.page.add_init_script(DEBUG_SCRIPT)
        await self.page.goto("/")
        await self.page.get_by_test_id("sign-in").click()
        await self.pick_self()
        await expect(self.page.get_by_test_id("new-meeting")).to_be_visible(timeout=DEADLINE_S * 1000)

    async def pick_self(self) -> None:
        await self.page.locator(f'button[value="{self.person.login}"]').click()

    async def create_meeting(self, *, recording: bool = True, ai: bool = False, password: str = "") -> str:
        """Creates a meeting on the home screen; gives its id. The page then shows the screen before joining."""
        await self.page.get_by_test_id("new-meeting").click()
        await _set_checked(self.page.get_by_test_id("option-recording"), recording)
        await _set_checked(self.page.get_by_test_id("option-ai"), ai)
        if password:
            await self.page.get_by_test_id("option-password").fill(password)
        await self.page.get_by_test_id("create-meeting").click()
        await self.page.wait_for_url("**/m/*")
        return self.page.url.rpartition("/m/")[2].partition("?")[0]

    async def open_meeting(self, meeting_id: str, way: str = "") -> None:
        """Shows the screen before joining; `way` is the one wire of the HTTP tunnel that the page is to take."""
        await self.page.goto(f"/m/{meeting_id}" + (f"?way={way}" if way else ""))
        await expect(self.page.get_by_test_id("join-button")).to_be_visible()

    async def join(self, *, consent: bool | None = True) -> None:
        """Decides on consent where asked, clicks Join and waits for the call."""
        if consent is not None:
            await self.page.get_by_test_id("consent-accept" if consent else "consent-decline").click()
        await self.page.get_by_test_id("join-button").click()
        await self.in_call()

    async def in_call(self) -> None:
        await expect(self.page.get_by_test_id("call-stage")).to_be_visible(timeout=DEADLINE_S * 1000)
        await self.page.wait_for_function("globalThis.parley?.call?.state === 'connected'")
        self.user_id = await self.page.evaluate("globalThis.parley.call.userId")

    # --- in the call ---
    def control(self, name: str) -> Locator:
        return self.page.get_by_test_id(f"control-{name}")

    def tile(self, other: "Visitor") -> Locator:
        return self.page.locator(f'[data-testid=tile][data-user-id="{other.user_id}"]')

    async def look_at(self, user_id: str) -> dict[str, Any] | None:
        """Frames per second and mean red, green, blue of a person's tile; None where it shows no picture."""
        seen: dict[str, Any] | None = await self.page.evaluate(_FRAMES, user_id)
        return seen

    async def sees(self, other: "Visitor", *, frames_per_second: float = 10.0) -> float:
        """Waits until the tile of `other` shows their own colour fast enough; gives the rate."""

        last: list[object] = [None]

        async def look() -> float | None:
            last[0] = seen = await self.look_at(other.user_id)
            if not seen:
                return None
            colour = seen["colour"]
            right = (
                max(range(3), key=colour.__getitem__) == other.person.channel and max(colour) > 2 * sorted(colour)[1]
            )
            return seen["rate"] if right and seen["rate"] >= frames_per_second else None

        return await wait_for(look, lambda: f"{self.person.login} sees {other.person.login}; last: {last[0]}")

    async def sees_no_frames_of(self, other: "Visitor") -> None:
        async def look() -> bool:
            seen = await self.look_at(other.user_id)
            return seen is None or seen["rate"] == 0

        await wait_for(look, f"{self.person.login} sees no frames of {other.person.login}")

    async def hears(self, other: "Visitor", *, tolerance_hz: float = 25.0) -> None:
        """Waits until the strongest pitch of the received sound is that of `other`."""

        async def listen() -> bool:
            heard = await self.page.evaluate(_PITCH, other.user_id)
            return bool(heard) and abs(heard["hertz"] - other.person.tone_hz) < tolerance_hz and heard["decibels"] > -60

        await wait_for(listen, f"{self.person.login} hears {other.person.login}")

    async def hears_nothing_of(self, other: "Visitor") -> None:
        async def listen() -> bool:
            heard = await self.page.evaluate(_PITCH, other.user_id)
            return not heard or heard["decibels"] < -90

        await wait_for(listen, f"{self.person.login} hears nothing of {other.person.login}")

    async def evaluate(self, script: str, argument: object = None) -> Any:
        return await self.page.evaluate(script, argument)


async def meet(host: Visitor, guest: Visitor, way: str = "") -> None:
    """The host makes a meeting and joins it, and the guest joins it then."""
    meeting_id = await host.create_meeting(recording=False)
    await host.join(consent=None)
    await guest.open_meeting(meeting_id, way)
    await guest.join(consent=None)


async def see_and_hear_each_other(one: Visitor, other: Visitor, *, frames_per_second: float = 10.0) -> None:
    for seeing, seen in ((one, other), (other, one)):
        await seeing.sees(seen, frames_per_second=frames_per_second)
        await seeing.hears(seen)


async def wait_for(
    look: Callable[[], Awaitable[T | None]], what: str | Callable[[], str], deadline_s: float = DEADLINE_S
) -> T:
    """Repeats `look` until it gives something true. Raises AssertionError after the deadline."""
    ends = time.monotonic() + deadline_s
    while True:
        if found := await look():
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what if isinstance(what, str) else what()}")
        await asyncio.sleep(0.1)


async def _set_checked(box: Locator, wanted: bool) -> None:
    if await box.count():
        await box.set_checked(wanted)
