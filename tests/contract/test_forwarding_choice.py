"""What a forwarding engine sends of what it has: layers, temporal layers, hidden and last videos, and what it tells."""

import pytest

from conference.ports.forwarding import (
    LayersWanted,
    LinkReport,
    RankTrack,
    RemoveSender,
    SelectLayer,
    SenderChanged,
    SetLastN,
    SetSender,
    TrackCodec,
)
from conference.protocol import rtcp
from conference.protocol.payload import vp8_descriptor
from conference.protocol.rtp import RtpPacket
from tests.support.engine import DELTA, KEY_FRAME, Bench, EnginePeer, media, vp8
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

LAYERS = {"q": 60, "f": 61}
AV1 = TrackCodec("AV1", 45, 90_000, None)


class Camera:
    """A publisher of the simulcast track `cam` with the layers q and f."""

    def __init__(self, engine: Bench, peer: EnginePeer) -> None:
        self._peer = peer
        self._numbers = {"q": 100, "f": 500}
        engine.publish(peer, "cam", rids=("q", "f"))

    def send(self, rid: str, *, is_key: bool = False) -> None:
        self._numbers[rid] += 1
        packet = media(self._numbers[rid], payload=(KEY_FRAME if is_key else DELTA) + rid.encode(), ssrc=LAYERS[rid])
        packet.extensions[10] = rid.encode()
        self._peer.send_rtp(packet)

    def send_both(self, *, is_key: bool = False) -> None:
        self.send("q", is_key=is_key)
        self.send("f", is_key=is_key)


async def simulcast(engine: Bench) -> tuple[Camera, EnginePeer, SetSender]:
    """A subscriber that receives the upper layer of two."""
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    camera = Camera(engine, ann)
    sender = engine.subscribe(bob, "cam")
    await receives(camera, bob, "f")
    return camera, bob, sender


async def receives(camera: Camera, peer: EnginePeer, rid: str) -> None:
    """Waits until the newest picture of a subscriber is of a layer, while all layers send key frames."""

    def is_there() -> bool:
        camera.send_both(is_key=True)
        return bool(peer.rtp) and peer.rtp[-1].payload.endswith(rid.encode())

    await eventually(is_there)


def pauses(engine: Bench, sender: SetSender) -> list[str]:
    return [event.paused for event in engine.of(SenderChanged, sender_id=sender.sender_id)]


async def test_the_layer_that_goes_out_is_told(engine: Bench) -> None:
    camera, bob, sender = await simulcast(engine)
    await eventually(lambda: engine.of(SenderChanged, rid="f", spatial=1, paused="none") != [])
    engine.apply(SelectLayer(sender.sender_id, "q"))
    await receives(camera, bob, "q")
    await eventually(lambda: engine.of(SenderChanged)[-1] == SenderChanged(sender.sender_id, "none", "q", 0, 0))


