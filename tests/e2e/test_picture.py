"""The picture of the README: four drawn people in a real meeting, saved as build/screenshots/meeting.png."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from playwright.async_api import Playwright, expect

from tests.e2e.conftest import SCREENSHOTS
from tests.support import browser as chromium
from tests.support.browser import screenshot
from tests.support.media import BLUE, GREEN, RED, Person
from tests.support.portraits import LOOKS, make_portrait
from tests.support.system import System
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DEVON = Person("devon@example.org", "gray", 0, 550)
SHARP = 480  # pixels of width from which the pictures look good


async def test_four_people_meet_for_the_picture(system: System, playwright: Playwright, tmp_path: Path) -> None:
    people = (RED, GREEN, BLUE, DEVON)
    async with AsyncExitStack() as stack:
        studio = await stack.enter_async_context(chromium.launched(playwright, None))
        cameras = [await make_portrait(studio, *pair, tmp_path) for pair in zip(people, LOOKS, strict=True)]
        visitors = []
        for person, camera in zip(people, cameras, strict=True):
            opened = await stack.enter_async_context(chromium.launched(playwright, camera))
            context = await chromium.context_of(opened, viewport=(1280, 720), base_url=system.url)
            visitors.append(Visitor(person, await context.new_page()))
            await visitors[-1].sign_in()
        host, *guests = visitors
        meeting_id = await host.create_meeting()
        await host.join()
        for guest in guests:
            await guest.open_meeting(meeting_id)
            await guest.join()
        await _chat(*visitors)
        await _sharp(host, guests)
        await host.page.mouse.move(2, 2)  # no tooltip in the picture
        await expect(host.tile(guests[1])).to_have_attribute("data-speaking", "false")
        await screenshot(host.page, SCREENSHOTS, "meeting")


async def _chat(host: Visitor, *guests: Visitor) -> None:
    await host.control("chat").click()
    lines = ("Hello! Can everybody see the plan?", "Yes, it looks good to me.", "One question on page two.")
    for guest, line in zip((guests[0], guests[1], guests[2]), lines, strict=True):
        await guest.control("chat").click()
        await guest.page.get_by_test_id("chat-input").fill(line)
        await guest.page.keyboard.press("Enter")
        await expect(host.page.get_by_test_id("chat-message").last).to_contain_text(line)
    await guests[2].control("hand").click()
    for listener in guests[1:]:
        await listener.control("microphone").click()
        await expect(host.tile(listener)).to_have_attribute("data-muted", "true")


async def _sharp(host: Visitor, guests: list[Visitor]) -> None:
    async def wide() -> bool:
        widths = [await host.tile(guest).locator("video").evaluate("video => video.videoWidth") for guest in guests]
        return bool(min(widths) >= SHARP)

    await wait_for(wide, "the pictures are sharp", 90)
