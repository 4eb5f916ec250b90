"""What an SFU reads in media payloads: key frame starts, and the VP8 descriptor it rewrites (RFC 7741, 6184, 9628).

All functions are total: a payload that is too short or malformed is no key frame and has no descriptor.
"""

from typing import Final, NamedTuple

AUDIO_CODECS: Final = frozenset({"opus", "red"})
_SPS: Final = 7
_IDR: Final = 5
_STAP_A: Final = 24
_FU_A: Final = 28


class Vp8Descriptor(NamedTuple):
    """Offsets of the fields that a layer switch rewrites; None where the field is absent."""

    size: int
    picture_id_at: int | None
    picture_id: int
    is_long: bool  # a picture id of 15 bits
    tl0_at: int | None
    tl0: int
    temporal: int = 0  # TID, 0 where absent
    is_sync: bool = False  # Y: depends on the lowest temporal layer alone


def is_video(codec: str) -> bool:
    return codec not in AUDIO_CODECS


def vp8_descriptor(payload: bytes) -> Vp8Descriptor | None:
    """The payload descriptor (RFC 7741 4.2); None where it is cut off."""
    if not payload:
        return None
    if not payload[0] & 0x80:
        return Vp8Descriptor(1, None, 0, False, None, 0)
    if len(payload) < 2:
        return None
    flags, at = payload[1], 2
    picture_at: int | None = None
    picture = tl0 = 0
    is_long = False
    tl0_at: int | None = None
    if flags & 0x80:
        if at >= len(payload):
            return None
        picture_at, is_long = at, payload[at] >= 0x80
        at += 2 if is_long else 1
        if at > len(payload):
            return None
        picture = int.from_bytes(payload[picture_at:at], "big") & (0x7FFF if is_long else 0x7F)
    if flags & 0x40:
        if at >= len(payload):
            return None
        tl0_at, tl0 = at, payload[at]
        at += 1
    temporal, is_sync = 0, False
    if flags & 0x30:
        if at >= len(payload):
            return None
        if flags & 0x20:
            temporal, is_sync = payload[at] >> 6, bool(payload[at] & 0x20)
        at += 1
    return Vp8Descriptor(at, picture_at, picture, is_long, tl0_at, tl0, temporal, is_sync)


def vp8_frame_size(payload: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, in the first packet of a key frame (RFC 6386 9.1); else None."""
    if not _vp8(payload):
        return None
    descriptor = vp8_descriptor(payload)
    at = (descriptor.size if descriptor else 0) + 3
    if payload[at : at + 3] != b"\x9d\x01\x2a" or len(payload) < at + 7:
        return None
    width, height = (
        int.from_bytes(payload[at + 3 : at + 5], "little"),
        int.from_bytes(payload[at + 5 : at + 7], "little"),
    )
    return width & 0x3FFF, height & 0x3FFF


def vp8_rewrite(payload: bytes, descriptor: Vp8Descriptor, picture_id: int, tl0: int) -> bytes:
    """`payload` with another picture id and TL0PICIDX, in the field sizes that it has."""
    changed = bytearray(payload)
    if descriptor.picture_id_at is not None:
        at = descriptor.picture_id_at
        if descriptor.is_long:
            changed[at : at + 2] = (0x8000 | picture_id & 0x7FFF).to_bytes(2, "big")
        else:
            changed[at] = picture_id & 0x7F
    if descriptor.tl0_at is not None:
        changed[descriptor.tl0_at] = tl0 & 0xFF
    return bytes(changed)


def begins_key_frame(codec: str, payload: bytes) -> bool:
    """True for the first packet of a key frame, at which a receiver can start."""
    probe = _PROBES.get(codec)
    return probe is not None and probe(payload)


def _vp8(payload: bytes) -> bool:
    descriptor = vp8_descriptor(payload)
    if descriptor is None or descriptor.size >= len(payload):
        return False
    # S bit set, partition 0, and the frame tag's P bit clear.
    return payload[0] & 0x17 == 0x10 and not payload[descriptor.size] & 1


def _vp9(payload: bytes) -> bool:
    """Begin of frame (B), not inter-predicted (P), and of the lowest spatial layer."""
    if not payload or not payload[0] & 0x08 or payload[0] & 0x40:
        return False
    at = 1
    if payload[0] & 0x80:
        at += 2 if at < len(payload) and payload[at] & 0x80 else 1
    if not payload[0] & 0x20:
        return True
    return at < len(payload) and (payload[at] >> 1) & 7 == 0


def _h264(payload: bytes) -> bool:
    if not payload:
        return False
    kind = payload[0] & 0x1F
    if kind == _FU_A:
        return len(payload) > 1 and bool(payload[1] & 0x80) and payload[1] & 0x1F in {_SPS, _IDR}
    if kind == _STAP_A:
        return _stap_has_key(payload)
    return kind in {_SPS, _IDR}


def _stap_has_key(payload: bytes) -> bool:
    at = 1
    while at + 2 < len(payload):
        if payload[at + 2] & 0x1F in {_SPS, _IDR}:
            return True
        at += 2 + int.from_bytes(payload[at : at + 2], "big")
    return False


def _av1(payload: bytes) -> bool:
    """The aggregation header (AV1 RTP 4.4): N begins a coded video sequence, and Z would continue an OBU."""
    return bool(payload) and payload[0] & 0x88 == 0x08


_PROBES: Final = {"VP8": _vp8, "VP9": _vp9, "H264": _h264, "AV1": _av1}
