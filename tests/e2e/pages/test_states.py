"""Every screen and state looks right and reads right: pictures for people, axe for the rest.

The states are drawn by tests/e2e/gallery with stand-ins for server and devices. Pictures go to build/screenshots/pages.
"""

import pytest
from playwright.async_api import Page, expect

from tests.e2e.conftest import SCREENSHOTS
from tests.e2e.pages.conftest import ROOT, Open
from tests.support.browser import DESKTOP, PHONE, screenshot

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
HOME = ["signed-out", "home", "home-options", "home-empty", "home-loading", "home-down"]
PREJOIN = [
    "prejoin", "prejoin-consent", "prejoin-no-choice", "prejoin-denied", "prejoin-no-device", "prejoin-busy",
    "prejoin-password", "prejoin-early", "prejoin-full", "prejoin-ended", "prejoin-provider-away",
    "elsewhere-acs", "elsewhere-livekit",
]  # fmt: skip
CALL = [
    "call&people=1", "call&people=2", "call&people=5", "call&people=20", "call&people=100", "call-attendee",
    "call-viewer", "call-speaker", "call-share", "call-chat", "call-unread", "call-people", "call-reconnecting",
    "call-muted", "call-consent", "call-end", "call-quality", "call-audio-only", "call-audio-only&people=2",
    "call-audio-only&people=20", "call-audio-only-share", "call-video-paused", "call-video-paused&people=2",
]  # fmt: skip
ENDED = ["ended-left", "ended-removed", "ended-host", "ended-elsewhere"]
# The screens that people see most are drawn in all four looks, the rest in two.
ALL_LOOKS = {"home", "prejoin-consent", "call&people=5", "call-chat", "call-people", "call-consent"}
LOOKS = [(DESKTOP, "light"), (PHONE, "dark"), (DESKTOP, "dark"), (PHONE, "light")]

VIOLATIONS = """axe.run(document, {resultTypes: ['violations']}).then(({violations}) => violations.map(
  ({id, nodes}) => `${id}: ${nodes.map(({target}) => target.join(' ')).join(', ')}`))"""
# A label around a checkbox or a radio is what people click.
TOO_SMALL = """[...document.querySelectorAll('button, select, textarea, summary, input')].map((element) =>
  element.matches('[type=checkbox], [type=radio]') ? element.closest('label') : element)
  .filter((element) => element.checkVisibility({visibilityProperty: true}))
  .map((element) => [element, element.getBoundingClientRect()])
  .filter(([, {width, height}]) => width < 39.9 || height < 39.9)
  .map(([element, {width, height}]) => `${element.outerHTML.slice(0, 80)} ${width}x${height}`)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


async def _violations(page: Page) -> list[str]:
    # Evaluated, not added as a script element: the page's policy allows none but its own.
    await page.evaluate(AXE.read_text(encoding="utf-8") + "; null")
    found: list[str] = await page.evaluate(VIOLATIONS)
    return found


@pytest.mark.parametrize("state", [*HOME, *PREJOIN, *CALL, *ENDED])
async def test_a_state_looks_right_everywhere_and_axe_finds_nothing(state: str, open_state: Open) -> None:
    for viewport, scheme in LOOKS if state in ALL_LOOKS else LOOKS[:2]:
        page = await open_state(state, viewport, scheme)
        size = "phone" if viewport == PHONE else "desktop"
        name = f"{state.replace('&people=', '-')}-{size}-{scheme}"
        await screenshot(page, SCREENSHOTS / "pages", name)
        assert await _violations(page) == [], name
        assert await page.evaluate(TOO_SMALL) == [], name
        assert await page.evaluate(OVERFLOW) <= 0, name
        await page.context.close()


async def test_tiles_do_not_lie_on_each_other_with_many_people(open_state: Open) -> None:
    for viewport in (DESKTOP, PHONE, (740, 360)):
        page = await open_state("call&people=20", viewport)
        boxes = [
            await tile.bounding_box() for tile in await page.get_by_test_id("tile").all() if await tile.is_visible()
        ]
        seen = [box for box in boxes if box]
        assert len(seen) >= 2
        for index, a in enumerate(seen):
            for b in seen[index + 1 :]:
                beside = a["x"] + a["width"] <= b["x"] + 0.5 or b["x"] + b["width"] <= a["x"] + 0.5
                above = a["y"] + a["height"] <= b["y"] + 0.5 or b["y"] + b["height"] <= a["y"] + 0.5
                assert beside or above


async def test_keys_do_what_the_tooltips_say_but_not_while_somebody_types(open_state: Open) -> None:
    page = await open_state("call&people=5")
    await page.keyboard.press("t")
    chat = page.get_by_test_id("chat-input")
    await chat.wait_for(state="visible")
    await page.keyboard.type("phv")
    assert await chat.input_value() == "phv"
    await page.keyboard.press("Escape")
    await chat.wait_for(state="hidden")
    await page.keyboard.press("p")
    await page.get_by_test_id("people-panel").wait_for(state="visible")
    await page.keyboard.press("h")
    await expect(page.get_by_test_id("control-hand")).to_have_attribute("aria-pressed", "true")
    await page.keyboard.press("v")
    await page.locator('[data-testid=tile][data-self=true][data-video="off"]').wait_for()


async def test_an_option_that_is_behind_more_on_a_phone_is_reached_with_two_taps(open_state: Open) -> None:
    page = await open_state("call&people=5", PHONE)
    assert not await page.get_by_test_id("end-for-all").is_visible()
    await page.get_by_test_id("control-more").click()
    await page.get_by_test_id("end-for-all").click()
    await page.get_by_test_id("confirm-cancel").click()
    assert await page.get_by_test_id("call-stage").is_visible()


async def test_a_panel_gives_the_focus_back(open_state: Open) -> None:
    page = await open_state("call&people=5")
    await page.get_by_test_id("control-chat").click()
    await page.get_by_label("Close chat").last.click()
    focused = await page.evaluate("document.activeElement.dataset.testid")
    assert focused == "control-chat"
