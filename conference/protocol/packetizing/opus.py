"""Opus in tunnel frames: one octet of audio level as in RFC 6464 (V bit, -dBov) and then the packet (RFC 7587).

The level travels with the sound, as it does in RTP, so that nobody has to decode it to know who speaks.
"""

from typing import Final

SILENCE: Final = 127
MAX_PACKET: Final = 1_275  # RFC 6716 3.4, one frame


def read(payload: bytes) -> tuple[int, bytes] | None:
    """(level octet, packet); None where there is no packet, or one that no datagram carries."""
    if not 2 <= len(payload) <= 1 + MAX_PACKET:
        return None
    return payload[0], payload[1:]


def write(level: int | None, packet: bytes) -> bytes:
    return bytes((SILENCE if level is None else level & 0xFF,)) + packet
