"""RTP packets: parsing, writing, header extensions in both forms (RFC 3550, RFC 8285), sequence arithmetic.

`parse` raises ProtocolError `bad-rtp` and nothing else, for any bytes. Both extension forms are read; written is the
one-byte form where it can hold every element, else the two-byte form.
"""

import struct
from collections.abc import Sequence
from typing import Final

from conference.domain.errors import ProtocolError

MAX_BYTES: Final = 1_500
MAX_EXTENSIONS: Final = 32
_FIXED: Final = struct.Struct("!BBHII")
_WORDS: Final = struct.Struct("!HH")
_ONE_BYTE: Final = 0xBEDE
_TWO_BYTE: Final = 0x1000


class RtpPacket:
    """One packet. `payload` excludes padding; `extensions` maps element id to value."""

    __slots__ = ("extensions", "marker", "padding", "payload", "payload_type", "sequence", "ssrc", "timestamp")

    def __init__(
        self,
        payload_type: int,
        sequence: int,
        timestamp: int,
        ssrc: int,
        payload: bytes,
        *,
        marker: bool = False,
        extensions: dict[int, bytes] | None = None,
        padding: int = 0,
    ) -> None:
        self.payload_type = payload_type
        self.sequence = sequence
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker
        self.extensions = extensions if extensions is not None else {}
        self.padding = padding


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-rtp", detail)


def parse(data: bytes) -> RtpPacket:
    """The packet in `data` (SRTP already removed). Raises ProtocolError `bad-rtp`."""
    size = len(data)
    if not 12 <= size <= MAX_BYTES:
        raise _bad("the size is not that of an RTP packet")
    first, second, sequence, timestamp, ssrc = _FIXED.unpack_from(data)
    if first >> 6 != 2:
        raise _bad("the version is not 2")
    start = 12 + 4 * (first & 0x0F)
    extensions: dict[int, bytes] = {}
    if first & 0x10:
        if start + 4 > size:
            raise _bad("the extension header is cut off")
        profile, words = _WORDS.unpack_from(data, start)
        begin, start = start + 4, start + 4 + 4 * words
        if start > size:
            raise _bad("the extension is longer than the packet")
        extensions = _read_extensions(profile, data, begin, start)
    padding = 0
    if first & 0x20:
        padding = data[-1]
        if not 0 < padding <= size - start:
            raise _bad("the padding is longer than the payload")
    if start > size:
        raise _bad("the header is cut off")
    payload = data[start : size - padding]
    return RtpPacket(
        second & 0x7F,
        sequence,
        timestamp,
        ssrc,
        payload,
        marker=second >= 0x80,
        extensions=extensions,
        padding=padding,
    )


def _read_extensions(profile: int, data: bytes, at: int, end: int) -> dict[int, bytes]:
    if profile == _ONE_BYTE:
        return _read_one_byte(data, at, end)
    if profile & 0xFFF0 == _TWO_BYTE:
        return _read_two_byte(data, at, end)
    return {}  # another profile's own header: not ours to read (RFC 3550 5.3.1)


def _read_one_byte(data: bytes, at: int, end: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at < end:
        head = data[at]
        at += 1
        if head == 0:
            continue
        if head >> 4 == 15:
            break  # RFC 8285 4.2: id 15 stops the parsing
        length = (head & 0x0F) + 1
        if at + length > end or len(found) >= MAX_EXTENSIONS:
            raise _bad("a header extension is longer than its block")
        found[head >> 4] = data[at : at + length]
        at += length
    return found


def _read_two_byte(data: bytes, at: int, end: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while at < end:
        if data[at] == 0:
            at += 1
            continue
        if at + 2 > end:
            raise _bad("a header extension is cut off")
        length = data[at + 1]
        if at + 2 + length > end or len(found) >= MAX_EXTENSIONS:
            raise _bad("a header extension is longer than its block")
        found[data[at]] = data[at + 2 : at + 2 + length]
        at += 2 + length
    return found


def extension_block(elements: Sequence[tuple[int, bytes]]) -> bytes:
    """The extension header with `elements`, empty for none."""
    if not elements:
        return b""
    if all(1 <= number <= 14 and 1 <= len(value) <= 16 for number, value in elements):
        profile = _ONE_BYTE
        body = b"".join(bytes((number << 4 | len(value) - 1,)) + value for number, value in elements)
    else:
        profile = _TWO_BYTE
        body = b"".join(bytes((number, len(value))) + value for number, value in elements)
    body += bytes(-len(body) % 4)
    return _WORDS.pack(profile, len(body) // 4) + body


def build(packet: RtpPacket) -> bytes:
    """The bytes of `packet`."""
    block = extension_block(list(packet.extensions.items()))
    tail = bytes(packet.padding - 1) + bytes((packet.padding,)) if packet.padding else b""
    first = 0x80 | (0x10 if block else 0) | (0x20 if packet.padding else 0)
    second = packet.payload_type | (0x80 if packet.marker else 0)
    head = _FIXED.pack(first, second, packet.sequence, packet.timestamp, packet.ssrc)
    return head + block + packet.payload + tail


def unroll(number: int, near: int) -> int:
    """The full number whose low 16 bits are `number` and that lies nearest to `near`. May be negative."""
    return near + ((number - near + 0x8000) & 0xFFFF) - 0x8000


def audio_level(value: bytes) -> int:
    """RFC 6464: the level in -dBov, 0 (loudest) to 127 (silence)."""
    return value[0] & 0x7F if value else 127
