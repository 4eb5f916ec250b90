"""Three people through the whole of Flow 1: create, consent, join, see and hear each other, and all that a call has."""

import asyncio

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support.browser import screenshot, watch_errors
from tests.support.media import BLUE, GREEN, RED
from tests.support.visitor import Visitor, wait_for

pytestmark = pytest.mark.e2e


async def _meet(arrive: Arrive, *others: object, recording: bool = True) -> list[Visitor]:
    """Alex hosts, the others join; everybody is in the call."""
    people = await asyncio.gather(*(arrive(person) for person in (RED, *others)))
    host = people[0]
    meeting_id = await host.create_meeting(recording=recording)
    await host.join(consent=True if recording else None)
    for guest in people[1:]:
        await guest.open_meeting(meeting_id)
        await guest.join(consent=True if recording else None)
    return people


async def test_three_people_see_and_hear_each_other(arrive: Arrive) -> None:
    people = await _meet(arrive, GREEN, BLUE)
    errors = [error for person in people for error in watch_errors(person.page)]
    for one in people:
        for other in people:
            if one is not other:
                await one.sees(other)
                await one.hears(other)
    await screenshot(people[0].page, SCREENSHOTS, "call-three-people")
    assert not errors


async def test_what_a_person_does_in_a_call_is_seen_by_the_others(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    await alex.hears(blair)
    # Mute and unmute.
    await blair.control("microphone").click()
    await expect(alex.tile(blair)).to_have_attribute("data-muted", "true")
    await alex.hears_nothing_of(blair)
    await blair.control("microphone").click()
    await expect(alex.tile(blair)).to_have_attribute("data-muted", "false")
    await alex.hears(blair)
    # Camera off shows initials, and on again the picture.
    await blair.control("camera").click()
    await expect(alex.tile(blair).locator("video")).to_be_hidden()
    await blair.control("camera").click()
    await alex.sees(blair)
    # Raised hand.
    await blair.control("hand").click()
    await alex.control("people").click()
    await expect(alex.page.get_by_test_id("person").filter(has_text="Blair")).to_contain_text("hand", ignore_case=True)
    # Chat.
    await blair.control("chat").click()
    await blair.page.get_by_test_id("chat-input").fill("שלום and <b>hello</b>")
    await blair.page.keyboard.press("Enter")
    await alex.control("chat").click()
    await expect(alex.page.get_by_test_id("chat-message").last).to_contain_text("שלום and <b>hello</b>")
    await screenshot(alex.page, SCREENSHOTS, "call-chat")


async def test_a_shared_screen_takes_the_stage_and_leaves_it(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    await blair.control("share").click()
    share = alex.page.locator('[data-testid=tile][data-source="screen"]')
    await expect(share).to_be_visible(timeout=15_000)

    async def frames() -> bool:
        return bool(
            await share.locator("video").evaluate(
                "v => v.videoWidth > 0 && v.getVideoPlaybackQuality().totalVideoFrames > 0"
            )
        )

    await wait_for(frames, "the shared screen is shown")
    await screenshot(alex.page, SCREENSHOTS, "call-share")
    await blair.control("share").click()
    await expect(share).to_have_count(0)


async def test_the_host_moderates(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    await alex.control("people").click()
    person = alex.page.locator(f'[data-testid=person][data-user-id="{blair.user_id}"]')
    await person.get_by_test_id("person-mute").click()
    await expect(alex.tile(blair)).to_have_attribute("data-muted", "true")
    await expect(blair.control("microphone")).to_have_attribute("aria-pressed", "true")
    await screenshot(alex.page, SCREENSHOTS, "call-people")
    await person.get_by_test_id("person-remove").click()
    await alex.page.get_by_test_id("confirm").click()
    await expect(blair.page.get_by_test_id("notice")).to_have_attribute("data-code", "removed")
    await screenshot(blair.page, SCREENSHOTS, "removed")
    await expect(alex.tile(blair)).to_have_count(0)


async def test_a_second_tab_takes_over_and_the_first_says_so(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    url = blair.page.url
    second = Visitor(blair.person, await blair.page.context.new_page())
    await second.sign_in()
    await second.page.goto(url)
    await second.join(consent=True)
    await expect(blair.page.get_by_test_id("notice")).to_have_attribute("data-code", "duplicate")
    await alex.sees(second)
    await second.sees(alex)


async def test_the_host_ends_the_meeting_for_all(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    await alex.page.get_by_test_id("end-for-all").click()
    await alex.page.get_by_test_id("confirm").click()
    await expect(blair.page.get_by_test_id("notice")).to_have_attribute("data-code", "room-ended")
    await screenshot(blair.page, SCREENSHOTS, "ended")


async def test_a_cut_signaling_socket_is_resumed_and_the_call_goes_on(arrive: Arrive) -> None:
    alex, blair = await _meet(arrive, GREEN)
    await alex.sees(blair)
    before = await alex.evaluate("globalThis.parley.call.transports.subscriber.transportId")
    await blair.evaluate("globalThis.parley.simulate('signal-drop')")
    await blair.control("chat").click()
    await blair.page.get_by_test_id("chat-input").fill("still here")
    await blair.page.keyboard.press("Enter")
    await alex.control("chat").click()
    await expect(alex.page.get_by_test_id("chat-message").last).to_contain_text("still here")
    assert await alex.evaluate("globalThis.parley.call.transports.subscriber.transportId") == before
    await alex.sees(blair)


async def test_declining_the_recording_still_joins(arrive: Arrive) -> None:
    alex, blair = await asyncio.gather(arrive(RED), arrive(GREEN))
    meeting_id = await alex.create_meeting(recording=True)
    await alex.join(consent=True)
    await blair.open_meeting(meeting_id)
    await blair.join(consent=False)
    await alex.sees(blair)
