"""RTP packets: both extension forms, padding, sequence arithmetic, and bytes that are none."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import rtp
from conference.protocol.rtp import RtpPacket

pytestmark = pytest.mark.protocol

IDS = st.integers(1, 14)
PACKETS = st.builds(
    RtpPacket,
    payload_type=st.integers(0, 127),
    sequence=st.integers(0, 65_535),
    timestamp=st.integers(0, 2**32 - 1),
    ssrc=st.integers(0, 2**32 - 1),
    payload=st.binary(max_size=50),
    marker=st.booleans(),
    extensions=st.dictionaries(IDS, st.binary(min_size=1, max_size=20), max_size=4),
    padding=st.sampled_from([0, 0, 1, 7, 255]),
)


def fields(packet: RtpPacket) -> tuple[object, ...]:
    return tuple(getattr(packet, name) for name in RtpPacket.__slots__)


@given(PACKETS)
def test_what_is_written_is_read_back(packet: RtpPacket) -> None:
    assert fields(rtp.parse(rtp.build(packet))) == fields(packet)


def test_the_one_byte_form_is_read_with_padding_and_stops_at_15() -> None:
    block = bytes.fromhex("bede000310aa0031bbccf010ff0000ff")
    packet = rtp.parse(bytes([0x90, 111]) + bytes(10) + block + b"pay")
    assert packet.extensions == {1: b"\xaa", 3: b"\xbb\xcc"}
    assert packet.payload == b"pay"


def test_the_two_byte_form_is_read_with_empty_and_long_values() -> None:
    block = bytes.fromhex("10000006") + b"\x01\x00\x00\x05\x13" + bytes(range(19))
    assert rtp.parse(bytes([0x90, 96]) + bytes(10) + block).extensions == {1: b"", 5: bytes(range(19))}


def test_csrcs_and_foreign_extension_headers_are_stepped_over() -> None:
    packet = rtp.parse(bytes([0x92, 0]) + bytes(10) + b"csrccsrc" + b"\xab\xcd\0\1abcd" + b"pay")
    assert (packet.payload, packet.extensions) == (b"pay", {})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(12),
        b"\xc0" + bytes(11),
        b"\x8f" + bytes(20),
        b"\x90" + bytes(11) + b"\xbe",
        b"\x90" + bytes(11) + b"\xbe\xde\0\1",
        b"\x90" + bytes(11) + b"\xbe\xde\0\1\x1f\0\0\0",
        b"\x90" + bytes(11) + b"\x10\0\0\1\1\x09\0\0",
        b"\x90" + bytes(11) + b"\x10\0\0\1\0\0\0\1",
        b"\xa0" + bytes(11) + b"\0",
        b"\xa0" + bytes(11) + b"\x05",
        b"\x80" + bytes(1_500),
    ],
)
def test_what_is_not_rtp_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="bad-rtp"):
        rtp.parse(data)


@given(st.binary(max_size=100).map(lambda data: b"\x90" + data))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(ProtocolError):
        rtp.parse(data)


@given(st.integers(0, 2**40), st.integers(-0x7FFF, 0x7FFF))
def test_a_number_is_unrolled_to_the_nearest(near: int, distance: int) -> None:
    assert rtp.unroll((near + distance) & 0xFFFF, near) == near + distance


def test_levels_are_read_without_the_voice_bit() -> None:
    assert [rtp.audio_level(value) for value in (b"\xa0", b"\x20", b"")] == [32, 32, 127]
