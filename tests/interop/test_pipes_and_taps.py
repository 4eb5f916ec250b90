"""Pipes between two nodes and taps to a recorder, over UDP on loopback, with the engines that there are."""

import base64
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from conference.domain.errors import ProtocolError
from conference.protocol import control, rtcp
from conference.protocol import control_plain as cp
from conference.protocol.messages import Payload, ReceiveTrack
from conference.protocol.rtp import RtpPacket
from tests.support.engine import DELTA, ENGINES, KEY_FRAME, EngineFactory, EnginePeer, media
from tests.support.media_node import AUDIO_SSRC, VIDEO_SSRCS, MediaNode, media_node, relay
from tests.support.quiet_node import SIMULCAST, Inbox
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

THEIRS, OURS = bytes([1]) * 28, bytes([2]) * 28  # those of EnginePeer


@pytest.fixture(params=ENGINES, ids=lambda make: make.name)
def factory(request: pytest.FixtureRequest) -> EngineFactory:
    made: EngineFactory = request.param()
    return made


def keys(receive: bytes, send: bytes) -> cp.MediaKeys:
    texts = (base64.b64encode(key).decode() for key in (receive, send))
    return cp.MediaKeys(profile="AEAD_AES_128_GCM", receive_key=next(texts), send_key=next(texts))


class Speaker:
    """What a publisher sends: three layers of video, and sound."""

    def __init__(self, peer: EnginePeer) -> None:
        self.peer = peer
        self._numbers = dict.fromkeys((*VIDEO_SSRCS, "mic"), 100)

    def _next(self, name: str) -> int:
        self._numbers[name] += 1
        return self._numbers[name]

    def show(self, *, is_key: bool = True) -> None:
        for rid, ssrc in VIDEO_SSRCS.items():
            payload = (KEY_FRAME if is_key else DELTA) + rid.encode()
            packet = media(self._next(rid), payload=payload, ssrc=ssrc, mid="1")
            packet.extensions[10] = rid.encode()
            self.peer.send_rtp(packet)

    def say(self) -> None:
        packet = media(self._next("mic"), payload=b"opus", ssrc=AUDIO_SSRC, payload_type=111)
        packet.extensions[1] = bytes((0x80 | 20,))
        self.peer.send_rtp(packet)

    def send(self) -> bool:
        self.show()
        self.say()
        return True


def of(peer: EnginePeer, ssrc: int) -> list[RtpPacket]:
    return [packet for packet in peer.rtp if packet.ssrc == ssrc]


# --- taps ------------------------------------------------------------------------------------------------------------
class Tapped:
    """A node with a tap to a recorder that is there."""

    def __init__(self, node: MediaNode) -> None:
        self.node = node
        self.recorder = EnginePeer(node.engine, ("127.0.0.1", node.address.port), "recorder")
        node.peers.append(self.recorder)

    def open(self, purpose: str = "recording", kinds: tuple[str, ...] = ("audio", "video")) -> cp.TapOpened:
        ip, port = self.recorder.socket.getsockname()
        opened = self.node.ask(
            cp.OpenTap(
                room_id="r",
                tap_id="tap",
                purpose=purpose,  # type: ignore[arg-type]
                address=cp.MediaAddress(ip=ip, port=port),
                keys=keys(THEIRS, OURS),
                kinds=list(kinds),  # type: ignore[arg-type]
            )
        )
        assert isinstance(opened, cp.TapOpened)
        return opened

    def tracks(self) -> dict[str, cp.TapTrack]:
        return {track.track_id: track for track in self.node.link.of(cp.TapTrack)}


@pytest.fixture
async def tapped(factory: EngineFactory) -> AsyncIterator[Tapped]:
    async with media_node(factory) as node:
        yield Tapped(node)


