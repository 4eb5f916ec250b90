"""Spatial layers in one stream (VP9 SVC, RFC 9628): the native engine leaves out what a tile has no use for."""

from collections.abc import AsyncIterator

import pytest

from conference.ports.forwarding import TrackCodec
from conference.protocol.rtp import RtpPacket
from tests.support.engine import Bench, EnginePeer, NativeFactory, bench, has_native, media
from tests.support.waiting import eventually

needs_native = pytest.mark.skipif(not has_native(), reason="the native data plane is not installed (no Rust toolchain)")
pytestmark = [pytest.mark.contract, needs_native]

VP9 = TrackCodec("VP9", 98, 90_000, None)
SPATIAL = 3


@pytest.fixture
async def engine() -> AsyncIterator[Bench]:
    async with bench(NativeFactory()) as made:
        yield made


def vp9(picture: int, spatial: int, *, is_key: bool = False) -> bytes:
    """The only packet of one spatial layer of a picture: 15-bit picture id, layer indices, begin and end of frame."""
    inter = 0 if is_key else 0x40
    dependent = 1 if spatial else 0
    head = bytes((0x80 | inter | 0x20 | 0x08 | 0x04, 0x80 | picture >> 8 & 0x7F, picture & 0xFF))
    return head + bytes((spatial << 1 | dependent, picture & 0xFF)) + b"layer%d" % spatial


class SvcCamera:
    """Sends pictures of three spatial layers, a packet each; the last carries the marker."""

    def __init__(self, engine: Bench, peer: EnginePeer) -> None:
        self._peer = peer
        self._number = self._picture = 0
        engine.publish(peer, "cam", VP9)

    def send(self, *, is_key: bool = False) -> None:
        self._picture += 1
        for spatial in range(SPATIAL):
            self._number += 1
            packet = media(self._number, payload=vp9(self._picture, spatial, is_key=is_key), payload_type=98)
            packet.timestamp = self._picture * 3_000
            packet.marker = spatial == SPATIAL - 1
            self._peer.send_rtp(packet)


def layers(packets: list[RtpPacket]) -> list[int]:
    return [packet.payload[-1] - ord("0") for packet in packets]


def by_picture(packets: list[RtpPacket]) -> list[list[RtpPacket]]:
    found: dict[int, list[RtpPacket]] = {}
    for packet in packets:
        found.setdefault(packet.timestamp, []).append(packet)
    return list(found.values())


async def test_layers_above_the_tile_are_left_out_and_the_picture_still_ends_with_a_marker(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    camera = SvcCamera(engine, ann)
    engine.subscribe(bob, "cam", VP9)
    camera.send(is_key=True)
    await eventually(lambda: layers(bob.rtp) == [0, 1, 2])
    engine.want("bob/cam", width=160)

    def is_lowest_only() -> bool:
        camera.send()
        return layers(bob.rtp[-3:]) == [0, 0, 0]

    await eventually(is_lowest_only)
    low = [picture for picture in by_picture(bob.rtp) if layers(picture) == [0]]
    assert len(low) >= 3
    assert all(picture[-1].marker for picture in low), "a receiver waits for the end of the picture"
    numbers = [p.sequence for p in bob.rtp]
    assert [(n - numbers[0]) & 0xFFFF for n in numbers] == list(range(len(numbers))), "no hole"


async def test_a_larger_tile_gets_the_upper_layers_back_at_a_key_frame(engine: Bench) -> None:
    ann, bob = await engine.peer("ann"), await engine.peer("bob")
    camera = SvcCamera(engine, ann)
    engine.subscribe(bob, "cam", VP9)
    camera.send(is_key=True)
    await eventually(lambda: layers(bob.rtp) == [0, 1, 2])
    engine.want("bob/cam", width=160)

    def is_lowest_only() -> bool:
        camera.send()
        return layers(bob.rtp[-3:]) == [0, 0, 0]

    await eventually(is_lowest_only)
    asked = len(ann.rtcp)
    engine.want("bob/cam", width=1_280)
    await engine.settle()
    await eventually(lambda: len(ann.rtcp) > asked)
    camera.send()
    count = len(bob.rtp)
    await eventually(lambda: len(bob.rtp) >= count)
    assert layers(bob.rtp[-1:]) == [0], "upper layers of a picture in the middle cannot be decoded"
    camera.send(is_key=True)
    await eventually(lambda: layers(bob.rtp[-3:]) == [0, 1, 2])
