"""H264 access units in Annex B as RTP payloads, packetization mode 1 (RFC 6184): single NAL units and FU-A; read are
STAP-A as well.
"""

from collections.abc import Sequence
from typing import Final

MAX_UNITS: Final = 256  # of one access unit
IDR: Final = 5
SPS: Final = 7
_AUD: Final = 9
_STAP_A: Final = 24
_FU_A: Final = 28
_START: Final = b"\0\0\1"
_LONG_START: Final = b"\0\0\0\1"


def units(access_unit: bytes) -> list[bytes]:
    """The NAL units between the start codes, at most 256; trailing zeros belong to the next start code."""
    found: list[bytes] = []
    at = access_unit.find(_START)
    while at >= 0 and len(found) < MAX_UNITS:
        begin = at + 3
        at = access_unit.find(_START, begin)
        unit = (access_unit[begin:at] if at >= 0 else access_unit[begin:]).rstrip(b"\0")
        if unit:
            found.append(unit)
    return found


def is_key_frame(access_unit: bytes) -> bool:
    return any(unit[0] & 0x1F == IDR for unit in units(access_unit))


class H264Packetizer:
    """Keeps nothing: H264 has no numbers of its own in the payload."""

    def split(self, picture: bytes, size: int, *, is_discardable: bool = False) -> list[bytes]:
        """Payloads of at most `size` bytes. nal_ref_idc of the units says what may be dropped."""
        payloads: list[bytes] = []
        for unit in units(picture):
            if unit[0] & 0x1F != _AUD:
                payloads += [unit] if len(unit) <= size else _fragments(unit, size)
        return payloads


def _fragments(unit: bytes, size: int) -> list[bytes]:
    indicator, kind = unit[0] & 0xE0 | _FU_A, unit[0] & 0x1F
    body = unit[1:]
    count = -(-len(body) // (size - 2))
    step = -(-len(body) // count)
    parts = [body[at : at + step] for at in range(0, len(body), step)]
    last = len(parts) - 1
    return [
        bytes((indicator, kind | (0x80 if place == 0 else 0) | (0x40 if place == last else 0))) + part
        for place, part in enumerate(parts)
    ]


def begins_picture(payload: bytes) -> bool:
    """Whether a decoder could take up the stream's bytes here: no continued fragment."""
    if not payload:
        return False
    return payload[0] & 0x1F != _FU_A or (len(payload) > 1 and payload[1] & 0x80 > 0)


def join(payloads: Sequence[bytes]) -> bytes | None:
    """The access unit in Annex B; None where a payload is malformed or a fragment has no beginning."""
    whole = bytearray()
    is_open = False
    for payload in payloads:
        kind = payload[0] & 0x1F if payload else 0
        if kind == _FU_A:
            if len(payload) < 3 or is_open == bool(payload[1] & 0x80):
                return None
            if payload[1] & 0x80:
                whole += _LONG_START + bytes((payload[0] & 0xE0 | payload[1] & 0x1F,))
            whole += payload[2:]
            is_open = not payload[1] & 0x40
            continue
        if is_open or not 0 < kind <= _STAP_A:
            return None
        inner = _aggregated(payload) if kind == _STAP_A else [payload]
        if inner is None:
            return None
        for unit in inner:
            whole += _LONG_START + unit
    return bytes(whole) if whole and not is_open else None


def _aggregated(payload: bytes) -> list[bytes] | None:
    found, at = [], 1
    while at + 2 < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        if size == 0 or at + 2 + size > len(payload):
            return None
        found.append(payload[at + 2 : at + 2 + size])
        at += 2 + size
    return found if at == len(payload) else None


def is_discardable(payloads: Sequence[bytes]) -> bool:
    """nal_ref_idc 0 in every unit that there is."""
    return all(payload and not payload[0] & 0x60 for payload in payloads)
