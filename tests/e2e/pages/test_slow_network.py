"""A slow network, as a person sees it: real peer connections against the loopback, and statistics that a test bends."""

import re
from typing import Any

import pytest
from playwright.async_api import Locator, Page, expect

from tests.e2e.pages.conftest import Open
from tests.support.browser import PHONE
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

# The round trip of the pair in use becomes `bent.roundTripS`; all else is what the browser measured.
BEND_STATISTICS = """() => {
  const measured = RTCPeerConnection.prototype.getStats;
  globalThis.bent = { roundTripS: 0.05 };
  RTCPeerConnection.prototype.getStats = async function (...all) {
    const report = new Map(await measured.apply(this, all));
    for (const [id, entry] of report)
      if (entry.type === 'candidate-pair') report.set(id, { ...entry, currentRoundTripTime: bent.roundTripS });
    return report;
  };
}"""
# Seconds on a link, without the wait.
PASS = """([seconds, roundTripS]) => {
  const start = globalThis.passed ?? performance.now() + 60_000;
  for (let second = 0; second <= seconds; second += 1)
    parley.call.congestion.take({ now: start + second * 1000, loss: 0, roundTripS });
  globalThis.passed = start + (seconds + 1) * 1000;
}"""
LAYERS = """() => parley.call.transports.publisher.connection.getSenders().find(({track}) => track?.kind === 'video')
  .getParameters().encodings.map(({active}) => Number(active)).join('')"""
SENT = "(type) => loopback.sfu.messages.filter((message) => message.type === type).map(({payload}) => payload)"
DECODED = """() => parley.stats().then((all) => all.filter(({source}) => source === 'camera')
  .reduce((sum, {framesDecoded}) => sum + framesDecoded, 0))"""


async def _in_call(open_state: Open, viewport: tuple[int, int] = (1280, 800)) -> Page:
    page = await open_state("loopback", viewport)
    await page.get_by_test_id("call-stage").wait_for()
    await _picture_moves(page)
    return page


async def _picture_moves(page: Page) -> None:
    before = await page.evaluate(DECODED)

    async def more() -> bool:
        return bool(await page.evaluate(DECODED) > before + 3)

    await eventually(more, within_s=20)


async def _received(page: Page) -> dict[str, Any]:
    """What was asked for last of the other's camera."""
    sizes = await page.evaluate(SENT, "SetReceive")
    found: dict[str, Any] = sizes[-1]["tracks"][0] if sizes else {}
    return found


async def _layers_become(page: Page, expected: str) -> None:
    async def same() -> bool:
        return bool(await page.evaluate(LAYERS) == expected)

    await eventually(same)


async def _passes(page: Page, seconds: int, round_trip_s: float) -> None:
    """The link stays so for a while; the page's own measurements are kept away."""
    await page.evaluate("parley.call.congestion.measure = async () => {}")
    await page.evaluate(PASS, [seconds, round_trip_s])


def _tile(page: Page, *, own: bool) -> Locator:
    return page.locator(f'[data-testid=tile][data-self="{str(own).lower()}"]')


async def test_what_the_browser_measures_lowers_what_is_asked_for(open_state: Open) -> None:
    page = await _in_call(open_state)
    width = (await _received(page))["width"]
    await page.evaluate(BEND_STATISTICS)
    await page.evaluate("bent.roundTripS = 0.9")

    async def halved() -> bool:
        return bool((await _received(page))["width"] == round(width / 2))

    await eventually(halved, within_s=15)
    assert await page.evaluate("parley.call.congestion.step") == "half-size"


async def test_the_own_video_goes_layer_by_layer_and_comes_back_by_itself(open_state: Open) -> None:
    page = await _in_call(open_state)
    camera = page.get_by_test_id("control-camera")
    await _layers_become(page, "111")
    await _passes(page, 15, 0.6)
    await _layers_become(page, "110")
    await _passes(page, 5, 0.6)
    await _layers_become(page, "100")
    await expect(page.locator('[data-testid=notice][data-code="video-paused"]')).to_have_count(0)
    await _passes(page, 5, 0.6)
    await _layers_become(page, "000")
    await expect(page.locator('[data-testid=notice][data-code="video-paused"]')).to_be_visible()
    await expect(camera).to_have_attribute("aria-pressed", "true")
    await expect(camera).to_have_accessible_name("Video paused")
    await expect(_tile(page, own=True)).to_have_attribute("data-paused", "bandwidth")
    assert (await page.evaluate(SENT, "UpdateState"))[-1]["isVideoOn"] is False
    assert await page.evaluate("parley.call.transports.publisher.connection.getSenders()[1].track.readyState") == "live"
    await _passes(page, 12, 0.05)
    await _layers_become(page, "100")
    await expect(page.locator('[data-testid=notice][data-code="video-back"]')).to_be_visible()
    await expect(page.locator('[data-testid=notice][data-code="video-paused"]')).to_have_count(0)
    await expect(camera).to_have_attribute("aria-pressed", "false")
    await expect(_tile(page, own=True)).to_have_attribute("data-video", "on")
    await _passes(page, 45, 0.05)
    await _layers_become(page, "111")
    await _picture_moves(page)


