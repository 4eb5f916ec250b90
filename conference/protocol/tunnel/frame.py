"""Frames: 12 bytes and a payload, one after the other (docs/tunnel-protocol.md).

`FrameReader` takes bytes as they come, cut anywhere, and gives whole frames; what cannot be a frame raises
ProtocolError `bad-frame`, after which the wire is to be closed.
"""

import struct
from collections.abc import Iterable, Iterator
from enum import IntEnum
from typing import Final, NamedTuple

from conference.domain.errors import ProtocolError

MAX_PAYLOAD: Final = 262_144
MAX_DATAGRAM: Final = 1_500
HEADER: Final = 12
KEY: Final = 1
DISCARDABLE: Final = 2
_HEAD: Final = struct.Struct("!BHHI")


class FrameType(IntEnum):
    SIGNAL = 0
    CONTROL = 1
    AUDIO = 2
    VIDEO = 3
    DATAGRAM = 4
    ACK = 5
    PING = 6
    PONG = 7


RELIABLE: Final = frozenset({FrameType.SIGNAL, FrameType.CONTROL})
MEDIA: Final = frozenset({FrameType.AUDIO, FrameType.VIDEO, FrameType.DATAGRAM})


class Frame(NamedTuple):
    """`timestamp` is in the stream's RTP clock, for ping and pong in milliseconds; `flags` are KEY and DISCARDABLE."""

    type: FrameType
    stream: int
    payload: bytes = b""
    sequence: int = 0
    timestamp: int = 0
    flags: int = 0

    @property
    def size(self) -> int:
        """Bytes on the wire."""
        return HEADER + len(self.payload)


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises ValueError where a field is out of its range."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError("the payload is longer than a frame may carry")
    try:
        head = _HEAD.pack(frame.type << 4 | frame.flags & 3, frame.stream, frame.sequence, frame.timestamp)
    except struct.error:
        raise ValueError("a field of the frame is out of its range") from None
    return head + len(frame.payload).to_bytes(3, "big") + frame.payload


def encode_all(frames: Iterable[Frame]) -> bytes:
    return b"".join(map(encode, frames))


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-frame", detail)


def _head(data: bytes | bytearray, at: int) -> tuple[FrameType, int, int, int, int, int]:
    first, stream, sequence, timestamp = _HEAD.unpack_from(data, at)
    length = int.from_bytes(data[at + 9 : at + HEADER], "big")
    try:
        kind = FrameType(first >> 4)
    except ValueError:
        raise _bad("there is no such type") from None
    if length > (MAX_DATAGRAM if kind is FrameType.DATAGRAM else MAX_PAYLOAD):
        raise _bad("the payload is longer than a frame may carry")
    if (kind in MEDIA) == (stream == 0):
        raise _bad("the stream is not one for this type")
    if kind in (FrameType.ACK, FrameType.PING, FrameType.PONG) and length:
        raise _bad("the type carries nothing")
    return kind, first & 3, stream, sequence, timestamp, length


class FrameReader:
    """Whole frames of a stream of bytes. Holds one unfinished frame at most."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def buffered(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises ProtocolError `bad-frame`, after those before it."""
        self._buffer += data
        at = 0
        try:
            while len(self._buffer) - at >= HEADER:
                kind, flags, stream, sequence, timestamp, length = _head(self._buffer, at)
                end = at + HEADER + length
                if len(self._buffer) < end:
                    return
                payload = bytes(self._buffer[at + HEADER : end])
                at = end
                yield Frame(kind, stream, payload, sequence, timestamp, flags)
        finally:
            del self._buffer[:at]


def decode_all(data: bytes) -> list[Frame]:
    """The frames of a message that holds whole ones. Raises ProtocolError `bad-frame`."""
    reader = FrameReader()
    frames = list(reader.feed(data))
    if reader.buffered:
        raise _bad("the last frame is cut off")
    return frames


def is_newer(sequence: int, than: int) -> bool:
    """Modulo 2^16 (RFC 1982)."""
    return 0 < (sequence - than) & 0xFFFF < 0x8000
