"""The started system, and people with a Chromium each."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Playwright, async_playwright

from tests.support import browser as chromium
from tests.support import media
from tests.support.media import Person
from tests.support.system import System, running
from tests.support.visitor import Visitor

SCREENSHOTS = Path("build/screenshots")

Arrive = Callable[..., Awaitable[Visitor]]


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    if reason := chromium.missing() or media.missing_tool():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One system for all tests of the run; each test makes meetings of its own."""
    with running(tmp_path_factory.mktemp("data"), {"PARLEY_DEBUG_HOOKS": "1"}) as started:
        yield started


@pytest_asyncio.fixture
async def playwright() -> AsyncIterator[Playwright]:
    async with async_playwright() as started:
        yield started


@pytest_asyncio.fixture
async def arrive(
    system: System, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Arrive]:
    """Makes a person sit down at a browser of their own, signed in."""
    files = tmp_path_factory.getbasetemp() / "devices"
    files.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:

        async def sit_down(
            person: Person, *, viewport: tuple[int, int] = chromium.DESKTOP, scheme: str = "dark", sign_in: bool = True
        ) -> Visitor:
            devices = media.make_devices(person, files)
            browser = await stack.enter_async_context(chromium.launched(playwright, devices))
            context = await chromium.context_of(browser, viewport=viewport, scheme=scheme, base_url=system.url)
            visitor = Visitor(person, await context.new_page())
            if sign_in:
                await visitor.sign_in()
            return visitor

        yield sit_down
