"""Headless Chromium publishes to and subscribes from a real SFU worker; signaling is played by the test."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

from conference.adapters.media.sending import Sender
from conference.protocol import control
from conference.protocol.messages import TrackInfo
from tests.support import browser as chromium
from tests.support.sfu import ControlLink, Sfu, peer, running_sfu
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

SCRIPT = """
window.publish = new RTCPeerConnection();
window.subscribe = new RTCPeerConnection();
window.channel = publish.createDataChannel("parley", {negotiated: true, id: 0});
window.videos = new Map();
subscribe.ontrack = ({track, transceiver}) => {
  const element = document.createElement(track.kind);
  Object.assign(element, {srcObject: new MediaStream([track]), autoplay: true, muted: true});
  document.body.append(element);
  videos.set(transceiver.mid, element);
};
window.capture = async (width, height, simulcast) => {
  const constraints = {audio: true, video: {width, height, frameRate: 15}};
  window.stream = await navigator.mediaDevices.getUserMedia(constraints);
  publish.addTransceiver(stream.getAudioTracks()[0], {direction: "sendonly"});
  const layers = [["q", 4], ["h", 2], ["f", 1]].map(([rid, by]) => ({rid, scaleResolutionDownBy: by}));
  const sendEncodings = simulcast ? layers : undefined;
  publish.addTransceiver(stream.getVideoTracks()[0], {direction: "sendonly", sendEncodings});
};
window.offer = async () => {
  await publish.setLocalDescription();
  return publish.localDescription.sdp;
};
window.mids = () => publish.getTransceivers().map(t => [t.sender.track.kind, t.mid]);
window.accept = sdp => publish.setRemoteDescription({type: "answer", sdp});
window.answer = async sdp => {
  await subscribe.setRemoteDescription({type: "offer", sdp});
  await subscribe.setLocalDescription();
  return subscribe.localDescription.sdp;
};
window.report = async (connection, type, kind) =>
  [...(await connection.getStats()).values()].filter(s => s.type === type && (!kind || s.kind === kind));
