"""RTCP compound packets: what an SFU reads and writes (RFC 3550, RFC 4585, RFC 5104, transport-wide cc draft 01).

`parse` raises ProtocolError `bad-rtcp` and nothing else; packet types that are not known are skipped. Limits: 1,500
bytes, 64 packets, 31 blocks in one of them; of the numbers that a NACK names, the first 512 are read.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from conference.domain.errors import ProtocolError

MAX_BYTES: Final = 1_500
MAX_PACKETS: Final = 64
MAX_LOST: Final = 512
MAX_DELTAS: Final = 256  # of one transport-wide feedback packet
SR: Final = 200
RR: Final = 201
SDES: Final = 202
BYE: Final = 203
RTPFB: Final = 205
PSFB: Final = 206
_NACK: Final = 1
_TWCC: Final = 15
_PLI: Final = 1
_FIR: Final = 4
_HEAD: Final = struct.Struct("!BBH")
_BLOCK: Final = struct.Struct("!IIIIII")
_SENDER: Final = struct.Struct("!IIIIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """RFC 3550 6.4.1. `fraction_lost` is out of 256; `last_sr` and `delay` are in 1/65536 s."""

    ssrc: int
    fraction_lost: int
    lost: int
    highest_sequence: int
    jitter: int
    last_sr: int
    delay: int


@dataclass(frozen=True, slots=True)
class SenderReport:
    """`ntp` is the 64-bit NTP time stamp."""

    ssrc: int
    ntp: int
    rtp_timestamp: int
    packets: int
    octets: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    ssrc: int
    blocks: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class Nack:
    media_ssrc: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KeyFrameRequest:
    """A PLI, or one entry of a FIR."""

    media_ssrc: int


@dataclass(frozen=True, slots=True)
class Bye:
    ssrcs: tuple[int, ...]


RtcpPacket = SenderReport | ReceiverReport | Nack | KeyFrameRequest | Bye


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-rtcp", detail)


def parse(data: bytes) -> list[RtcpPacket]:
    """The known packets of a compound (or reduced-size) packet, in order. Raises ProtocolError `bad-rtcp`."""
    if not 4 <= len(data) <= MAX_BYTES:
        raise _bad("the size is not that of an RTCP packet")
    found: list[RtcpPacket] = []
    at = seen = 0
    while at < len(data):
        if at + 4 > len(data) or seen >= MAX_PACKETS:
            raise _bad("a packet is cut off, or there are too many")
        first, kind, words = _HEAD.unpack_from(data, at)
        end = at + 4 + 4 * words
        if first >> 6 != 2 or end > len(data):
            raise _bad("a packet is longer than the datagram, or of another version")
        body = data[at + 4 : end]
        if first & 0x20:
            body = _without_padding(body)
        reader = _READERS.get(kind)
        if reader is not None:
            found.extend(reader(first & 0x1F, body))
        at, seen = end, seen + 1
    return found


def _without_padding(body: bytes) -> bytes:
    if not body or not 0 < body[-1] <= len(body):
        raise _bad("the padding is longer than the packet")
    return body[: -body[-1]]


def _blocks(count: int, body: bytes, at: int) -> tuple[ReportBlock, ...]:
    if at + 24 * count > len(body):
        raise _bad("a report block is cut off")
    blocks = []
    for offset in range(at, at + 24 * count, 24):
        ssrc, loss, highest, jitter, last_sr, delay = _BLOCK.unpack_from(body, offset)
        lost = loss & 0xFFFFFF
        lost -= 0x1000000 if lost & 0x800000 else 0
        blocks.append(ReportBlock(ssrc, loss >> 24, lost, highest, jitter, last_sr, delay))
    return tuple(blocks)


def _read_sr(count: int, body: bytes) -> list[RtcpPacket]:
    if len(body) < 24:
        raise _bad("a sender report is cut off")
    ssrc, high, low, rtp_timestamp, packets, octets = _SENDER.unpack_from(body)
    return [SenderReport(ssrc, high << 32 | low, rtp_timestamp, packets, octets, _blocks(count, body, 24))]


def _read_rr(count: int, body: bytes) -> list[RtcpPacket]:
    if len(body) < 4:
        raise _bad("a receiver report is cut off")
    return [ReceiverReport(int.from_bytes(body[:4], "big"), _blocks(count, body, 4))]


def _read_bye(count: int, body: bytes) -> list[RtcpPacket]:
    if len(body) < 4 * count:
        raise _bad("a BYE is cut off")
    return [Bye(struct.unpack_from(f"!{count}I", body))]


def _read_rtpfb(fmt: int, body: bytes) -> list[RtcpPacket]:
    if len(body) < 8:
        raise _bad("feedback is cut off")
    if fmt != _NACK:
        return []
    lost: list[int] = []
    for at in range(8, len(body) - 3, 4):
        first, mask = struct.unpack_from("!HH", body, at)
        lost.append(first)
        lost.extend((first + 1 + bit) & 0xFFFF for bit in range(16) if mask >> bit & 1)
        if len(lost) >= MAX_LOST:
            break  # the peer asks again for the rest
    return [Nack(int.from_bytes(body[4:8], "big"), tuple(lost[:MAX_LOST]))]


def _read_psfb(fmt: int, body: bytes) -> list[RtcpPacket]:
    if len(body) < 8:
        raise _bad("feedback is cut off")
    if fmt == _PLI:
        return [KeyFrameRequest(int.from_bytes(body[4:8], "big"))]
    if fmt == _FIR:
        return [KeyFrameRequest(int.from_bytes(body[at : at + 4], "big")) for at in range(8, len(body) - 7, 8)]
    return []


_READERS = {SR: _read_sr, RR: _read_rr, BYE: _read_bye, RTPFB: _read_rtpfb, PSFB: _read_psfb}


# --- writing ---------------------------------------------------------------------------------------------------------
def _packet(count: int, kind: int, body: bytes) -> bytes:
    return _HEAD.pack(0x80 | count, kind, len(body) // 4) + body


def _write_blocks(blocks: Sequence[ReportBlock]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            b.ssrc,
            b.fraction_lost << 24 | max(-0x800000, min(b.lost, 0x7FFFFF)) & 0xFFFFFF,
            b.highest_sequence & 0xFFFFFFFF,
            b.jitter & 0xFFFFFFFF,
            b.last_sr & 0xFFFFFFFF,
            b.delay & 0xFFFFFFFF,
        )
        for b in blocks
    )


def sender_report(report: SenderReport) -> bytes:
    body = _SENDER.pack(
        report.ssrc,
        report.ntp >> 32 & 0xFFFFFFFF,
        report.ntp & 0xFFFFFFFF,
        report.rtp_timestamp & 0xFFFFFFFF,
        report.packets & 0xFFFFFFFF,
        report.octets & 0xFFFFFFFF,
    )
    return _packet(len(report.blocks), SR, body + _write_blocks(report.blocks))


def receiver_report(report: ReceiverReport) -> bytes:
    """At most 31 blocks fit into one report; the caller splits."""
    return _packet(len(report.blocks), RR, struct.pack("!I", report.ssrc) + _write_blocks(report.blocks))


def cname(ssrc: int, name: str) -> bytes:
    """An SDES packet with the CNAME of `ssrc`."""
    text = name.encode()[:255]
    item = struct.pack("!IBB", ssrc, 1, len(text)) + text + b"\0"
    return _packet(1, SDES, item + bytes(-len(item) % 4))


def nack(sender_ssrc: int, media_ssrc: int, lost: Iterable[int]) -> bytes:
    """A generic NACK for the sequence numbers in `lost` (RFC 4585 6.2.1), given in sending order."""
    pairs: list[list[int]] = []
    for number in lost:
        distance = (number - pairs[-1][0]) & 0xFFFF if pairs else 0
        if pairs and 1 <= distance <= 16:
            pairs[-1][1] |= 1 << (distance - 1)
        else:
            pairs.append([number, 0])
    body = struct.pack("!II", sender_ssrc, media_ssrc) + b"".join(struct.pack("!HH", *pair) for pair in pairs)
    return _packet(_NACK, RTPFB, body)


def picture_loss(sender_ssrc: int, media_ssrc: int) -> bytes:
    """A PLI."""
    return _packet(_PLI, PSFB, struct.pack("!II", sender_ssrc, media_ssrc))


def transport_feedback(
    sender_ssrc: int, media_ssrc: int, feedback_count: int, base: int, arrivals: Sequence[tuple[int, float]]
) -> tuple[bytes, int]:
    """Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01, 3.1).

    `base` is the first number that the packet reports; `arrivals` are (unrolled number, arrival in seconds), ascending
    by number; gaps are reported as not received. Returns the packet and how many arrivals it covers: a delta that does
    not fit into 16 bits ends the packet.
    """
    reference = int(arrivals[0][1] / 0.064)
    clock = reference * 256  # in 250 us
    symbols: list[int] = []
    deltas: list[bytes] = []
    for number, arrival in arrivals:
        delta = round(arrival * 4_000) - clock
        if not -0x8000 <= delta <= 0x7FFF or len(deltas) >= MAX_DELTAS or number - base >= 6 * MAX_DELTAS:
            break
        symbols.extend([0] * (number - base - len(symbols)))
        symbols.append(1 if 0 <= delta <= 255 else 2)
        deltas.append(bytes((delta,)) if 0 <= delta <= 255 else struct.pack("!h", delta))
        clock += delta
    chunks = b"".join(_chunks(symbols))
    body = struct.pack("!IIHH", sender_ssrc, media_ssrc, base & 0xFFFF, len(symbols))
    body += (reference & 0xFFFFFF).to_bytes(3, "big") + bytes((feedback_count & 0xFF,)) + chunks + b"".join(deltas)
    return _packet(_TWCC, RTPFB, body + bytes(-len(body) % 4)), len(deltas)


def _chunks(symbols: Sequence[int]) -> Iterable[bytes]:
    """Run-length chunks where at least seven symbols are alike, else two-bit status vectors of seven."""
    at = 0
    while at < len(symbols):
        run = 1
        while at + run < len(symbols) and symbols[at + run] == symbols[at] and run < 0x1FFF:
            run += 1
        if run >= 7 or at + run == len(symbols):
            yield struct.pack("!H", symbols[at] << 13 | run)
            at += run
            continue
        vector = 0xC000
        for position, symbol in enumerate(symbols[at : at + 7]):
            vector |= symbol << (12 - 2 * position)
        yield struct.pack("!H", vector)
        at += 7
