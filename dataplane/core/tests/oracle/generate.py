"""Writes the vectors of this folder with the Python reference in `conference.protocol`: datagrams, sound and damaged,
and what the reference says of them. The Rust tests say the same of each line or fail.

    .venv/bin/python dataplane/core/tests/oracle/generate.py

The output depends on nothing but the reference: run it again after a change of it.
"""

import random
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from conference.domain.errors import ProtocolError
from conference.protocol import payload, rtcp, rtp, stun

HERE: Final = Path(__file__).parent
MUTATIONS: Final = 12
CODECS: Final = ("VP8", "VP9", "H264")


def damaged(rng: random.Random, sound: bytes) -> bytes:
    """`sound` with one thing wrong: a bit, a byte, its end, or its beginning."""
    data = bytearray(sound)
    at = rng.randrange(len(data))
    match rng.randrange(5):
        case 0:
            data[at] ^= 1 << rng.randrange(8)
        case 1:
            data[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF))
        case 2:
            del data[at:]
        case 3:
            data += rng.randbytes(rng.randrange(1, 9))
        case _:
            head = rng.randrange(min(len(data), 16))
            data[head] = rng.randrange(256)
    return bytes(data)


def inputs(rng: random.Random, sound: Iterable[bytes]) -> list[bytes]:
    """Each of `sound`, and damaged forms of it."""
    found = [b""]
    for data in sound:
        found.append(data)
        found.extend(damaged(rng, data) for _ in range(MUTATIONS))
    return list(dict.fromkeys(found))


def verdicts(data: Iterable[bytes], describe: Callable[[bytes], str]) -> list[str]:
    lines = []
    for datagram in data:
        try:
            verdict = describe(datagram)
        except ProtocolError:
            verdict = "bad"
        lines.append(f"{datagram.hex() or '-'} {verdict}")
    return lines


def write(name: str, lines: list[str]) -> None:
    (HERE / name).write_text("\n".join(lines) + "\n", encoding="ascii")


# --- RTP -------------------------------------------------------------------------------------------------------------
def rtp_packets(rng: random.Random) -> list[bytes]:
    elements: list[dict[int, bytes]] = [
        {},
        {1: b"0"},
        {1: b"video", 3: bytes(2), 14: rng.randbytes(16)},
        {1: b"", 200: rng.randbytes(40)},
        dict.fromkeys(range(1, 33), b""),
        dict.fromkeys(range(1, 34), b"\1"),
    ]
    sound = []
    for chosen in elements:
        for padding in (0, 1, 9):
            packet = rtp.RtpPacket(
                rng.randrange(128),
                rng.randrange(1 << 16),
                rng.getrandbits(32),
                rng.getrandbits(32),
                rng.randbytes(rng.randrange(12)),
                marker=rng.random() < 0.5,
                extensions=chosen,
                padding=padding,
            )
            sound.append(rtp.build(packet))
    head = struct.pack("!BBHII", 0x93, 0x60, 7, 8, 9) + bytes(12)
    sound.append(head + bytes.fromhex("bede0002 00 10aa 00 f3 2100 00") + b"payload")  # id 15 stops
    sound.append(head + bytes.fromhex("100f0002 00 0103aabbcc 0200") + b"payload")  # two-byte, application bits
    sound.append(head + bytes.fromhex("abcd0001 01020304") + b"payload")  # another profile's header
    return sound


def describe_rtp(data: bytes) -> str:
    packet = rtp.parse(data)
    extensions = ",".join(f"{number}:{value.hex()}" for number, value in sorted(packet.extensions.items()))
    fields = (packet.payload_type, int(packet.marker), packet.sequence, packet.timestamp, packet.ssrc, packet.padding)
    return f"{' '.join(map(str, fields))} [{extensions}] {packet.payload.hex() or '-'}"


# --- RTCP ------------------------------------------------------------------------------------------------------------
def rtcp_packets(rng: random.Random) -> list[bytes]:
    def block() -> rtcp.ReportBlock:
        return rtcp.ReportBlock(
            rng.getrandbits(32),
            rng.randrange(256),
            rng.randrange(-0x800000, 0x800000),
            *(rng.getrandbits(32) for _ in range(4)),
        )

    single = [
        rtcp.sender_report(rtcp.SenderReport(1, rng.getrandbits(64), 3, 4, 5, (block(), block()))),
        rtcp.receiver_report(rtcp.ReceiverReport(1, ())),
        rtcp.receiver_report(rtcp.ReceiverReport(1, tuple(block() for _ in range(31)))),
        rtcp.cname(7, "someone@example"),
        rtcp.nack(1, 2, [65_530, 65_535, 3, 30, 47, 47]),
        rtcp.nack(1, 2, [number for first in range(0, 1_020, 17) for number in range(first, first + 17)]),
        rtcp.picture_loss(1, 2),
        struct.pack("!BBH6I", 0x84, 206, 6, 1, 0, 11, 1 << 24, 12, 2 << 24),
        struct.pack("!BBHII4s", 0x82, 203, 3, 5, 6, b"\3bye"),
        struct.pack("!BBHII", 0xA0, 201, 2, 5, 4),  # padding of four bytes
        struct.pack("!BBHII", 0xA1, 205, 2, 5, 0),  # padding that says 0
        struct.pack("!BBHII", 0x81, 204, 2, 5, 6),  # an application's
    ]
    return [*single, b"".join(single[:2] + single[3:5] + single[6:]), single[1] * 64, single[1] * 65]