async def test_a_tap_carries_each_granted_track_under_the_ssrc_that_was_told(tapped: Tapped) -> None:
    ann = Speaker(await tapped.node.publisher("ann", grants=["recording"]))
    bob = Speaker(await tapped.node.publisher("bob", grants=["ai"]))
    opened = tapped.open()
    assert opened.address == tapped.node.address
    tracks = tapped.tracks()
    assert set(tracks) == {"ann-mic", "ann-cam"}
    assert tracks["ann-mic"].codec.parameters == {"minptime": "10", "useinbandfec": "1"}
    mic, cam = tracks["ann-mic"].stream.ssrc, tracks["ann-cam"].stream.ssrc

    def is_recorded() -> bool:
        ann.send()
        bob.send()
        return bool(of(tapped.recorder, mic)) and bool(of(tapped.recorder, cam))

    await eventually(is_recorded)
    assert {packet.ssrc for packet in tapped.recorder.rtp} == {mic, cam}
    assert of(tapped.recorder, mic)[0].extensions[1] == bytes((0x80 | 20,))
    tapped.recorder.send_rtcp(rtcp.picture_loss(1, cam))
    await eventually(lambda: tapped.node.link.of(cp.TapChanged, state="connected") != [])


async def test_a_grant_that_is_withdrawn_ends_the_track_within_a_second_and_one_that_comes_begins_it(
    tapped: Tapped,
) -> None:
    ann = Speaker(await tapped.node.publisher("ann", grants=["recording"]))
    tapped.open(kinds=("audio",))
    first = tapped.tracks()["ann-mic"].stream.ssrc
    await eventually(lambda: ann.send() and bool(of(tapped.recorder, first)))
    asked = time.monotonic()
    tapped.node.ask(control.UpdateSession(participant_id="ann", role="attendee", grants=[]))
    (ended,) = tapped.node.link.of(cp.TapTrackEnded)
    assert (ended.track_id, ended.ssrc, ended.reason) == ("ann-mic", first, "withdrawn")
    quiet_since, count = time.monotonic(), len(tapped.recorder.rtp)

    def is_quiet() -> bool:
        nonlocal quiet_since, count
        ann.send()
        if len(tapped.recorder.rtp) != count:
            quiet_since, count = time.monotonic(), len(tapped.recorder.rtp)
        return time.monotonic() - quiet_since > 0.5

    await eventually(is_quiet)
    assert quiet_since - asked < 1.0
    tapped.node.ask(control.UpdateSession(participant_id="ann", role="attendee", grants=["recording"]))
    second = tapped.node.link.of(cp.TapTrack)[-1].stream.ssrc
    assert second != first, "an SSRC is never used again"
    await eventually(lambda: ann.send() and bool(of(tapped.recorder, second)))


async def test_a_tap_is_taken_over_by_who_opens_it_again_and_closed_with_its_room(tapped: Tapped) -> None:
    await tapped.node.publisher("ann", grants=["ai"])
    tapped.open("ai")
    former, other = tapped.node.link, Inbox()
    tapped.node.link = other
    tapped.open("ai")
    (again,) = other.of(cp.TapTrack, track_id="ann-mic")
    assert again in former.messages
    assert tapped.node.node.hello().taps == ["tap"]
    tapped.node.ask(control.CloseSession(participant_id="ann"))
    assert {message.track_id for message in other.of(cp.TapTrackEnded, reason="ended")} == {"ann-mic", "ann-cam"}
    assert other.of(cp.TapChanged)[-1].state == "closed"
    assert tapped.node.node.hello().taps == []
    await eventually(lambda: tapped.node.engine.stats().senders == 0)
    assert isinstance(tapped.node.ask(cp.CloseTap(tap_id="tap")), control.Ok)


async def test_a_tap_without_a_room_a_usable_address_or_keys_is_refused(tapped: Tapped) -> None:
    def refused(room: str, ip: str, key: bytes) -> str:
        message = cp.OpenTap(
            room_id=room,
            tap_id="x",
            purpose="ai",
            address=cp.MediaAddress(ip=ip, port=9),
            keys=keys(key, key),
            kinds=["audio"],
        )
        with pytest.raises(ProtocolError) as caught:
            tapped.node.ask(message)
        return caught.value.code

    assert refused("r", "127.0.0.1", OURS) == "unknown-room"
    await tapped.node.publisher("ann")
    assert refused("r", "recorder.example", OURS) == "bad-address"
    assert refused("r", "224.0.0.1", OURS) == "bad-address"
    assert refused("r", "127.0.0.1", OURS[1:]) == "bad-keys"
    assert "BAgIC" not in repr(keys(OURS, OURS))


