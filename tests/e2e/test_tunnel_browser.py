"""A browser whose call goes over the HTTP tunnel and one by WebRTC: by each wire they see and hear each other."""

import asyncio
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Locator, Playwright, expect

from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support import browser as chromium
from tests.support.browser import screenshot
from tests.support.media import GREEN, RED, make_devices
from tests.support.system import System
from tests.support.visitor import Visitor, meet, see_and_hear_each_other, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# Nothing of a tunnelled page's media may go by WebRTC.
NO_WEBRTC: Final = """(() => {
  globalThis.RTCPeerConnection = class {
    constructor() {
      globalThis.connections = (globalThis.connections ?? 0) + 1;
      throw new Error('this network passes HTTP only');
    }
  };
})()"""
# What the playout worklet told last.
PLAYOUT: Final = """(() => {
  const Plain = globalThis.AudioWorkletNode;
  globalThis.AudioWorkletNode = class extends Plain {
    constructor(...given) {
      super(...given);
      this.port.addEventListener('message', ({ data }) => (globalThis.playout = data));
    }
  };
})()"""
# Each tenth packet of sound that comes by the tunnel is lost.
LOSE: Final = """() => {
  const { session } = parley.call.transports.tunnel;
  const receive = session.receive.bind(session);
  let count = 0;
  session.receive = (frame, now) => {
    if (frame.type !== 2 || (count += 1) % 10) receive(frame, now);
  };
}"""
KINDS: Final = {"websocket": "websocket", "stream": "streaming", "poll": "longpoll"}
WAY: Final = "[parley.call.ladder.way, parley.call.transports.isTunnelled]"
ALONE_S: Final = 10.0  # a call that does not come up takes the tunnel after four
# As Firefox and Safari are: their pages have none.
NO_PROCESSORS: Final = "delete globalThis.MediaStreamTrackProcessor"


async def _meet(arrive: Arrive, way: str, *scripts: str) -> tuple[Visitor, Visitor]:
    """One by WebRTC, and one by the tunnel, whose page runs the scripts first, without WebRTC where there are none."""
    direct, tunnelled = await asyncio.gather(arrive(RED), arrive(GREEN))
    for script in scripts or (NO_WEBRTC,):
        await tunnelled.page.add_init_script(script)
    await meet(direct, tunnelled, way)
    return direct, tunnelled


@pytest.mark.parametrize("way", KINDS)
async def test_a_browser_in_the_tunnel_is_seen_and_heard_and_sees_and_hears(arrive: Arrive, way: str) -> None:
    direct, tunnelled = await _meet(arrive, way)
    await see_and_hear_each_other(tunnelled, direct)
    assert await tunnelled.evaluate("globalThis.connections ?? 0") == 0
    assert await tunnelled.evaluate("parley.call.transports.tunnel.kind") == KINDS[way]
    assert any(one["framesDecoded"] for one in await tunnelled.evaluate("parley.stats()"))
    await screenshot(tunnelled.page, SCREENSHOTS, f"tunnel-{way}")

    await tunnelled.control("microphone").click()
    await direct.hears_nothing_of(tunnelled)
    await tunnelled.control("microphone").click()
    await direct.hears(tunnelled)


async def test_whoever_sits_alone_and_is_joined_then_stays_on_webrtc(arrive: Arrive) -> None:
    alex = await arrive(RED)
    meeting_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    blair, _ = await asyncio.gather(arrive(GREEN), asyncio.sleep(ALONE_S))
    assert await alex.evaluate(WAY) == ["direct", False]
    await blair.open_meeting(meeting_id)
    await blair.join(consent=None)
    await see_and_hear_each_other(alex, blair)
    assert [await visitor.evaluate(WAY) for visitor in (alex, blair)] == [["direct", False]] * 2


async def test_a_browser_without_track_processors_is_seen_and_heard_all_the_same(arrive: Arrive) -> None:
    direct, tunnelled = await _meet(arrive, "websocket", NO_WEBRTC, NO_PROCESSORS)
    assert await tunnelled.evaluate("typeof MediaStreamTrackProcessor") == "undefined"
    await direct.sees(tunnelled)
    await direct.hears(tunnelled)
    await tunnelled.control("camera").click()
    await direct.sees_no_frames_of(tunnelled)
    await tunnelled.control("camera").click()
    await direct.sees(tunnelled)