def has_transport_feedback(data: bytes) -> bool:
    """The reference skips what the Rust parser reads, so that only the latter may refuse it."""
    at = 0
    while at + 4 <= len(data):
        if data[at] & 0x1F == 15 and data[at + 1] == rtcp.RTPFB:
            return True
        at += 4 + 4 * int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def describe_rtcp(data: bytes) -> str:
    def blocks(found: tuple[rtcp.ReportBlock, ...]) -> str:
        return "".join(
            f" {b.ssrc}/{b.fraction_lost}/{b.lost}/{b.highest_sequence}/{b.jitter}/{b.last_sr}/{b.delay}" for b in found
        )

    parts = []
    for packet in rtcp.parse(data):
        match packet:
            case rtcp.SenderReport():
                fields = (packet.ssrc, packet.ntp, packet.rtp_timestamp, packet.packets, packet.octets)
                parts.append(f"SR {' '.join(map(str, fields))}{blocks(packet.blocks)}")
            case rtcp.ReceiverReport():
                parts.append(f"RR {packet.ssrc}{blocks(packet.blocks)}")
            case rtcp.Nack():
                parts.append(f"NACK {packet.media_ssrc} {','.join(map(str, packet.lost))}")
            case rtcp.KeyFrameRequest():
                parts.append(f"KEY {packet.media_ssrc}")
            case rtcp.Bye():
                parts.append(f"BYE {','.join(map(str, packet.ssrcs))}")
    return "; ".join(parts) or "nothing"


# --- STUN ------------------------------------------------------------------------------------------------------------
def stun_messages(rng: random.Random) -> list[bytes]:
    transaction = rng.randbytes(12)
    request = stun.binding_request(transaction, "ours:theirs", "password", priority=7, use_candidate=True)
    plain = stun.binding_request(transaction, "ours:theirs", "password")
    parsed = stun.parse(request)
    unsigned = struct.pack("!HHI12s", 1, 20, stun.MAGIC_COOKIE, transaction)
    attributes = struct.pack("!HHI", 0x24, 4, 9) + struct.pack("!HH", 0x8029, 8) + bytes(8)
    many = struct.pack("!HHI12s", 1, 4 * 32, stun.MAGIC_COOKIE, transaction) + struct.pack("!HH", 0x25, 0) * 32
    too_many = struct.pack("!HHI12s", 1, 4 * 33, stun.MAGIC_COOKIE, transaction) + struct.pack("!HH", 0x25, 0) * 33
    not_text = struct.pack("!HHI12sHHHH", 1, 8, stun.MAGIC_COOKIE, transaction, 6, 2, 0xC080, 0)
    after = bytearray(request[:-8]) + struct.pack("!HHI", 0x24, 4, 99)
    short = request[:2] + struct.pack("!H", len(request) - 28) + request[4:-8]
    return [
        short,  # no FINGERPRINT that would give damage away
        request,
        plain,
        unsigned + attributes,
        many,
        too_many,
        not_text,
        bytes(after),  # what follows MESSAGE-INTEGRITY is ignored
        stun.binding_success(parsed, "192.0.2.9", 4_000, "password"),
        stun.binding_success(parsed, "2001:db8::9", 4_000, "password"),
        stun.binding_success(parsed, "::ffff:192.0.2.9", 4_000, "password"),
        stun.role_conflict(parsed, "password"),
    ]


def describe_stun(data: bytes) -> str:
    message = stun.parse(data)
    fields = (
        message.type,
        message.transaction_id.hex(),
        message.username.encode().hex() or "-",
        message.priority,
        int(message.use_candidate),
        int(message.ice_controlled),
        "-" if message.integrity_at is None else message.integrity_at,
        int(stun.has_integrity(message, "password")),
    )
    return " ".join(map(str, fields))


# --- payloads --------------------------------------------------------------------------------------------------------
def payloads(rng: random.Random, codec: str) -> list[bytes]:
    found = [b"", b"\x90", b"\x10\x00", b"\x90\x80\x7f\x00", b"\x90\xf0\xff\xff\x07\x60\x00\x9d\x01\x2a"]
    found += [b"\x8c\xff\xff\x00", b"\xac\x01\x10\x00", b"\x1c\x85", b"\x78\x00\x02\x09\x10\x00\x03\x67\x42\x00"]
    for _ in range(400):
        head = bytearray(rng.randbytes(rng.randrange(1, 14)))
        if codec == "VP8":
            head[0] &= 0x97
        elif codec == "VP9":
            head[0] = head[0] & 0xBF | 0x08
        else:
            head[0] = rng.choice((head[0], 0x61, 0x65, 0x67, 0x78, 0x7C))
        found.append(bytes(head))
    return list(dict.fromkeys(found))