async def test_hidden_video_is_paused_and_comes_back_with_a_key_frame(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    sender = engine.subscribe(bob, "cam")
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    engine.want(sender.sender_id, visible=False)
    await eventually(lambda: pauses(engine, sender) == ["none", "hidden"])
    ann.send_rtp(media(2, payload=KEY_FRAME))
    asked = len(ann.rtcp)
    engine.want(sender.sender_id)
    await eventually(lambda: rtcp.KeyFrameRequest(50) in ann.rtcp[asked:])
    ann.send_rtp(media(3))
    ann.send_rtp(media(4, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 2)
    assert (bob.rtp[1].sequence - bob.rtp[0].sequence) & 0xFFFF == 1, "no hole"
    await eventually(lambda: pauses(engine, sender) == ["none", "hidden", "none"])


async def test_a_thumbnail_gets_the_lowest_layer_unless_it_is_pinned(engine: Bench) -> None:
    camera, bob, sender = await simulcast(engine)
    engine.want(sender.sender_id, width=240)
    await receives(camera, bob, "q")
    engine.want(sender.sender_id, width=240, pinned=True)
    await receives(camera, bob, "f")
    engine.want(sender.sender_id, width=160)
    await receives(camera, bob, "q")
    engine.want(sender.sender_id, width=1_280)
    await receives(camera, bob, "f")


async def test_a_strict_pin_forwards_nothing_while_its_layer_is_not_received(engine: Bench) -> None:
    camera, bob, sender = await simulcast(engine)
    engine.apply(SelectLayer(sender.sender_id, "q", strict=True))
    await receives(camera, bob, "q")
    await engine.settle()
    await engine.advance(3.0)  # and no packet of q in them
    count = len(bob.rtp)
    for _ in range(5):
        camera.send("f", is_key=True)
        await engine.settle()
    assert len(bob.rtp) == count
    engine.apply(SelectLayer(sender.sender_id, "q"))
    await receives(camera, bob, "q")
    assert {p.payload[-1:] for p in bob.rtp[count:]} <= {b"q", b"f"}


async def temporal(engine: Bench) -> tuple[EnginePeer, EnginePeer, SetSender]:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    sender = engine.subscribe(bob, "cam")
    ann.send_rtp(media(10, payload=vp8(100, is_key=True)))
    await eventually(lambda: len(bob.rtp) == 1)
    return ann, bob, sender


def pictures(peer: EnginePeer) -> list[tuple[int, int]]:
    """(temporal layer, picture id) of what came, in the order of its numbers."""
    found = []
    for packet in sorted(peer.rtp, key=lambda p: (p.sequence - peer.rtp[0].sequence) & 0xFFFF):
        descriptor = vp8_descriptor(packet.payload)
        if descriptor is not None:
            found.append((descriptor.temporal, descriptor.picture_id))
    return found


def steps(peer: EnginePeer) -> list[int]:
    """The numbers that came, from the first, in order."""
    return sorted((p.sequence - peer.rtp[0].sequence) & 0xFFFF for p in peer.rtp)


async def test_dropped_temporal_layers_leave_no_gap_in_numbers_and_pictures(engine: Bench) -> None:
    ann, bob, sender = await temporal(engine)
    engine.apply(SelectLayer(sender.sender_id, None, 0))
    await engine.settle()
    for place, layer in enumerate((2, 1, 2, 0, 2, 1, 2, 0), 1):
        ann.send_rtp(media(10 + place, payload=vp8(100 + place, temporal=layer, is_sync=True)))
    await eventually(lambda: len(bob.rtp) == 3)
    assert pictures(bob) == [(0, 100), (0, 101), (0, 102)]
    assert steps(bob) == [0, 1, 2]


async def test_more_temporal_layers_begin_at_a_picture_that_needs_none_of_them(engine: Bench) -> None:
    ann, bob, sender = await temporal(engine)
    engine.apply(SelectLayer(sender.sender_id, None, 0))
    await engine.settle()
    ann.send_rtp(media(11, payload=vp8(101, temporal=1, is_sync=True)))
    ann.send_rtp(media(12, payload=vp8(102)))
    await eventually(lambda: len(bob.rtp) == 2)
    engine.apply(SelectLayer(sender.sender_id, None, 1))
    await engine.settle()
    for number, is_sync in ((13, False), (14, True), (15, False)):
        ann.send_rtp(media(number, payload=vp8(90 + number, temporal=1, is_sync=is_sync)))
    ann.send_rtp(media(16, payload=vp8(106, temporal=2, is_sync=True)))
    ann.send_rtp(media(17, payload=vp8(107)))
    await eventually(lambda: len(bob.rtp) == 5)
    assert [layer for layer, _ in pictures(bob)] == [0, 0, 1, 1, 0]
    assert steps(bob) == [0, 1, 2, 3, 4]


async def test_a_late_packet_of_a_dropped_layer_leaves_padding_in_its_place(engine: Bench) -> None:
    ann, bob, sender = await temporal(engine)
    engine.apply(SelectLayer(sender.sender_id, None, 0))
    await engine.settle()
    ann.send_rtp(media(12, payload=vp8(102)))
    await eventually(lambda: len(bob.rtp) == 2)
    ann.send_rtp(media(11, payload=vp8(101, temporal=1)))
    await eventually(lambda: len(bob.rtp) == 3)
    assert steps(bob) == [0, 1, 2]
    assert (bob.rtp[2].payload, bob.rtp[2].padding > 0) == (b"", True)


async def four_videos(engine: Bench) -> dict[str, EnginePeer]:
    """Four publishers; bob receives them all."""
    bob = await engine.peer("bob")
    peers = {name: await engine.peer(name) for name in ("one", "two", "three", "screen")}
    for name, peer in peers.items():
        engine.publish(peer, name, is_screen=name == "screen")
        engine.subscribe(bob, name)
    return peers


async def shown(engine: Bench, peers: dict[str, EnginePeer], names: set[str]) -> None:
    """Waits until the videos that go out are those, while everybody sends key frames."""

    def are_shown() -> bool:
        for peer in peers.values():
            peer.number += 1
            peer.send_rtp(media(peer.number, payload=KEY_FRAME))
        last = {e.sender_id: e.paused for e in engine.of(SenderChanged)}
        return {sender for sender, reason in last.items() if reason == "none"} == {f"bob/{name}" for name in names}

    await eventually(are_shown)


async def test_the_last_n_follow_rank(engine: Bench) -> None:
    peers = await four_videos(engine)
    await shown(engine, peers, {"one", "two", "three", "screen"})
    engine.apply(SetLastN("bob", 2), RankTrack("two", 0))
    await shown(engine, peers, {"screen", "two"})
    engine.want("bob/three", pinned=True)
    await shown(engine, peers, {"screen", "three"})
    assert engine.of(SenderChanged, sender_id="bob/two")[-1].paused == "last-n"
    engine.want("bob/screen", visible=False)
    engine.apply(RankTrack("one", 0), RankTrack("two", 1))
    await shown(engine, peers, {"one", "three"})
    assert engine.of(SenderChanged, sender_id="bob/screen")[-1].paused == "hidden"
    engine.apply(RemoveSender("bob/one"))
    engine.events.clear()
    await shown(engine, peers, {"two"})
    engine.apply(SetLastN("bob", None))
    engine.want("bob/screen")
    await shown(engine, peers, {"two", "screen"})


async def test_layers_that_nobody_receives_are_told_after_some_seconds_and_at_once_when_wanted(engine: Bench) -> None:
    _, _, sender = await simulcast(engine)
    engine.want(sender.sender_id, width=160)
    await engine.settle()
    assert not engine.of(LayersWanted)
    await engine.advance(6.0)
    await eventually(lambda: engine.of(LayersWanted) == [LayersWanted("cam", (("q", True), ("f", False)))])
    engine.want(sender.sender_id, visible=False)
    await engine.advance(1.0)
    await engine.advance(5.0)
    await eventually(lambda: engine.of(LayersWanted)[-1] == LayersWanted("cam", (("q", False), ("f", False))))
    engine.want(sender.sender_id, width=1_280)
    await eventually(lambda: dict(engine.of(LayersWanted)[-1].layers)["f"], within_s=10.0)


async def test_what_goes_on_to_subscribers_of_an_orientation_and_a_dependency_descriptor(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    descriptor = bytes(range(1, 21))
    first, second, third = media(1, payload=KEY_FRAME), media(2), media(3)
    first.extensions |= {12: descriptor, 13: b"\x03"}
    second.extensions |= {12: descriptor[:3]}
    for packet in (first, second, third):
        ann.send_rtp(packet)
    await eventually(lambda: len(bob.rtp) == 3)
    got = [{n: v for n, v in packet.extensions.items() if n in {4, 12, 13}} for packet in bob.rtp]
    assert got == [{4: b"s0", 12: descriptor, 13: b"\x03"}, {4: b"s0", 12: descriptor[:3]}, {4: b"s0"}]
    bob.send_rtcp(rtcp.nack(1, bob.rtp[0].ssrc, [bob.rtp[0].sequence]))
    await eventually(lambda: len(bob.rtp) == 4)
    assert bob.rtp[3].payload[2:] == KEY_FRAME
    assert (bob.rtp[3].extensions[12], bob.rtp[3].extensions[13]) == (descriptor, b"\x03")


def sent_at(packet: RtpPacket) -> int:
    """abs-send-time in 1/262144 s."""
    return int.from_bytes(packet.extensions[2], "big")


async def test_the_time_of_sending_is_written_anew_in_each_packet_and_repair(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    await engine.advance(2.0)
    bob.send_rtcp(rtcp.nack(1, bob.rtp[0].ssrc, [bob.rtp[0].sequence]))
    await eventually(lambda: len(bob.rtp) == 2)
    passed = (sent_at(bob.rtp[1]) - sent_at(bob.rtp[0])) & 0xFFFFFF
    assert 2.0 <= passed / (1 << 18) < 4.0


async def test_another_worker_serves_its_own_port(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob", worker=1)
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    assert len(set(engine.engine.ports)) == len(engine.engine.ports) >= 1
    assert engine.engine.name in {"native", "reference"}


async def test_an_av1_track_begins_where_a_coded_video_sequence_does(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam", AV1)
    engine.subscribe(bob, "cam", AV1)
    for number, payload in enumerate((b"\x10\x32rest", b"\x18\x0arest", b"\x10\x32more"), 1):
        ann.send_rtp(media(number, payload=payload, payload_type=45))
    await eventually(lambda: [p.payload for p in bob.rtp] == [b"\x18\x0arest", b"\x10\x32more"])


async def test_a_snapshot_tells_what_each_track_subscriber_and_worker_does(engine: Bench) -> None:
    _, bob, sender = await simulcast(engine)
    engine.want(sender.sender_id, visible=False)
    await eventually(lambda: pauses(engine, sender)[-1:] == ["hidden"])
    snapshot = engine.engine.snapshot()
    (track,) = snapshot.tracks
    assert (track.track_id, track.codec, track.senders) == ("cam", "VP8", 1)
    assert [layer.rid for layer in track.layers] == ["q", "f"]
    assert min(layer.packets for layer in track.layers) >= 1
    (subscriber,) = snapshot.subscribers
    assert (subscriber.transport_id, subscriber.senders) == ("bob", 1)
    assert {reason: count for reason, count in subscriber.paused.items() if count} == {"hidden": 1}
    await eventually(lambda: sum(worker.transports for worker in engine.engine.snapshot().workers) == 2)
    assert len(snapshot.workers) == len(engine.engine.ports)
    assert len(bob.rtp) >= 1


async def test_rates_are_those_of_the_last_second(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    number = 0

    def flows() -> bool:
        nonlocal number
        number += 1
        ann.send_rtp(media(number, payload=KEY_FRAME + bytes(1_000)))
        snapshot = engine.engine.snapshot()
        layer = snapshot.tracks[0].layers[:1]
        return bool(layer) and layer[0].bitrate_bps > 100_000 and snapshot.subscribers[0].sent_bps > 100_000

    await eventually(flows)
    await eventually(lambda: engine.of(LinkReport, transport_id="bob") != [])
