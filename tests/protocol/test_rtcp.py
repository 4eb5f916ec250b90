"""RTCP: reports and feedback, read and written; aiortc's parser is the second opinion."""

from contextlib import suppress
from typing import Any

import pytest
from aiortc import rtp as aiortc_rtp
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import rtcp

pytestmark = pytest.mark.protocol

U32 = st.integers(0, 2**32 - 1)
BLOCKS = st.builds(rtcp.ReportBlock, U32, st.integers(0, 255), st.integers(-0x800000, 0x7FFFFF), U32, U32, U32, U32)


def read_by_aiortc(data: bytes) -> list[Any]:
    return list(aiortc_rtp.RtcpPacket.parse(data))


@given(U32, st.integers(0, 2**64 - 1), U32, U32, U32, st.lists(BLOCKS, max_size=4))
def test_a_sender_report_is_read_back(
    ssrc: int, ntp: int, timestamp: int, packets: int, octets: int, blocks: list[rtcp.ReportBlock]
) -> None:
    report = rtcp.SenderReport(ssrc, ntp, timestamp, packets, octets, tuple(blocks))
    data = rtcp.sender_report(report) + rtcp.cname(ssrc, "someone")
    assert rtcp.parse(data) == [report]
    first, second = read_by_aiortc(data)
    assert (first.sender_info.ntp_timestamp, first.ssrc) == (ntp, ssrc)
    assert second.chunks[0].ssrc == ssrc


@given(U32, st.lists(BLOCKS, max_size=31))
def test_a_receiver_report_is_read_back(ssrc: int, blocks: list[rtcp.ReportBlock]) -> None:
    report = rtcp.ReceiverReport(ssrc, tuple(blocks))
    assert rtcp.parse(rtcp.receiver_report(report)) == [report]


@given(st.integers(0, 65_535), st.sets(st.integers(0, 200), min_size=1, max_size=60))
def test_a_nack_names_every_number_once_across_the_wrap(first: int, distances: set[int]) -> None:
    lost = [(first + distance) & 0xFFFF for distance in sorted(distances)]
    data = rtcp.nack(1, 2, lost)
    assert rtcp.parse(data) == [rtcp.Nack(2, tuple(lost))]
    assert [number & 0xFFFF for number in read_by_aiortc(data)[0].lost] == lost  # aiortc counts on past the wrap


def test_a_pli_and_a_fir_ask_for_a_key_frame() -> None:
    fir = b"\x84\xce\0\4" + bytes(8) + b"\0\0\0\x07\1\0\0\0"
    assert rtcp.parse(rtcp.picture_loss(1, 9) + fir) == [rtcp.KeyFrameRequest(9), rtcp.KeyFrameRequest(7)]


def test_a_bye_and_unknown_packets_are_read_and_skipped() -> None:
    bye, unknown = b"\x81\xcb\0\1\0\0\0\5", b"\x80\xd5\0\1\0\0\0\5"
    assert rtcp.parse(unknown + bye) == [rtcp.Bye((5,))]


def test_feedback_of_ten_regular_packets_is_the_drafts_bytes() -> None:
    arrivals = [(100 + n, 0.064 + n * 0.001) for n in range(10)]
    packet, used = rtcp.transport_feedback(1, 2, 3, 100, arrivals)
    assert used == 10
    assert packet[:2] == b"\x8f\xcd"
    assert packet[12:20] == (100).to_bytes(2, "big") + (10).to_bytes(2, "big") + (1).to_bytes(3, "big") + b"\3"
    assert packet[20:22] == b"\x20\x0a", "one run of ten small deltas"
    assert packet[22:32] == bytes([0] + [4] * 9)
    assert len(packet) % 4 == 0


def read_feedback(packet: bytes) -> dict[int, float]:
    """An independent reader: number -> arrival, None left out."""
    base, count = int.from_bytes(packet[12:14], "big"), int.from_bytes(packet[14:16], "big")
    clock = int.from_bytes(packet[16:19], "big") * 256
    symbols: list[int] = []
    at = 20
    while len(symbols) < count:
        chunk = int.from_bytes(packet[at : at + 2], "big")
        at += 2
        if not chunk >> 15:
            symbols += [chunk >> 13 & 3] * (chunk & 0x1FFF)
        else:
            symbols += [chunk >> shift & 3 for shift in range(12, -1, -2)]
    found = {}
    for place, symbol in enumerate(symbols[:count]):
        if symbol:
            size = symbol
            clock += int.from_bytes(packet[at : at + size], "big", signed=size == 2)
            at += size
            found[(base + place) & 0xFFFF] = clock / 4_000
    return found


@given(
    st.integers(0, 70_000),
    st.lists(st.tuples(st.integers(1, 40), st.integers(-20, 400)), min_size=1, max_size=80),
    st.integers(0, 5),
)
def test_feedback_says_when_each_packet_came(first: int, steps: list[tuple[int, int]], gap: int) -> None:
    number, at, arrivals = first + gap, 10.0, []
    for distance, milliseconds in steps:
        at += milliseconds / 1_000
        arrivals.append((number, at))
        number += distance
    base = first
    told: dict[int, float] = {}
    rest = arrivals
    while rest:
        packet, used = rtcp.transport_feedback(1, 2, 0, base, rest)
        assert used > 0
        assert len(packet) < 1_200
        told |= read_feedback(packet)
        base, rest = rest[used - 1][0] + 1, rest[used:]
    assert told.keys() == {number & 0xFFFF for number, _ in arrivals}
    for number, at in arrivals:
        assert abs(told[number & 0xFFFF] - at) < 0.001


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\xc8\0",
        b"\x40\xc9\0\0",
        b"\x80\xc9\0\5\0\0\0\0",
        b"\x80\xc8\0\1\0\0\0\0",
        b"\x81\xc9\0\1\0\0\0\0",
        b"\x82\xcb\0\1\0\0\0\0",
        b"\x81\xcd\0\1\0\0\0\0",
        b"\xa0\xc9\0\1\0\0\0\x09",
        b"\xa0\xc9\0\0",
        b"\x80\xc9\0\0" + b"\0",
        b"\x80\xd5\0\0" * 65,
    ],
)
def test_what_is_not_rtcp_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="bad-rtcp"):
        rtcp.parse(data)


def test_of_a_nack_after_a_long_burst_of_losses_the_first_numbers_are_read() -> None:
    data = rtcp.nack(1, 2, range(1_000)) + rtcp.picture_loss(1, 2)
    lost, picture = rtcp.parse(data)
    assert lost == rtcp.Nack(2, tuple(range(rtcp.MAX_LOST)))
    assert picture == rtcp.KeyFrameRequest(2), "what comes beside it counts"


@given(st.lists(st.binary(max_size=60), max_size=4), st.sampled_from(range(199, 208)), st.integers(0, 31))
def test_any_bytes_are_parsed_or_refused(parts: list[bytes], kind: int, count: int) -> None:
    data = b"".join(
        bytes([0x80 | count, kind]) + (len(p) // 4).to_bytes(2, "big") + p[: len(p) // 4 * 4] for p in parts
    )
    with suppress(ProtocolError):
        rtcp.parse(data)


@given(st.binary(max_size=100))
def test_random_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(ProtocolError):
        rtcp.parse(data)
