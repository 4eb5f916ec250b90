"""A meeting at Azure Communication Services, at the page: a sentence, and what another app asks for."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Playwright, expect

from local.acs.server import AcsServer
from tests.e2e.conftest import SCREENSHOTS
from tests.support import browser as chromium
from tests.support.browser import screenshot
from tests.support.caller import call_as
from tests.support.media import GREEN, RED, make_devices
from tests.support.providers import ACS_KEY, served
from tests.support.system import System, running
from tests.support.visitor import Visitor

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest_asyncio.fixture
async def acs() -> AsyncIterator[tuple[AcsServer, str]]:
    server = AcsServer(ACS_KEY, time.time)
    async with served(server.application()) as origin:
        yield server, origin


@pytest_asyncio.fixture
async def system_with_acs(acs: tuple[AcsServer, str], tmp_path: Path) -> AsyncIterator[System]:
    given = {"PARLEY_ACS_ENDPOINT": acs[1], "PARLEY_ACS_ACCESS_KEY": ACS_KEY, "PARLEY_MEDIA_PROVIDER": "acs"}
    with running(tmp_path / "data", given) as started:
        yield started


async def test_the_page_gives_the_way_in_and_the_token_opens_the_room(
    acs: tuple[AcsServer, str], system_with_acs: System, playwright: Playwright, tmp_path: Path
) -> None:
    server, origin = acs
    async with aiohttp.ClientSession() as http:
        alex = await call_as(http, system_with_acs.url, RED)
        meeting_id = await alex.make_meeting({})
    (room_id,) = server.resource.rooms
    async with chromium.launched(playwright, make_devices(GREEN, tmp_path)) as browser:
        context = await chromium.context_of(browser, base_url=system_with_acs.url)
        await context.grant_permissions(["clipboard-read", "clipboard-write"], origin=system_with_acs.url)
        blair = Visitor(GREEN, await context.new_page())
        await blair.sign_in()
        await blair.open_meeting(meeting_id)
        await blair.page.get_by_test_id("join-button").click()
        details = blair.page.get_by_test_id("provider-details")
        await expect(details).to_contain_text(room_id, timeout=20_000)
        await expect(details).to_contain_text(origin)
        await expect(details).to_contain_text("Attendee")
        await screenshot(blair.page, SCREENSHOTS, "provider-screen")
        first = await _copied(blair)
        assert server.resource.may_enter(room_id, first, datetime.now(UTC)) == "Attendee"
        await blair.page.get_by_test_id("renew-token").click()
        await expect(blair.page.locator("[data-code=renewed]")).to_be_visible()
        assert await _copied(blair) != first
        assert first not in await blair.page.content()


async def _copied(visitor: Visitor) -> str:
    await visitor.page.get_by_test_id("copy-token").click()
    await expect(visitor.page.locator("[data-code=copied]")).to_be_visible()
    text: str = await visitor.page.evaluate("navigator.clipboard.readText()")
    return text
