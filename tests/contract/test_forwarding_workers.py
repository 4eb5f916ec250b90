"""A room that spans packet workers of the native engine: its output is that of one worker, packet for packet."""

from collections.abc import Callable

import pytest

from conference.ports.forwarding import (
    AudioLevels,
    FirstForwarded,
    LayersWanted,
    MuteTrack,
    RemoveTransport,
    SelectLayer,
)
from conference.protocol import rtcp
from conference.protocol.rtp import RtpPacket
from tests.support.engine import AUDIO, DELTA, KEY_FRAME, Bench, EnginePeer, NativeFactory, bench, has_native, media
from tests.support.waiting import eventually

needs_native = pytest.mark.skipif(not has_native(), reason="the native data plane is not installed (no Rust toolchain)")
pytestmark = [pytest.mark.contract, needs_native]

Heard = list[tuple[int, int, bytes, bool, dict[int, bytes]]]


def plain(packets: list[RtpPacket]) -> Heard:
    """What a subscriber got, with the random beginnings of numbers and clocks taken off, and the time of sending."""
    first = packets[0]
    return [
        (
            (p.sequence - first.sequence) & 0xFFFF,
            (p.timestamp - first.timestamp) & 0xFFFFFFFF,
            p.payload,
            p.marker,
            {number: value for number, value in p.extensions.items() if number != 2},
        )
        for p in packets
    ]


async def meeting(engine: Bench, worker: int) -> dict[str, Heard]:
    """A publisher of simulcast video and sound on worker 0, a subscriber of both on `worker`."""
    ann, bob = await engine.peer("ann"), await engine.peer("bob", worker)
    engine.publish(ann, "cam", rids=("q", "f"))
    engine.publish(ann, "mic", AUDIO, mid="1", ssrcs=((70, None),))
    cam = engine.subscribe(bob, "cam")
    mic = engine.subscribe(bob, "mic", AUDIO)
    engine.apply(SelectLayer(cam.sender_id, "q"))
    await engine.settle()

    def layer(number: int, rid: str, payload: bytes) -> None:
        packet = media(number, payload=payload + rid.encode(), ssrc={"q": 60, "f": 61}[rid])
        packet.extensions[10] = rid.encode()
        ann.send_rtp(packet)

    def got(ssrc: int) -> list[RtpPacket]:
        return [p for p in bob.rtp if p.ssrc == ssrc]

    async def step(number: int, rid: str, payload: bytes, expected: int) -> None:
        layer(number, rid, payload)
        await eventually(lambda: len(got(cam.ssrc)) == expected)

    await step(1, "q", KEY_FRAME, 1)
    await step(2, "q", DELTA, 2)
    await step(4, "q", DELTA, 3)
    await step(3, "q", DELTA, 4)  # late
    engine.apply(SelectLayer(cam.sender_id, "f"))
    layer(200, "f", DELTA)
    await eventually(lambda: rtcp.KeyFrameRequest(61) in ann.rtcp)
    await step(201, "f", KEY_FRAME, 5)
    engine.apply(MuteTrack("cam", True))
    await engine.settle()
    layer(202, "f", DELTA)
    await engine.settle()
    engine.apply(MuteTrack("cam", False))
    await engine.settle()
    await step(203, "f", KEY_FRAME, 6)
    for number in range(1, 6):
        packet = media(number, payload=b"opus%d" % number, ssrc=70, payload_type=111, mid="1")
        packet.extensions[1] = bytes((0x80 | 20 + number,))
        ann.send_rtp(packet)
        await eventually(lambda number=number: len(got(mic.ssrc)) == number)  # type: ignore[misc]
    video = plain(got(cam.ssrc))
    # The clock goes on over a switch by the time that has passed: that differs from run to run.
    return {"cam": [(number, 0, *rest) for number, _, *rest in video], "mic": plain(got(mic.ssrc))}  # type: ignore[misc]


async def test_a_spanning_room_gives_the_same_output_as_one_worker() -> None:
    heard = []
    for worker in (0, 1):
        async with bench(NativeFactory(workers=2)) as engine:
            heard.append(await meeting(engine, worker))
            assert engine.of(FirstForwarded, sender_id="bob/cam") != []
            await eventually(lambda made=engine: any(("mic", 21) in e.levels for e in made.of(AudioLevels)))  # type: ignore[misc]
    assert heard[0] == heard[1]


@pytest.fixture
def two() -> Callable[[], NativeFactory]:
    return lambda: NativeFactory(workers=2)


async def spanning(engine: Bench) -> tuple[EnginePeer, EnginePeer]:
    ann, bob = await engine.peer("ann"), await engine.peer("bob", 1)
    engine.publish(ann, "cam")
    engine.subscribe(bob, "cam")
    await engine.settle()
    ann.send_rtp(media(1, payload=KEY_FRAME))
    await eventually(lambda: len(bob.rtp) == 1)
    return ann, bob


async def test_a_key_frame_is_asked_for_through_the_pipe(two: Callable[[], NativeFactory]) -> None:
    async with bench(two()) as engine:
        ann, bob = await spanning(engine)
        asked = len(ann.rtcp)
        bob.send_rtcp(rtcp.picture_loss(1, bob.rtp[0].ssrc))
        await eventually(lambda: rtcp.KeyFrameRequest(50) in ann.rtcp[asked:])


async def test_losses_are_repaired_on_each_side_of_the_pipe(two: Callable[[], NativeFactory]) -> None:
    async with bench(two()) as engine:
        ann, bob = await spanning(engine)
        ann.send_rtp(media(3))
        await eventually(lambda: rtcp.Nack(50, (2,)) in ann.rtcp)
        lost = bob.rtp[0]
        bob.send_rtcp(rtcp.nack(1, lost.ssrc, [lost.sequence]))
        await eventually(lambda: any(p.ssrc == lost.ssrc + 1 and p.payload[2:] == lost.payload for p in bob.rtp))


async def test_layers_are_wanted_where_any_worker_has_use_for_them(two: Callable[[], NativeFactory]) -> None:
    async with bench(two()) as engine:
        ann = await engine.peer("ann")
        near, far = await engine.peer("near", 0), await engine.peer("far", 1)
        engine.publish(ann, "cam", rids=("q", "f"))
        for peer in (near, far):
            engine.subscribe(peer, "cam")
        engine.want("near/cam", width=160)
        engine.want("far/cam", width=160)
        await engine.settle()
        await engine.advance(6.0)
        ann.check()
        near.check()
        far.check()
        await eventually(lambda: engine.of(LayersWanted)[-1:] == [LayersWanted("cam", (("q", True), ("f", False)))])
        engine.want("far/cam", width=1_280)
        await eventually(lambda: engine.of(LayersWanted)[-1] == LayersWanted("cam", (("q", True), ("f", True))))


async def test_the_end_of_a_publisher_ends_the_track_on_both_workers(two: Callable[[], NativeFactory]) -> None:
    async with bench(two()) as engine:
        await spanning(engine)
        engine.apply(RemoveTransport("ann"))
        await eventually(lambda: (engine.engine.stats().tracks, engine.engine.stats().senders) == (0, 0))
