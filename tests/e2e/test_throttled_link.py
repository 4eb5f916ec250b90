"""One of three people sits behind a slow link: they get less, then sound only, then everything again; the others do not
notice.

The slow link is a token bucket on the way into a network namespace that only that person's browser runs in.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import pytest_asyncio
from playwright.async_api import Playwright, expect

from tests.e2e.conftest import SCREENSHOTS
from tests.support import browser as chromium
from tests.support import media
from tests.support.browser import screenshot
from tests.support.media import BLUE, GREEN, RED, Devices, Person
from tests.support.network import E2E_SUBNET, NoNetwork, Pair, obstacle, pair
from tests.support.system import System, running
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FULL: Final = (640, 360)  # two layers: this one and half of it
LESS_KBIT: Final = 500
SOUND_ONLY_KBIT: Final = (
    110  # one voice takes 76 on the wire and reports 14, which leaves nothing that a picture could use
)
SLOWER_WITHIN_S: Final = 60.0
BACK_WITHIN_S: Final = 90.0
HEARD_PACKETS: Final = 100  # two seconds of sound
# Of the sound, once a phase has begun: the slowest link has a tenth less than sound with all its reports takes.
MOST_LOST: Final = 0.3
STEADY_FRAMES: Final = 30
# The lowest of three temporal layers has 7.5 frames a second: at 500 kbit/s the full picture fits so, too.
LOWEST_LAYER_FPS: Final = 12.0
RATE_OVER_S: Final = 2.0
NOTICE: Final = "Audio only: the network is too slow for video."

_RECEIVED: Final = """async (userId) => {
  const found = (await globalThis.parley.stats()).filter((entry) => entry.userId === userId);
  const video = found.find(({source}) => source === 'camera');
  const audio = found.find(({source}) => source === 'microphone');
  return {
    width: video?.frameWidth ?? 0, frames: video?.framesDecoded ?? 0,
    sound: audio?.packetsReceived ?? 0, lost: audio?.packetsLost ?? 0,
  };
}"""


@dataclass(slots=True)
class Receiver:
    """What somebody gets of the publisher: `widths` are those seen since the phase began, `before` how it began."""

    visitor: Visitor
    publisher: Visitor
    before: dict[str, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    widths: set[int] = field(default_factory=set)
    steady_since: int = 0  # frames decoded when the picture last was not of a lower layer
    counts: list[tuple[float, int]] = field(default_factory=list)  # of frames, over the last seconds

    async def look(self) -> dict[str, Any]:
        self.last = await self.visitor.evaluate(_RECEIVED, self.publisher.user_id)
        self.widths.add(self.last["width"])
        return self.last

    async def begin(self) -> None:
        self.widths.clear()
        self.before = await self.look()

    async def hears_on(self) -> None:
        """Waits until two seconds of sound have come from now on, with no more loss than the link forces."""
        since = await self.look()

        async def more() -> bool:
            return bool((await self.look())["sound"] >= since["sound"] + HEARD_PACKETS)

        await wait_for(more, f"{self.visitor.person.login} goes on hearing")
        came, lost = (self.last[key] - since[key] for key in ("sound", "lost"))
        assert lost <= MOST_LOST * (came + lost), f"{lost} packets of sound were lost, {came} came"

    async def shows_all(self) -> bool:
        return await self._moves() and self.last["width"] == FULL[0]

    async def shows_less(self) -> bool:
        """Whether so many frames of a lower layer have come without a break that this is no passing state: of a smaller
        picture, or of a quarter of the frames."""
        got = await self.look()
        if (got["width"] == FULL[0] and self._rate() > LOWEST_LAYER_FPS) or await self.is_told():
            self.steady_since = got["frames"]
        return bool(got["frames"] - self.steady_since >= STEADY_FRAMES)

    def _rate(self) -> float:
        """Frames a second over the last seconds; as many as can be before so many have passed."""
        now = time.monotonic()
        self.counts.append((now, self.last["frames"]))
        while now - self.counts[0][0] > 2 * RATE_OVER_S:
            del self.counts[0]
        began, frames = self.counts[0]
        return (self.last["frames"] - frames) / (now - began) if now - began >= RATE_OVER_S else float("inf")

    async def is_told(self) -> bool:
        """Whether the tile says that the link is too slow for a picture."""
        return await self.visitor.tile(self.publisher).get_attribute("data-paused") == "bandwidth"

    async def shows_any(self) -> bool:
        """Whether a picture of some size moves, and not only what was still on its way when it was taken away."""
        return await self._moves() and not await self.is_told()

    async def _moves(self) -> bool:
        """Whether a frame has come since the last look."""
        before = self.last.get("frames", 0)
        return bool((await self.look())["frames"] > before > 0)

    async def was_not_affected(self) -> None:
        got = await self.look()
        assert self.widths == {FULL[0]}, "the picture of the others keeps its size"
        assert got["frames"] > self.before["frames"], "and goes on moving"
        assert got["sound"] > self.before["sound"]


@pytest.fixture
def link() -> Iterator[Pair]:
    """A way into a namespace; skips where it, or a token bucket on it, cannot be made."""
    if why_not := obstacle("tc"):
        pytest.skip(why_not)
    with ExitStack() as stack:
        try:
            made = stack.enter_context(pair("e2e", E2E_SUBNET))
            made.throttle(SOUND_ONLY_KBIT)
            made.release()
        except NoNetwork as reason:
            pytest.skip(str(reason))
        yield made


@pytest.fixture
def reachable(link: Pair, tmp_path: Path) -> Iterator[System]:
    """A system whose one address is the near end of the link, for those behind it as for those before it."""
    with running(tmp_path / "data", {"HOST": link.near_host, "PUBLIC_IP": link.near_host}) as started:
        yield started


@pytest_asyncio.fixture
async def people(reachable: System, link: Pair, playwright: Playwright, tmp_path: Path) -> AsyncIterator[list[Visitor]]:
    """The publisher, an ordinary receiver, and one behind the link: signed in, at browsers of their own."""
    program = chromium.executable()
    assert program is not None
    behind = link.wrapped(program, tmp_path)
    async with AsyncExitStack() as stack:

        async def sit_down(person: Person, devices: Devices, program: Path | None) -> Visitor:
            trusted = f"--unsafely-treat-insecure-origin-as-secure={reachable.url}"
            browser = await stack.enter_async_context(
                chromium.launched(playwright, devices, [trusted], program=program)
            )
            context = await chromium.context_of(browser, base_url=reachable.url)
            visitor = Visitor(person, await context.new_page())
            await visitor.sign_in()
            return visitor

        detailed = media.make_detailed_devices(RED, tmp_path, width=FULL[0], height=FULL[1])
        yield [
            await sit_down(RED, detailed, None),
            await sit_down(GREEN, media.make_devices(GREEN, tmp_path), None),
            await sit_down(BLUE, media.make_devices(BLUE, tmp_path), behind),
        ]


async def _meet(people: list[Visitor]) -> tuple[Receiver, Receiver]:
    """The publisher hosts; the two others come without camera and microphone. Gives the ordinary and the slow one."""
    publisher, *receivers = people
    meeting_id = await publisher.create_meeting(recording=False)
    await publisher.join(consent=None)
    for receiver in receivers:
        await receiver.open_meeting(meeting_id)
        for kind in ("camera", "microphone"):
            button = receiver.page.get_by_test_id(f"preview-{kind}")
            await expect(button).to_have_attribute("aria-label", f"Turn {kind} off")  # it is on by now
            await button.click()
            await expect(button).to_have_attribute("aria-label", f"Turn {kind} on")
        await receiver.join(consent=None)
    ordinary, slow = (Receiver(receiver, publisher) for receiver in receivers)
    return ordinary, slow


async def test_a_slow_link_costs_the_picture_of_the_one_behind_it_and_gives_it_back(
    people: list[Visitor], link: Pair
) -> None:
    ordinary, slow = await _meet(people)
    tile = slow.visitor.tile(slow.publisher)
    took: dict[str, float] = {}

    async def until(what: str, holds: Callable[[], Awaitable[bool]], within_s: float) -> None:
        """Waits for what the slow one is to get; the other one must not notice."""
        began = time.monotonic()
        await ordinary.begin()

        async def both() -> bool:
            await ordinary.look()
            return await holds()

        await wait_for(both, lambda: f"{what}; {took}, last: {slow.last}, ordinary: {ordinary.last}", within_s)
        took[what] = round(time.monotonic() - began, 1)
        await slow.hears_on()
        await ordinary.was_not_affected()

    for receiver in (ordinary, slow):
        await wait_for(receiver.shows_all, f"{receiver.visitor.person.login} gets the full picture", BACK_WITHIN_S)
    link.throttle(LESS_KBIT)
    await until("lower layer", slow.shows_less, SLOWER_WITHIN_S)
    link.throttle(SOUND_ONLY_KBIT)
    await until("sound only", slow.is_told, SLOWER_WITHIN_S)
    await expect(tile.get_by_text(NOTICE, exact=True)).to_be_visible()
    await expect(tile.locator("video")).to_be_hidden()
    await screenshot(slow.visitor.page, SCREENSHOTS, "call-sound-only")
    link.release()
    await until("picture again", slow.shows_any, BACK_WITHIN_S)
    await until("full picture again", slow.shows_all, BACK_WITHIN_S)
    await expect(tile.get_by_text(NOTICE, exact=True)).to_be_hidden()
    logging.getLogger(__name__).info("seconds until %s", took)
