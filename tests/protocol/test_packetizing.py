"""Frames to RTP payloads and back: whatever the frame and the order, what comes out went in; aiortc agrees."""

from typing import Any

import pytest
from aiortc.codecs.h264 import H264PayloadDescriptor
from aiortc.codecs.vpx import VpxPayloadDescriptor
from hypothesis import given
from hypothesis import strategies as st

from conference.protocol.packetizing import h264, opus, vp8
from conference.protocol.packetizing.assembly import MAX_PACKETS, VIDEO_WAIT_S, FrameAssembler, WholeFrame
from conference.protocol.packetizing.receiving import IncomingStream
from conference.protocol.packetizing.sending import HISTORY, OutgoingStream, ntp_time, unix_ms
from conference.protocol.payload import vp8_descriptor
from conference.protocol.rtp import RtpPacket

pytestmark = [pytest.mark.protocol]

SIZES = st.integers(40, 1_150)
PICTURES = st.binary(min_size=1, max_size=6_000)
UNIT = st.binary(min_size=3, max_size=3_000).map(lambda b: bytes((0x41,)) + b.replace(b"\0", b"\1"))


def key(size: int = 3_000) -> bytes:
    return b"\x10" + bytes(range(1, 200)) * (size // 199)


def delta(size: int = 900) -> bytes:
    return b"\x11" + bytes(range(1, 200)) * (size // 199)


def stream(codec_type: int = 96) -> OutgoingStream:
    made = OutgoingStream(5, 6, 65_530, {4: b"0"}, {4: b"0", 11: b"q"})
    made.payload_type, made.rtx_payload_type = codec_type, 97
    return made


def packets(pictures: list[bytes], size: int = 500) -> list[RtpPacket]:
    """The packets of VP8 pictures, 3,000 ticks apart."""
    packetizer, out = vp8.Vp8Packetizer(), stream()
    return [
        packet
        for place, picture in enumerate(pictures)
        for packet in out.packets(packetizer.split(picture, size), place * 3_000)
    ]


@given(PICTURES, SIZES, st.booleans())
def test_a_vp8_picture_comes_back_whole(picture: bytes, size: int, discardable: bool) -> None:
    payloads = vp8.Vp8Packetizer(0x7FFF, 255).split(picture, size, is_discardable=discardable)
    assert all(len(payload) <= size for payload in payloads)
    assert [vp8.begins_picture(payload) for payload in payloads] == [True] + [False] * (len(payloads) - 1)
    assert vp8.join(payloads) == picture
    assert vp8.is_discardable(payloads) == (discardable and not vp8.is_key_frame(picture))


@given(PICTURES, SIZES)
def test_aiortc_reads_our_vp8_descriptor_as_we_do(picture: bytes, size: int) -> None:
    whole = b""
    for payload in vp8.Vp8Packetizer(9, 9).split(picture, size, is_discardable=True):
        theirs, rest = VpxPayloadDescriptor.parse(payload)
        ours = vp8_descriptor(payload)
        assert ours
        assert (theirs.picture_id, theirs.tl0picidx) == (ours.picture_id, ours.tl0)
        assert theirs.tid is not None
        assert theirs.tid[0] == ours.temporal
        whole += rest
    assert whole == picture


def test_a_discardable_picture_leaves_tl0_where_it_is() -> None:
    packetizer = vp8.Vp8Packetizer(0, 0)
    kinds = [(key(), False), (delta(), True), (delta(), False)]
    found = [vp8_descriptor(packetizer.split(p, 9_000, is_discardable=d)[0]) for p, d in kinds]
    assert [(d.temporal, d.tl0) for d in found if d] == [(0, 1), (1, 1), (0, 2)]


@given(st.lists(UNIT, min_size=1, max_size=5), SIZES)
def test_an_h264_access_unit_comes_back_whole(units: list[bytes], size: int) -> None:
    whole = b"".join(b"\0\0\0\1" + unit for unit in units)
    payloads = h264.H264Packetizer().split(whole, size)
    assert all(0 < len(payload) <= size for payload in payloads)
    assert h264.join(payloads) == whole
    theirs = b"".join(H264PayloadDescriptor.parse(payload)[1] for payload in payloads)
    assert theirs == whole


def test_an_aggregate_of_h264_units_is_taken_apart() -> None:
    sps, idr = b"\x67abc", b"\x65defg"
    stap = b"\x78" + b"".join(len(u).to_bytes(2, "big") + u for u in (sps, idr))
    joined = h264.join([stap])
    assert joined == b"\0\0\0\1" + sps + b"\0\0\0\1" + idr
    assert h264.is_key_frame(joined)
    assert h264.join([stap[:-1]]) is None


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_joining_anything_gives_a_picture_or_nothing(payloads: list[bytes]) -> None:
    for form in (vp8, h264):
        assert form.join(payloads) is None or payloads


@given(st.binary(max_size=1_400))
def test_reading_sound_gives_level_and_packet_or_nothing(payload: bytes) -> None:
    found = opus.read(payload)
    assert found is None or opus.write(*found) == payload


def test_sound_without_a_level_is_silence() -> None:
    assert opus.write(None, b"x") == b"\x7fx"


@given(st.randoms(use_true_random=False), st.lists(PICTURES, min_size=1, max_size=8))
def test_frames_come_in_order_whatever_the_order_of_packets(random: Any, pictures: list[bytes]) -> None:
    sent = packets([key(), *pictures])
    rest = sent[1:]
    random.shuffle(rest)
    assembler = FrameAssembler("VP8")
    found = [frame for packet in [sent[0], *rest] for frame in assembler.push(packet, 0.0)]
    assert [frame.data for frame in found] == [key(), *pictures]
    assert [frame.timestamp for frame in found] == [place * 3_000 for place in range(len(pictures) + 1)]


@given(st.sets(st.integers(1, 40)))
def test_nothing_that_was_lost_is_given_out_and_no_picture_that_needs_it(lost: set[int]) -> None:
    pictures = [key(), delta(), delta(), key(), delta(), delta(), key()]
    assembler, now = FrameAssembler("VP8"), 0.0
    found: list[WholeFrame] = []
    for place, packet in enumerate(packets(pictures)):
        now += 0.001
        if place not in lost:
            found += assembler.push(packet, now)
    found += assembler.expire(now + VIDEO_WAIT_S)
    number_of = {place * 3_000: picture for place, picture in enumerate(pictures)}
    previous = -3_000
    for frame in found:
        assert frame.data == number_of[frame.timestamp]
        assert frame.is_key or frame.timestamp == previous + 3_000
        previous = frame.timestamp


def test_a_lost_picture_asks_for_a_key_frame_until_one_comes() -> None:
    sent = packets([key(400), delta(400), delta(400), key(400)])
    assembler = FrameAssembler("VP8")
    assembler.push(sent[0], 0.0)
    asked = [assembler.needs_key]
    assert assembler.push(sent[2], 0.0) == []
    assert assembler.expire(VIDEO_WAIT_S) == []
    asked.append(assembler.needs_key)
    assert [frame.is_key for frame in assembler.push(sent[3], VIDEO_WAIT_S)] == [True]
    assert [*asked, assembler.needs_key] == [False, True, False]


@given(st.lists(st.tuples(st.integers(0, 65_535), st.binary(max_size=20), st.booleans()), max_size=60))
def test_an_assembler_takes_anything_and_stays_bounded(parts: list[tuple[int, bytes, bool]]) -> None:
    for codec in ("opus", "VP8", "H264"):
        assembler = FrameAssembler(codec)
        for now, (sequence, payload, marker) in enumerate(parts):
            assembler.push(RtpPacket(96, sequence, sequence * 10, 1, payload, marker=marker), now * 0.01)
            assembler.expire(now * 0.01)
        assert len(assembler._packets) <= MAX_PACKETS


def test_what_was_asked_for_is_repaired_and_read_as_if_it_had_come() -> None:
    out, packetizer = stream(), vp8.Vp8Packetizer()
    sent = [p for place in range(3) for p in out.packets(packetizer.split(key(400), 1_150), place)]
    incoming = IncomingStream(5, 6, "VP8", 96, 90_000)
    incoming.receive(sent[0], 0.0)
    assert incoming.receive(sent[2], 0.0) == []
    assert incoming.feedback(1, 0.02)
    repaired = out.repair((sent[1].sequence,))
    assert repaired[0].ssrc == 6
    assert [f.timestamp for f in incoming.receive(repaired[0], 0.03)] == [1, 2]


def test_the_history_is_bounded() -> None:
    out = stream()
    sent = [out.packets([b"x"], place)[0] for place in range(HISTORY + 1)]
    assert out.repair((sent[0].sequence,)) == []
    assert out.repair((sent[1].sequence,))


@given(st.integers(0, 4_000_000_000_000))
def test_ntp_time_is_unix_time(milliseconds: int) -> None:
    assert abs(unix_ms(ntp_time(milliseconds)) - milliseconds) < 1


def test_a_sender_report_carries_the_senders_clock_on() -> None:
    out = stream()
    out.packets([b"x"], 1_000)
    assert out.report(1.0) is None
    out.tell_clock(9_000, 1_000_000.0, 1.0)
    report = out.report(1.5)
    assert report
    assert (report.rtp_timestamp, report.packets) == (9_000 + 45_000, 1)
    assert abs(unix_ms(report.ntp) - 1_000_500) < 1
