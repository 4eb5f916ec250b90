"""Reads transport-wide feedback, which servers only write (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1)."""

from collections.abc import Iterator
from dataclasses import dataclass

_TWCC = 15
_RTPFB = 205


@dataclass(frozen=True, slots=True)
class TransportFeedback:
    """`arrivals` has the moment of each number from `base` on, in units of 250 us; None for one that is missing."""

    media_ssrc: int
    base: int
    count: int  # of feedback packets
    arrivals: tuple[int | None, ...]


def read_feedback(data: bytes) -> Iterator[TransportFeedback]:
    """The feedback packets in a compound RTCP packet of an engine's."""
    at = 0
    while at < len(data):
        end = at + 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == _RTPFB and data[at] & 0x1F == _TWCC:
            yield _read(data[at + 8 : end])
        at = end


def _read(body: bytes) -> TransportFeedback:
    total = int.from_bytes(body[6:8], "big")
    clock = int.from_bytes(body[8:11], "big") * 256
    symbols: list[int] = []
    at = 12
    while len(symbols) < total:
        chunk = int.from_bytes(body[at : at + 2], "big")
        symbols += _symbols(chunk)
        at += 2
    arrivals: list[int | None] = []
    for symbol in symbols[:total]:
        if symbol == 0:
            arrivals.append(None)
            continue
        size = 1 if symbol == 1 else 2
        clock += int.from_bytes(body[at : at + size], "big", signed=symbol == 2)
        at += size
        arrivals.append(clock)
    return TransportFeedback(int.from_bytes(body[:4], "big"), int.from_bytes(body[4:6], "big"), body[11], (*arrivals,))


def _symbols(chunk: int) -> list[int]:
    if not chunk & 0x8000:
        return [chunk >> 13 & 3] * (chunk & 0x1FFF)
    if chunk & 0x4000:
        return [chunk >> shift & 3 for shift in range(12, -1, -2)]
    return [chunk >> shift & 1 for shift in range(13, -1, -1)]
