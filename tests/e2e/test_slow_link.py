"""One of three people on a link that loses packets: what they give up, what the others see, and how it comes back."""

import asyncio
from typing import Any

import pytest
from playwright.async_api import CDPSession, expect

from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support.browser import screenshot
from tests.support.media import BLUE, GREEN, RED
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STEP = "parley.call.congestion.step"


async def _link(cdp: CDPSession, *, loss: float) -> None:
    """The browser's own emulation; it holds for peer connections that begin after it was first switched on."""
    conditions: dict[str, Any] = {
        "offline": False,
        "latency": 1,
        "downloadThroughput": 100_000_000,
        "uploadThroughput": 100_000_000,
        "packetLoss": loss,
    }
    await cdp.send("Network.emulateNetworkConditions", conditions)


async def _step_is(visitor: Visitor, expected: str, *, within_s: float) -> None:
    async def same() -> bool:
        return bool(await visitor.evaluate(STEP) == expected)

    await wait_for(same, f"the step {expected}", within_s)


async def test_who_loses_packets_is_heard_without_video_and_the_others_notice_nothing_else(arrive: Arrive) -> None:
    alex, blair, casey = await asyncio.gather(*(arrive(person) for person in (RED, GREEN, BLUE)))
    cdp = await blair.page.context.new_cdp_session(blair.page)
    await cdp.send("Network.enable")
    await _link(cdp, loss=0)
    meeting_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    for guest in (blair, casey):
        await guest.open_meeting(meeting_id)
        await guest.join(consent=None)
    await asyncio.gather(alex.sees(blair), blair.sees(alex), casey.sees(blair))

    await _link(cdp, loss=15)
    await _step_is(blair, "no-video", within_s=60)
    await expect(blair.page.locator('[data-testid=notice][data-code="video-paused"]')).to_be_visible()
    await expect(blair.control("camera")).to_have_accessible_name("Video paused")
    await expect(alex.tile(blair)).to_have_attribute("data-video", "off")
    await alex.hears(blair)
    await screenshot(blair.page, SCREENSHOTS, "slow-link")
    assert [await other.evaluate(STEP) for other in (alex, casey)] == ["full", "full"]
    await asyncio.gather(alex.sees(casey), casey.sees(alex))

    await _link(cdp, loss=0)
    await expect(blair.page.locator('[data-testid=notice][data-code="video-back"]')).to_be_visible(timeout=40_000)
    await alex.sees(blair, frames_per_second=5)