# --- pipes -----------------------------------------------------------------------------------------------------------
class Joined:
    """Two nodes with a pipe for the room `r`, and signaling between them."""

    def __init__(self, one: MediaNode, two: MediaNode) -> None:
        self.one, self.two = one, two
        self._seen: list[Payload] = []

    def open(self) -> None:
        for node, other, mine in (
            (self.one, self.two, keys(THEIRS, OURS)),
            (self.two, self.one, keys(OURS, THEIRS)),
        ):
            opened = node.ask(cp.OpenPipe(pipe_id="p", address=other.address, keys=mine))
            assert isinstance(opened, cp.PipeOpened)
            node.ask(cp.PipeRoom(pipe_id="p", room_id="r", piped=True))

    def relay(self) -> bool:
        relay(self.one, self.two, self._seen)
        relay(self.two, self.one, self._seen)
        return True


@pytest.fixture
async def joined(factory: EngineFactory) -> AsyncIterator[Joined]:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(media_node(factory, "a"))
        two = await stack.enter_async_context(media_node(factory, "b", 90_000))
        made = Joined(one, two)
        made.open()
        yield made


async def test_people_on_two_nodes_see_and_hear_each_other(joined: Joined) -> None:
    ann = Speaker(await joined.one.publisher("ann"))
    bob = Speaker(await joined.two.publisher("bob"))
    joined.relay()
    for node, speaker, owner in ((joined.two, ann, "ann"), (joined.one, bob, "bob")):
        eve = await node.subscriber(f"eve-of-{node.name}")
        offered = {
            track.track_id for track in node.link.of(control.Offer, participant_id=f"eve-of-{node.name}")[-1].tracks
        }
        assert {f"{owner}-mic", f"{owner}-cam"} <= offered

        def comes(peer: EnginePeer = eve, speaker: Speaker = speaker) -> bool:
            speaker.send()
            payloads = [packet.payload for packet in peer.rtp]
            return b"opus" in payloads and any(payload.endswith(b"f") for payload in payloads)

        await eventually(comes)


async def test_a_subscriber_beyond_the_pipe_gets_its_layer_and_its_key_frames(joined: Joined) -> None:
    ann = Speaker(await joined.one.publisher("ann"))
    joined.relay()
    (piped,) = joined.one.link.of(cp.PipeTrack, track_id="ann-cam")
    assert [stream.rid for stream in piped.streams] == ["q", "h", "f"]
    bob = await joined.two.subscriber("bob")
    wish = ReceiveTrack(track_id="ann-cam", width=160, height=90)
    joined.two.ask(control.SelectTracks(participant_id="bob", tracks=[wish]))

    def is_asked() -> bool:
        ann.show(is_key=False)
        return any(isinstance(packet, rtcp.KeyFrameRequest) for packet in ann.peer.rtcp)

    await eventually(is_asked)

    def is_small() -> bool:
        ann.show()
        return bool(bob.rtp) and bob.rtp[-1].payload.endswith(b"q")

    await eventually(is_small)
    video = next(packet.ssrc for packet in bob.rtp if packet.payload.endswith(b"q"))
    asked = len(ann.peer.rtcp)

    def is_passed_on() -> bool:  # repeated, as players do: a key frame on its way answers the first one
        bob.send_rtcp(rtcp.picture_loss(1, video))
        return rtcp.KeyFrameRequest(VIDEO_SSRCS["q"]) in ann.peer.rtcp[asked:]

    await eventually(is_passed_on)


