"""A server's WebSocket frames as bytes (RFC 6455 5.2): unmasked, so that one frame serves every client of a room."""

from typing import Final

from conference.protocol.dialect import Dialect, wire_name
from conference.protocol.envelope import encode_raw

PING: Final = b"\x89\x00"


def text_frame(text: bytes) -> bytes:
    """A final text frame."""
    size = len(text)
    if size < 126:
        return bytes((0x81, size)) + text
    if size < 65_536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + text
    return b"\x81\x7f" + size.to_bytes(8, "big") + text


def close_frame(code: int, reason: str) -> bytes:
    """A close frame; the reason is cut to what a control frame holds (RFC 6455 5.5)."""
    body = code.to_bytes(2, "big") + reason.encode()[:123]
    return bytes((0x88, len(body))) + body


class Outgoing:
    """One message for many connections: encoded at most once a dialect."""

    __slots__ = ("_frames", "payload", "seq", "traceparent", "type")

    def __init__(self, type_: str, payload: bytes, *, seq: int = 0, traceparent: str | None = None) -> None:
        self.type = type_
        self.payload = payload
        self.seq = seq
        self.traceparent = traceparent
        self._frames: dict[Dialect, bytes] = {}

    def frame(self, dialect: Dialect) -> bytes:
        frame = self._frames.get(dialect)
        if frame is None:
            name = wire_name(dialect, self.type)
            text = encode_raw(name, self.payload, seq=self.seq or None, traceparent=self.traceparent)
            frame = self._frames[dialect] = text_frame(text.encode())
        return frame