async def test_a_press_of_the_camera_counts_for_more_than_the_network(open_state: Open) -> None:
    page = await _in_call(open_state)
    camera = page.get_by_test_id("control-camera")
    await _passes(page, 30, 0.6)
    await expect(camera).to_have_attribute("aria-pressed", "true")
    await camera.click()
    await _layers_become(page, "100")
    await expect(camera).to_have_attribute("aria-pressed", "false")
    await expect(page.locator('[data-testid=notice][data-code="video-back"]')).to_have_count(0)
    await _passes(page, 30, 0.6)
    await _layers_become(page, "100")
    assert (await page.evaluate(SENT, "UpdateState"))[-1]["isVideoOn"] is True


async def test_a_camera_that_was_switched_off_stays_off_when_the_network_is_back(open_state: Open) -> None:
    page = await _in_call(open_state)
    camera = page.get_by_test_id("control-camera")
    await _passes(page, 30, 0.6)
    await camera.click()
    await camera.click()
    await expect(camera).to_have_accessible_name("Camera off")
    await _passes(page, 120, 0.05)
    await expect(camera).to_have_accessible_name("Camera off")
    assert (await page.evaluate(SENT, "UpdateState"))[-1]["isVideoOn"] is False


async def test_audio_only_is_said_on_the_tile_and_once_aloud_and_the_picture_comes_back(open_state: Open) -> None:
    page = await _in_call(open_state)
    tile = _tile(page, own=False)
    track = await tile.get_attribute("data-track-id")
    push = "([trackId, paused]) => loopback.sfu.socket.push('ReceiveChanged', {tracks: [{trackId, paused}]}, true)"
    await page.evaluate(push, [track, "bandwidth"])
    await expect(tile).to_have_attribute("data-video", "off")
    await expect(tile.get_by_text("Audio only: the network is too slow for video.")).to_be_visible()
    await expect(tile).to_have_accessible_name(re.compile("audio only: the network is too slow"))
    announcement = page.get_by_test_id("announcement")
    await expect(announcement).to_have_text("Audio only: the network is too slow for video.")
    await expect(page.get_by_test_id("notice")).to_have_count(0)
    await page.evaluate(push, [track, "none"])
    await expect(tile).to_have_attribute("data-video", "on")
    await expect(tile.get_by_text("Audio only")).to_have_count(0)
    await expect(announcement).to_have_text("The network is better. Video is back.")
    await expect(tile.locator("video")).to_be_visible()
    await _picture_moves(page)


async def test_a_video_that_the_browser_cannot_decode_says_so(open_state: Open) -> None:
    page = await open_state("call&people=5")
    push = "(payload) => parley.call.signaling.emit('message', {type: 'ReceiveChanged', payload})"
    await page.evaluate(push, {"tracks": [{"trackId": "camera-user-2", "paused": "unsupported"}]})
    tile = page.locator('[data-testid=tile][data-user-id="user-2"]')
    await expect(tile).to_have_attribute("data-paused", "unsupported")
    await expect(tile.get_by_text("Audio only: this browser cannot show the video.")).to_be_visible()
    await page.evaluate(push, {"tracks": [{"trackId": "camera-user-2", "paused": "none"}]})
    await expect(tile).to_have_attribute("data-video", "on")


async def test_no_picture_is_asked_for_that_lies_under_a_panel(open_state: Open) -> None:
    page = await _in_call(open_state, PHONE)

    async def visible_is(expected: bool) -> None:
        async def same() -> bool:
            return (await _received(page)).get("visible") is expected

        await eventually(same)

    await visible_is(True)
    await page.get_by_test_id("control-chat").click()
    await visible_is(False)
    await page.keyboard.press("Escape")
    await visible_is(True)


async def test_no_picture_is_asked_for_that_is_outside_the_window(open_state: Open) -> None:
    page = await _in_call(open_state)
    body = "document.querySelector('.call').style.setProperty('transform', '{}')"

    async def visible_is(expected: bool) -> None:
        async def same() -> bool:
            return (await _received(page)).get("visible") is expected

        await eventually(same)

    await visible_is(True)
    await page.evaluate(body.format("translateY(3000px)"))
    await visible_is(False)
    await page.evaluate(body.format("none"))
    await visible_is(True)


@pytest.mark.parametrize(
    ("quality", "words"),
    [("lost", "Connection lost"), ("poor", "Poor connection"), ("good", "Fair connection"), ("excellent", None)],
)
async def test_the_connection_of_a_person_is_marked_in_words_too(
    quality: str, words: str | None, open_state: Open
) -> None:
    page = await open_state("call&people=5")
    push = "(payload) => parley.call.signaling.emit('message', {type: 'QualityChanged', payload})"
    await page.evaluate(push, {"userId": "user-4", "quality": quality})
    tile = page.locator('[data-testid=tile][data-user-id="user-4"]')
    mark = tile.locator(".quality")
    if words is None:
        await expect(mark).to_be_hidden()
        return
    await expect(mark).to_be_visible()
    await expect(mark).to_have_accessible_name(words)
    await expect(tile).to_have_accessible_name(re.compile(words.lower()))