def describe_payload(codec: str, data: bytes) -> str:
    verdict = str(int(payload.begins_key_frame(codec, data)))
    if codec != "VP8":
        return verdict
    descriptor = payload.vp8_descriptor(data)
    if descriptor is None:
        return f"{verdict} -"
    fields = (
        descriptor.size,
        descriptor.picture_id_at or 0,
        descriptor.picture_id,
        int(descriptor.is_long),
        descriptor.tl0_at or 0,
        descriptor.tl0,
        payload.vp8_rewrite(data, descriptor, 0x1234, 0x56).hex(),
    )
    return f"{verdict} {' '.join(map(str, fields))}"


# --- transport-wide feedback -----------------------------------------------------------------------------------------
def feedback(rng: random.Random) -> list[str]:
    """base, feedback count, number:microseconds of each arrival; what the reference writes, and how many it covers."""
    lines = []
    for case in range(60):
        base = number = rng.choice((0, 5, 65_500, 70_000))
        clock = rng.randrange(1 << 34)
        arrivals = []
        loss = rng.choice((0.0, 0.1, 0.5, 0.9))
        for _ in range(rng.choice((1, 2, 7, 8, 15, 60, 300))):
            while rng.random() < loss:
                number += 1
            arrivals.append((number, clock))
            number += 1
            clock += rng.choice((0, 250, 1_000, 20_000, 63_750, 64_000, -3_000, 300 * case * case * 30))
        arrivals = [(n, max(c, 0) // 250 * 250 + rng.choice((0, 60, 124, 126, 249))) for n, c in arrivals]
        data, covered = rtcp.transport_feedback(1, 2, case, base, [(n, c / 1_000_000) for n, c in arrivals])
        listed = ",".join(f"{n}:{c}" for n, c in arrivals)
        lines.append(f"{base} {case} {listed} {data.hex()} {covered}")
    return lines


# --- writers ---------------------------------------------------------------------------------------------------------
def written() -> list[str]:
    """What the reference writes for inputs that `oracle.rs` repeats."""
    transaction = bytes(range(12))
    request = stun.parse(stun.binding_request(transaction, "ours:theirs", "password"))
    blocks = (
        rtcp.ReportBlock(1, 2, -3, 4, 5, 6, 7),
        rtcp.ReportBlock(8, 255, 1 << 24, 0xFFFFFFFF, 10, 11, 12),
    )
    found = {
        "success-ipv4": stun.binding_success(request, "192.0.2.9", 4_000, "secret"),
        "success-ipv6": stun.binding_success(request, "2001:db8::9", 4_000, "secret"),
        "success-mapped": stun.binding_success(request, "::ffff:192.0.2.9", 4_000, "secret"),
        "role-conflict": stun.role_conflict(request, "secret"),
        "sender-report": rtcp.sender_report(rtcp.SenderReport(1, 2 << 32 | 3, 4, 5, 6)),
        "receiver-report": rtcp.receiver_report(rtcp.ReceiverReport(1, blocks)),
        "cname": rtcp.cname(1, "someone"),
        "cname-long": rtcp.cname(1, "x" * 300),
        "nack": rtcp.nack(1, 2, [65_530, 65_535, 3, 30, 47, 47]),
        "nack-none": rtcp.nack(1, 2, []),
        "picture-loss": rtcp.picture_loss(1, 2),
        "extensions-one-byte": rtp.extension_block([(1, b"0"), (14, bytes(range(16)))]),
        "extensions-two-byte": rtp.extension_block([(1, b"0"), (15, b""), (200, bytes(range(17)))]),
    }
    return [f"{name} {data.hex()}" for name, data in found.items()]


def main() -> None:
    rng = random.Random(1)  # noqa: S311 - vectors, not secrets
    write("rtp.txt", verdicts(inputs(rng, rtp_packets(rng)), describe_rtp))
    compounds = [data for data in inputs(rng, rtcp_packets(rng)) if not has_transport_feedback(data)]
    write("rtcp.txt", verdicts(compounds, describe_rtcp))
    write("stun.txt", verdicts(inputs(rng, stun_messages(rng)), describe_stun))
    for codec in CODECS:
        lines = [f"{data.hex() or '-'} {describe_payload(codec, data)}" for data in payloads(rng, codec)]
        write(f"{codec.lower()}.txt", lines)
    write("feedback.txt", feedback(rng))
    write("written.txt", written())


if __name__ == "__main__":
    main()
