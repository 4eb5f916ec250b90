"""The header extensions of what goes out to one subscriber: some are the engine's own, some are passed on.

Own are the mid, the transport-wide number and the time of sending, which are written anew in each packet; passed on
are the audio level, the orientation of a video and the dependency descriptor, which may need the two-byte form.
"""

from typing import Final, NamedTuple

from conference.ports.forwarding import ExtensionIds
from conference.protocol.rtp import extension_block

_FIXED_BYTES: Final = 12 + 4  # RTP header and the head of the extension block
_ABS_TIME_UNITS: Final = 1 << 18  # abs-send-time: seconds in 6.18 fixed point


class Passed(NamedTuple):
    """Values of an incoming packet's extensions that go on to subscribers; None where it has none."""

    level: int | None = None
    orientation: bytes | None = None
    descriptor: bytes | None = None


NOTHING: Final = Passed()


class Head(NamedTuple):
    """An extension block, and where in a packet without CSRCs its values stand."""

    block: bytes
    wide_at: int | None = None
    time_at: int | None = None
    level_at: int | None = None


class HeadWriter:
    """Makes the extension blocks of one sender."""

    def __init__(self, ids: ExtensionIds, mid: str) -> None:
        self._ids = ids
        self._mid = mid
        self._plain = self._make(None, None)

    def head(self, passed: Passed) -> Head:
        orientation = passed.orientation if self._ids.orientation is not None else None
        descriptor = passed.descriptor if self._ids.dependency_descriptor is not None else None
        if orientation is None and descriptor is None:
            return self._plain
        return self._make(orientation, descriptor)

    def _make(self, orientation: bytes | None, descriptor: bytes | None) -> Head:
        ids = self._ids
        parts: list[tuple[str, int | None, bytes | None]] = [
            ("wide", ids.transport_cc, b"\0\0"),
            ("time", ids.abs_send_time, b"\0\0\0"),
            ("level", ids.audio_level, b"\x7f"),
            ("mid", ids.mid, self._mid.encode()),
            ("orientation", ids.orientation, orientation),
            ("descriptor", ids.dependency_descriptor, descriptor),
        ]
        present = [(name, number, value) for name, number, value in parts if number is not None and value is not None]
        block = extension_block([(number, value) for _, number, value in present])
        step = 1 if block[:2] == b"\xbe\xde" else 2
        at, places = _FIXED_BYTES, {}
        for name, _, value in present:
            places[name] = at + step
            at += step + len(value)
        return Head(block, places.get("wide"), places.get("time"), places.get("level"))


def abs_send_time(now: float) -> bytes:
    """The 24 bits of abs-send-time for a moment in seconds."""
    return (int(now * _ABS_TIME_UNITS) & 0xFFFFFF).to_bytes(3, "big")