async def test_a_loss_on_the_way_through_the_pipe_is_repaired(joined: Joined) -> None:
    ann = Speaker(await joined.one.publisher("ann"))
    joined.relay()
    bob = await joined.two.subscriber("bob")
    await eventually(lambda: ann.send() and any(packet.payload.endswith(b"f") for packet in bob.rtp))
    video = next(packet for packet in bob.rtp if packet.payload.endswith(b"f"))
    bob.send_rtcp(rtcp.nack(1, video.ssrc, [video.sequence]))
    await eventually(
        lambda: any(video.payload in packet.payload[2:] for packet in bob.rtp if packet.payload_type == 97)
    )


async def test_speakers_are_heard_through_the_pipe(joined: Joined) -> None:
    ann = Speaker(await joined.one.publisher("ann"))
    joined.relay()
    await joined.two.subscriber("bob")

    def is_heard() -> bool:
        ann.say()
        joined.two.now += 0.1
        told = joined.two.link.of(control.SpeakersChanged)
        return any(level.participant_id == "ann" for message in told for level in message.speakers)

    await eventually(is_heard)


async def test_a_track_that_ends_or_a_room_that_leaves_the_pipe_ends_on_the_other_side(joined: Joined) -> None:
    await joined.one.publisher("ann")
    transport = joined.one.core.sessions["ann"].publish.transport_id
    joined.relay()
    assert {track.info.track_id for _, track in joined.two.core.rooms["r"].tracks()} == {"ann-mic", "ann-cam"}
    head, video = SIMULCAST.split("m=video")
    without_video = head + "m=video" + video.replace("a=sendonly", "a=inactive")
    joined.one.publish("ann", transport, sdp=without_video, negotiation_id=2)
    joined.relay()
    assert {track.info.track_id for _, track in joined.two.core.rooms["r"].tracks()} == {"ann-mic"}
    joined.one.ask(cp.PipeRoom(pipe_id="p", room_id="r", piped=False))
    joined.relay()
    assert list(joined.two.core.rooms["r"].tracks()) == []
    await eventually(lambda: joined.two.engine.stats().tracks == 0)


async def test_a_dead_node_is_told_to_the_owner_and_its_tracks_end(joined: Joined, factory: EngineFactory) -> None:
    await joined.one.publisher("ann")
    joined.relay()
    await joined.two.subscriber("bob")
    for node in (joined.one, joined.two):
        await eventually(lambda node=node: node.link.of(cp.PipeConnected) != [])  # type: ignore[misc]
    await joined.one.engine.stop()
    await factory.advance(3.5)
    await eventually(lambda: joined.two.link.of(cp.PipeLost) != [])
    (lost,) = joined.two.link.of(cp.PipeLost)
    assert (lost.pipe_id, lost.rooms) == ("p", ["r"])
    assert list(joined.two.core.rooms["r"].tracks()) == []
    assert joined.two.node.hello().pipes == []
    offers = joined.two.link.of(control.Offer, participant_id="bob")
    assert offers[-1].tracks == []
    await eventually(lambda: joined.two.engine.stats().tracks == 0)


async def test_who_moves_to_the_other_node_replaces_what_came_from_there(joined: Joined) -> None:
    await joined.one.publisher("ann")
    joined.relay()
    await joined.two.publisher("ann")
    tracks = list(joined.two.core.rooms["r"].tracks())
    assert len(tracks) == 2
    assert {publisher.participant_id for publisher, _ in tracks} == {"ann"}
    assert not joined.two.core.rooms["r"].guests
    with pytest.raises(ProtocolError, match="duplicate-track"):
        joined.two.ask(joined.one.link.of(cp.PipeTrack)[0])


async def test_a_pipe_that_never_connects_is_lost(joined: Joined) -> None:
    address = cp.MediaAddress(ip="127.0.0.1", port=9)
    joined.one.ask(cp.OpenPipe(pipe_id="deaf", address=address, keys=keys(THEIRS, OURS)))
    joined.one.now += 11.0
    joined.one.node.tick()
    assert [lost.pipe_id for lost in joined.one.link.of(cp.PipeLost)][-1] == "deaf"