async def test_camera_and_microphone_of_both_sides_go_off_and_on_again(arrive: Arrive) -> None:
    direct, tunnelled = await _meet(arrive, "websocket")
    for one, other in ((tunnelled, direct), (direct, tunnelled)):
        await one.sees(other)
        await one.control("camera").click()
        await other.sees_no_frames_of(one)
        await one.control("camera").click()
        await other.sees(one)
    await direct.control("microphone").click()
    await tunnelled.hears_nothing_of(direct)
    await direct.control("microphone").click()
    await tunnelled.hears(direct)


async def test_a_tunnel_that_is_lost_is_made_anew(arrive: Arrive) -> None:
    direct, tunnelled = await _meet(arrive, "websocket")
    await tunnelled.sees(direct)
    await tunnelled.evaluate("globalThis.former = parley.call.transports.tunnel; former.emit('closed', {code: 4408})")

    async def replaced() -> bool:
        script = "parley.call.transports.tunnel !== former && parley.call.state === 'connected'"
        return bool(await tunnelled.evaluate(script))

    await wait_for(replaced, "the call has a new tunnel")
    await direct.sees(tunnelled)
    await tunnelled.sees(direct)


async def test_sound_that_is_lost_is_concealed(arrive: Arrive) -> None:
    direct, tunnelled = await _meet(arrive, "websocket", PLAYOUT)
    await tunnelled.hears(direct)
    before = await tunnelled.evaluate("playout.concealed")
    await tunnelled.evaluate(LOSE)

    async def concealed() -> bool:
        return bool(await tunnelled.evaluate("playout.concealed") - before > 20 * 960)

    await wait_for(concealed, "20 lost packets are concealed")
    await tunnelled.hears(direct)


async def test_a_screen_is_shared_out_of_the_tunnel_and_into_it(arrive: Arrive) -> None:
    direct, tunnelled = await _meet(arrive, "websocket")
    for one, other in ((tunnelled, direct), (direct, tunnelled)):
        await one.control("share").click()
        share = other.page.locator('[data-testid=tile][data-source="screen"]')
        await expect(share).to_be_visible(timeout=15_000)
        video = share.locator("video")

        async def is_shown(video: Locator = video) -> bool:
            script = "v => v.videoWidth > 0 && v.getVideoPlaybackQuality().totalVideoFrames > 0"
            return bool(await video.evaluate(script))

        await wait_for(is_shown, f"{other.person.login} is shown the screen of {one.person.login}")
        await screenshot(other.page, SCREENSHOTS, f"tunnel-share-{other.person.login.partition('@')[0]}")
        await one.control("share").click()
        await expect(share).to_have_count(0)


async def test_a_large_camera_goes_in_two_layers_and_each_tile_gets_its_own(
    system: System, playwright: Playwright, arrive: Arrive, tmp_path: Path
) -> None:
    direct = await arrive(RED)
    meeting_id = await direct.create_meeting(recording=False)
    await direct.join(consent=None)
    devices = make_devices(GREEN, tmp_path, width=640, height=360)
    async with chromium.launched(playwright, devices) as browser:
        context = await chromium.context_of(browser, base_url=system.url)
        tunnelled = Visitor(GREEN, await context.new_page())
        await tunnelled.sign_in()
        await tunnelled.page.goto(f"/m/{meeting_id}?way=websocket")
        await tunnelled.join(consent=None)
        await direct.sees(tunnelled)

        async def lines(wanted: int) -> None:
            async def are_shown() -> bool:
                shown = await direct.tile(tunnelled).locator("video").evaluate("video => video.videoHeight")
                return bool(shown == wanted)

            await wait_for(are_shown, f"the picture has {wanted} lines")

        await lines(360)
        await direct.page.set_viewport_size({"width": 300, "height": 420})
        await lines(180)
        await direct.page.set_viewport_size({"width": 1280, "height": 800})
        await lines(360)
        await direct.sees(tunnelled)
