"""The gateway's WebRTC client with a real SFU, each engine: frames that it sends are decoded by aiortc, and back."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from conference.domain.errors import ProtocolError
from conference.protocol import control
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType
from tests.support.engine import ENGINES, EngineFactory
from tests.support.frame_client import FrameClient
from tests.support.sfu import ControlLink, Sfu, lose_media, peer
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


@asynccontextmanager
async def sfu_of(factory: EngineFactory) -> AsyncIterator[tuple[Sfu, ControlLink]]:
    sfu = Sfu(engine=factory.make())
    await sfu.worker.start()
    try:
        async with sfu.link() as link:
            yield sfu, link
    finally:
        await sfu.worker.stop()


@asynccontextmanager
async def frames(link: ControlLink, name: str = "frames") -> AsyncIterator[FrameClient]:
    client = FrameClient(link, name)
    await client.open()
    try:
        yield client
    finally:
        await client.close()


async def decodes(client: FrameClient, track_id: str, count: int = 10, *, within_s: float = 20.0) -> Any:
    def enough() -> bool:
        found = client.track(track_id)
        return found is not None and found.decoded >= count

    await eventually(enough, within_s=within_s)
    return client.track(track_id)


@pytest.mark.parametrize("make", ENGINES)
async def test_a_browser_in_frames_and_an_ordinary_peer_see_and_hear_each_other(
    make: Callable[[], EngineFactory],
) -> None:
    async with sfu_of(make()) as (_, link), peer(link, "ordinary", shade=190) as other, frames(link) as client:
        client.publish(60)
        seen = await other.receives("frames-video", 15, within_s=20)
        assert seen.shade is not None
        assert abs(seen.shade - 60) < 25
        await other.receives("frames-audio", 20, within_s=20)
        picture = await decodes(client, "ordinary-video")
        assert abs(picture.shade - 190) < 25
        assert picture.opened.user_id == "user-ordinary"
        await decodes(client, "ordinary-audio", 20)
        assert {one.direction for one in client.of(c.MediaState) if one.state == "connected"} == {
            "publish",
            "subscribe",
        }
        await eventually(lambda: len(client.of(c.Clock)) >= 2, within_s=10)
        assert not client.errors


@pytest.mark.parametrize("make", ENGINES)
async def test_who_speaks_in_frames_is_the_active_speaker(make: Callable[[], EngineFactory]) -> None:
    async with sfu_of(make()) as (_, link), peer(link, "ordinary", shade=190), frames(link) as client:
        client.publish(60)

        def speaks() -> bool:
            told = link.of(control.SpeakersChanged)
            return any(speaker.user_id == "user-frames" for each in told for speaker in each.speakers)

        await eventually(speaks, within_s=20)


@pytest.mark.parametrize("make", ENGINES)
async def test_both_layers_are_there_and_the_small_one_comes_to_a_small_tile(make: Callable[[], EngineFactory]) -> None:
    async with sfu_of(make()) as (_, link), frames(link) as sender, frames(link, "second") as viewer:
        sender.publish(60)
        found = await decodes(viewer, "frames-video")
        for width, size in ((160, (160, 96)), (320, (320, 192)), (160, (160, 96))):
            wish = {"tracks": [{"trackId": "frames-video", "width": width, "height": width * 9 // 16}]}
            sent = viewer.peer.signal_from_client({"type": "SetReceive", "payload": wish})
            assert sent
            viewer._signal(sent)
            await eventually(lambda size=size: found.size == size, within_s=20)  # type: ignore[misc]


async def test_a_queue_that_stands_takes_pictures_away_and_brings_them_back() -> None:
    async with sfu_of(ENGINES[0]()) as (_, link), peer(link, "ordinary", shade=190), frames(link) as client:
        found = await decodes(client, "ordinary-video")
        client.peer.downlink_level("audio")

        def is_hidden() -> bool:
            told = link.of(control.ReceiveChanged, participant_id="frames")
            return bool(told) and told[-1].tracks[0].paused == "hidden"

        await eventually(is_hidden)
        client.peer.downlink_level("all")
        await decodes(client, "ordinary-video", found.decoded + 10)


async def test_losses_between_sfu_and_gateway_are_repaired_on_both_ways() -> None:
    async with sfu_of(ENGINES[0]()) as (sfu, link), peer(link, "ordinary", shade=190) as other, frames(link) as client:
        client.publish(60)
        await other.receives("frames-video", 5, within_s=20)
        await decodes(client, "ordinary-video", 5)
        lose_media(sfu, every=10)
        await other.receives("frames-video", 40, within_s=30)
        found = client.track("ordinary-video")
        assert found
        await decodes(client, "ordinary-video", found.decoded + 40)


async def test_a_track_that_is_closed_is_gone_and_its_section_serves_the_next() -> None:
    async with sfu_of(ENGINES[0]()) as (_, link), frames(link) as client, frames(link, "second") as viewer:
        client.publish(60)
        await decodes(viewer, "frames-video", 3)
        client.peer.control(c.CloseTrack(track_id="frames-video"))
        await eventually(lambda: bool(viewer.of(c.TrackClosed)), within_s=10)
        again = c.OpenTrack(
            track_id="again", kind="video", source="camera", codec="vp8", streams=[c.LayerStream(stream=3)]
        )
        client.peer.control(again)
        await decodes(viewer, "again", 3)


async def test_what_a_browser_may_not_say_is_refused_and_sockets_are_given_back() -> None:
    async with sfu_of(ENGINES[0]()) as (_, link):
        async with frames(link) as client:
            client.publish(60)
            stream = [c.LayerStream(stream=4)]
            wrong: list[c.ControlMessage] = [
                c.OpenTrack(track_id="x", kind="audio", source="microphone", codec="vp8", streams=stream),
                c.OpenTrack(track_id="x", kind="video", source="camera", codec="vp8", streams=stream),
                c.OpenPath(stream=9, ip="127.0.0.1", port=1),
            ]
            for message in wrong:
                with pytest.raises(ProtocolError):
                    client.peer.control(message)
            await eventually(lambda: client.peer.states["publish"] == "connected", within_s=10)
            with pytest.raises(ProtocolError):
                client.peer.frame(Frame(FrameType.AUDIO, 3, b"\0x"))
            uplink = client.peer._uplink
        assert uplink._path
        assert uplink._path._socket is None
