"""VP8 pictures as RTP payloads (RFC 7741), with a picture id of 15 bits, TL0PICIDX and two temporal layers (L1T2).

An SFU drops the upper temporal layer by these fields, so a picture that no later one refers to goes as layer 1.
"""

from collections.abc import Sequence
from typing import Final

from conference.protocol.payload import vp8_descriptor

_START: Final = 0x10
_EXTENDED: Final = 0x80
_FIELDS: Final = 0xE0  # picture id, TL0PICIDX, TID
_DESCRIPTOR: Final = 6


def is_key_frame(picture: bytes) -> bool:
    """RFC 6386 9.1: the lowest bit of the frame tag is clear."""
    return bool(picture) and not picture[0] & 1


class Vp8Packetizer:
    """The numbering of one stream. `picture_id` and `tl0` begin anywhere, best at random."""

    def __init__(self, picture_id: int = 0, tl0: int = 0) -> None:
        self._picture_id = picture_id & 0x7FFF
        self._tl0 = tl0 & 0xFF

    def split(self, picture: bytes, size: int, *, is_discardable: bool = False) -> list[bytes]:
        """Payloads of at most `size` bytes (which is more than the descriptor's six), nearly equal."""
        upper = is_discardable and not is_key_frame(picture)
        if not upper:
            self._tl0 = (self._tl0 + 1) & 0xFF
        self._picture_id = (self._picture_id + 1) & 0x7FFF
        layer = 0x60 if upper else 0  # TID 1 refers to the lowest layer alone: Y
        fields = bytes((_FIELDS,)) + (0x8000 | self._picture_id).to_bytes(2, "big") + bytes((self._tl0, layer))
        count = max(1, -(-len(picture) // (size - _DESCRIPTOR)))
        step = -(-len(picture) // count)
        return [
            bytes((_EXTENDED | (0 if place else _START),)) + fields + picture[place * step : (place + 1) * step]
            for place in range(count)
        ]


def begins_picture(payload: bytes) -> bool:
    """Start of the first partition."""
    return bool(payload) and payload[0] & 0x17 == _START


def join(payloads: Sequence[bytes]) -> bytes | None:
    """The picture out of all its payloads in order; None where they are none."""
    if not payloads or not begins_picture(payloads[0]):
        return None
    parts = []
    for payload in payloads:
        descriptor = vp8_descriptor(payload)
        if descriptor is None or descriptor.size >= len(payload):
            return None
        parts.append(payload[descriptor.size :])
    return b"".join(parts)


def is_discardable(payloads: Sequence[bytes]) -> bool:
    descriptor = vp8_descriptor(payloads[0])
    return descriptor is not None and descriptor.temporal > 0
