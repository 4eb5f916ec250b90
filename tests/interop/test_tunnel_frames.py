"""A scripted browser in frames through the gateway, with real signaling and a real SFU: over each wire, and changed."""

import aiohttp
import pytest

from tests.interop.test_tunnel_gateway import Site, site  # noqa: F401  # fixture
from tests.support.frame_client import Arrived, TunnelledBrowser
from tests.support.native_client import NativeParticipant
from tests.support.tunnel_client import Kind
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


async def _decodes(browser: TunnelledBrowser, kind: str, more: int = 10) -> Arrived:
    """Waits for so many more decoded frames of somebody's track."""

    def found() -> Arrived | None:
        return next((one for one in browser.arrived.values() if one.opened.kind == kind), None)

    await eventually(lambda: found() is not None, within_s=20)
    arrived = found()
    assert arrived
    target = arrived.decoded + more
    await eventually(lambda: arrived.decoded >= target, within_s=20)
    return arrived


async def _ordinary(site: Site) -> NativeParticipant:  # noqa: F811
    token = (await site.world.person()).token
    return NativeParticipant(
        site.world.http, {"signalingUrl": site.process.url, "token": token}, site.world.room, shade=190
    )


async def _browser(site: Site, kind: Kind, http: aiohttp.ClientSession) -> TunnelledBrowser:  # noqa: F811
    browser = TunnelledBrowser(http, site.url, "frames")
    await browser.join(kind, site.world.room, (await site.world.person()).token)
    browser.publish(60)
    return browser


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_frames_and_an_ordinary_client_see_and_hear_each_other(site: Site, kind: Kind) -> None:  # noqa: F811
    async with await _ordinary(site) as other:
        browser = await _browser(site, kind, site.world.http)
        try:
            seen = await other.receives(browser.joined["userId"], "camera", frames=10)
            assert seen.shade is not None
            assert abs(seen.shade - 60) < 25
            await other.receives(browser.joined["userId"], "microphone", frames=10)
            picture = await _decodes(browser, "video")
            assert picture.shade is not None
            assert abs(picture.shade - 190) < 25
            await _decodes(browser, "audio")
            assert not {"SfuEndpoint", "ReceiveOffer", "ReceiveAnswer"} & set(browser.signaling.types())
        finally:
            await browser.close()


async def test_the_wire_of_frames_changes_in_mid_call(site: Site) -> None:  # noqa: F811
    async with await _ordinary(site) as other:
        browser = await _browser(site, "websocket", site.world.http)
        try:
            await _decodes(browser, "video")
            for kind in ("stream", "poll", "websocket"):
                await browser.tunnel.change(kind)
                now = (await other.receives(browser.joined["userId"], "camera", frames=1)).frames
                await other.receives(browser.joined["userId"], "camera", frames=now + 15)
                await _decodes(browser, "video", 15)
                await _decodes(browser, "audio", 15)
            assert "ParticipantLeft" not in other.signaling.types()
        finally:
            await browser.close()
