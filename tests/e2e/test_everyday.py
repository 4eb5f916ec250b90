"""What people do every day beside the meeting itself: haste, menus, mistakes, a moment without network."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import Arrive
from tests.support.browser import PHONE, watch_errors
from tests.support.media import GREEN, RED
from tests.support.visitor import Visitor

pytestmark = pytest.mark.e2e


async def _pair(arrive: Arrive) -> tuple[Visitor, Visitor]:
    alex, blair = await asyncio.gather(arrive(RED), arrive(GREEN, viewport=PHONE))
    meeting_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    await blair.open_meeting(meeting_id)
    await blair.join(consent=None)
    return alex, blair


async def test_a_meeting_is_not_planned_for_the_past_and_its_options_are_used_once(arrive: Arrive) -> None:
    page = (await arrive(RED)).page
    await page.get_by_test_id("new-meeting").click()
    time = page.get_by_test_id("option-time")
    await time.fill("2020-01-01T10:00")
    await page.get_by_test_id("create-meeting").click()
    await expect(page.get_by_text("This time is over")).to_be_visible()
    await expect(time).to_be_focused()
    await time.fill("2099-01-01T10:00")
    await expect(page.get_by_text("This time is over")).to_be_hidden()
    await page.get_by_test_id("create-meeting").click()
    await expect(page.get_by_test_id("scheduled")).to_contain_text("2099")
    await expect(time).to_have_value("")


async def test_pressing_the_camera_key_in_haste_ends_as_the_last_press_said(arrive: Arrive) -> None:
    alex, blair = await _pair(arrive)
    await alex.sees(blair)
    for presses, is_off in ((5, True), (3, False)):
        for _ in range(presses):
            await blair.page.keyboard.press("v")
        await expect(blair.control("camera")).to_have_attribute("aria-pressed", str(is_off).lower())
        await expect(alex.tile(blair)).to_have_attribute("data-video", "off" if is_off else "on")
    await alex.sees(blair)


async def test_a_camera_that_opens_after_the_call_was_left_is_let_go(arrive: Arrive) -> None:
    alex = await arrive(RED)
    await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    page = alex.page
    await alex.control("camera").click()
    await page.evaluate("""() => {
        const media = navigator.mediaDevices, open = media.getUserMedia.bind(media);
        media.getUserMedia = async (wanted) => {
            globalThis.asked = true;
            await new Promise((answer) => { globalThis.answer = answer; });
            return (globalThis.opened = await open(wanted));
        };
    }""")
    await alex.control("camera").click()
    await page.wait_for_function("() => globalThis.asked")
    await alex.control("leave").click()
    await page.evaluate("() => globalThis.answer()")
    await page.wait_for_function("() => globalThis.opened?.getTracks().every(({readyState}) => readyState === 'ended')")


async def test_a_lost_socket_is_no_business_of_people(arrive: Arrive) -> None:
    alex, blair = await _pair(arrive)
    await alex.sees(blair)
    errors = watch_errors(blair.page)
    await blair.page.evaluate("parley.simulate('signal-drop')")
    await blair.page.keyboard.press("m")
    await expect(alex.tile(blair)).to_have_attribute("data-muted", "true")
    await blair.in_call()
    await expect(blair.page.get_by_test_id("notice")).to_have_count(0)
    await alex.sees(blair)
    assert not errors


async def test_the_menu_of_a_phone_closes_by_escape_and_beside_it(arrive: Arrive) -> None:
    _, blair = await _pair(arrive)
    more, entry = blair.control("more"), blair.control("devices")
    await more.click()
    await expect(entry).to_be_visible()
    await blair.page.keyboard.press("Escape")
    await expect(entry).to_be_hidden()
    await expect(more).to_be_focused()
    await more.click()
    await blair.page.get_by_test_id("call-stage").click(position={"x": 20, "y": 20})
    await expect(entry).to_be_hidden()


async def test_who_removes_somebody_by_keyboard_goes_on_in_the_panel(arrive: Arrive) -> None:
    alex, blair = await _pair(arrive)
    await blair.control("chat").click()
    await blair.page.get_by_test_id("chat-input").fill("Hello")
    await blair.page.keyboard.press("Enter")
    said = alex.page.locator('[data-testid=notice][data-code="chat"]')
    await expect(said).to_have_text("Blair Example: Hello")
    await alex.page.keyboard.press("t")
    await expect(said).to_have_count(0)  # it is read in the panel now
    await alex.page.keyboard.press("Escape")
    await alex.page.keyboard.press("p")
    await alex.page.get_by_test_id("person-remove").and_(alex.page.locator(":visible")).press("Enter")
    await alex.page.get_by_test_id("confirm").press("Enter")
    await expect(alex.tile(blair)).to_have_count(0)
    await expect(alex.page.get_by_role("heading", name="People")).to_be_focused()