undefined;
"""


class BrowserPeer:
    """A participant in a page."""

    def __init__(self, link: ControlLink, page: Page, name: str) -> None:
        self.link, self.page, self.name = link, page, name
        self.offers: list[control.Offer] = []

    async def open(self) -> None:
        self.link.peers[self.name] = self
        opened = await self.link.ask(
            control.OpenSession(room_id="room", participant_id=self.name, user_id=self.name, role="attendee")
        )
        assert isinstance(opened, control.SessionOpened)
        self.transports = {e.direction: e.transport_id for e in opened.endpoints}

    async def publish(self, *, negotiation_id: int = 1) -> control.Answer:
        sdp = await self.page.evaluate("offer()")
        tracks = [
            TrackInfo(
                track_id=f"{self.name}-{kind}",
                kind=kind,
                source="camera" if kind == "video" else "microphone",
                mid=mid,
            )
            for kind, mid in await self.page.evaluate("mids()")
        ]
        reply = await self.link.ask(
            control.Offer(
                participant_id=self.name,
                transport_id=self.transports["publish"],
                negotiation_id=negotiation_id,
                sdp=sdp,
                tracks=tracks,
            )
        )
        assert isinstance(reply, control.Answer), reply
        await self.page.evaluate("sdp => accept(sdp)", reply.sdp)
        return reply

    async def answer(self, offer: control.Offer) -> None:
        self.offers.append(offer)
        sdp = await self.page.evaluate("sdp => answer(sdp)", offer.sdp)
        reply = await self.link.ask(
            control.Answer(
                participant_id=self.name,
                transport_id=offer.transport_id,
                negotiation_id=offer.negotiation_id,
                sdp=sdp,
            )
        )
        assert isinstance(reply, control.Ok), reply

    async def inbound(self, kind: str) -> dict[str, Any]:
        reports = await self.page.evaluate(f"report(subscribe, 'inbound-rtp', '{kind}')")
        return max(reports, key=lambda r: r.get("packetsReceived", 0), default={})

    async def decodes(self, frames: int, *, within_s: float = 30.0) -> dict[str, Any]:
        start = (await self.inbound("video")).get("framesDecoded", 0)

        async def enough() -> bool:
            return bool((await self.inbound("video")).get("framesDecoded", 0) >= start + frames)

        await eventually(enough, within_s=within_s)
        return await self.inbound("video")


@asynccontextmanager
async def _browser() -> AsyncIterator[Browser]:
    if reason := chromium.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    async with async_playwright() as playwright, chromium.launched(playwright, None) as browser:
        yield browser


@asynccontextmanager
async def _person(sfu: Sfu, link: ControlLink, browser: Browser, name: str) -> AsyncIterator[BrowserPeer]:
    context = await chromium.context_of(browser, base_url=sfu.url)
    page = await context.new_page()
    await page.goto("/health")
    await page.evaluate(SCRIPT)
    person = BrowserPeer(link, page, name)
    await person.open()
    try:
        yield person
    finally:
        await context.close()


async def test_two_browsers_see_and_hear_each_other() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        _browser() as browser,
        _person(sfu, link, browser, "ann") as ann,
        _person(sfu, link, browser, "bob") as bob,
    ):
        for person in (ann, bob):
            await person.page.evaluate("capture(320, 180, false)")
            await person.publish()
        for person in (ann, bob):
            video = await person.decodes(45)
            assert video["frameWidth"] in {320, 240, 160, 216}
            audio = await person.inbound("audio")
            assert audio["packetsReceived"] > 20
            assert video["packetsLost"] == 0
        await ann.page.wait_for_function("channel.readyState === 'open'")
        await ann.page.evaluate("channel.send(JSON.stringify({type: 'stats', rtt: 3}))")
        assert (await link.until(control.DataReceived)).message == {"type": "stats", "rtt": 3}
        await link.until(control.SpeakersChanged)
        await link.until(control.ConnectionQuality, quality="excellent")
        pair = await ann.page.evaluate("report(publish, 'transport')")
        assert pair[0]["srtpCipher"] == "SRTP_AEAD_AES_128_GCM"


async def test_simulcast_layers_are_received_and_switched() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        _browser() as browser,
        _person(sfu, link, browser, "ann") as ann,
        _person(sfu, link, browser, "bob") as bob,
    ):
        await ann.page.evaluate("capture(640, 360, true)")
        reply = await ann.publish()
        assert "a=simulcast:recv q;h;f" in reply.sdp
        await bob.decodes(15)
        track = sfu.engine.core.state.tracks["room/ann-video"]
        await eventually(lambda: len(track.streams) >= 2, within_s=30)
        sender = next(iter(track.senders.values()))
        for rid in ("q", "h"):
            sender.rid = rid
            await eventually(partial(_takes, sender, rid), within_s=20)
            await bob.decodes(15)
            width = {"q": 160, "h": 320}[rid]
            await eventually(partial(_has_width, bob, width), within_s=20)
        video = await bob.inbound("video")
        assert video.get("framesDropped", 0) < 10
        assert video["packetsLost"] == 0


def _takes(sender: Sender, rid: str) -> bool:
    return sender.current is not None and sender.current.rid == rid


def _was_offered(person: BrowserPeer, times: int) -> bool:
    return len(person.offers) == times


async def _has_width(person: BrowserPeer, width: int) -> bool:
    return bool((await person.inbound("video")).get("frameWidth") == width)


async def test_a_browser_and_aiortc_meet() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        _browser() as browser,
        _person(sfu, link, browser, "ann") as ann,
        peer(link, "bob", shade=180) as bob,
    ):
        await ann.page.evaluate("capture(320, 180, false)")
        await ann.publish()
        await asyncio.gather(ann.decodes(15), bob.receives("ann-video", 15), bob.receives("ann-audio", 30))


async def test_a_browser_restarts_ice_and_the_call_goes_on() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        _browser() as browser,
        _person(sfu, link, browser, "ann") as ann,
        _person(sfu, link, browser, "bob") as bob,
    ):
        await ann.page.evaluate("capture(320, 180, false)")
        await ann.publish()
        await bob.decodes(10)
        before = next(iter(sfu.engine.core.state.tracks["room/ann-video"].streams.values())).ssrc
        await ann.page.evaluate("publish.restartIce()")
        await ann.publish(negotiation_id=2)
        await bob.decodes(20)
        after = next(iter(sfu.engine.core.state.tracks["room/ann-video"].streams.values())).ssrc
        assert before == after
        assert await ann.page.evaluate("publish.connectionState") == "connected"


async def test_a_person_comes_back_into_a_freed_section() -> None:
    async with (
        running_sfu() as sfu,
        sfu.link() as link,
        _browser() as browser,
        _person(sfu, link, browser, "ann") as ann,
    ):
        for round_number in range(2):
            async with peer(link, f"guest{round_number}", shade=180):
                await ann.decodes(10)
                await link.ask(control.CloseSession(participant_id=f"guest{round_number}"))
            count = 2 * (round_number + 1)
            await eventually(partial(_was_offered, ann, count))
            await eventually(lambda: _is_stable(ann))
        assert {t.mid for o in ann.offers for t in o.tracks} == {"s0", "s1"}


async def _is_stable(person: BrowserPeer) -> bool:
    return bool(await person.page.evaluate("subscribe.signalingState") == "stable")
