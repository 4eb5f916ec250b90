"""A person in a browser of their own, for benches that measure inside the page."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from playwright.async_api import async_playwright

from tests.support import browser
from tests.support.media import Devices, Person
from tests.support.system import System
from tests.support.visitor import Visitor


async def sit_down(
    stack: AsyncExitStack,
    system: System,
    person: Person,
    devices: Devices,
    probe: Path | None = None,
    script: str = "",
    *,
    flags: Sequence[str] = (),
    program: Path | None = None,
) -> Visitor:
    """Signed in; `probe` and `script` run in each page before the page's own. `flags` are Chromium's, and `program` is
    what starts it where that is not itself."""
    playwright = await stack.enter_async_context(async_playwright())
    chromium = await stack.enter_async_context(browser.launched(playwright, devices, flags, program=program))
    context = await browser.context_of(chromium, base_url=system.url, runs_anything=True)
    visitor = Visitor(person, await context.new_page())
    if probe:
        await visitor.page.add_init_script(path=probe)
    if script:
        await visitor.page.add_init_script(script)
    await visitor.sign_in()
    return visitor
