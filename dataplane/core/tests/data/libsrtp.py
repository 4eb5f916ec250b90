"""Writes libsrtp.txt: packets that libsrtp sealed, in the order of their arrival, with libsrtp's own verdict on each.

Lines: `profile NAME KEY_AND_SALT`, then `rtp|rtcp VERDICT INDEX WIRE PLAIN`; VERDICT is what libsrtp said on opening
(`ok`, `replayed`, `old`, `forged`), INDEX the packet index, PLAIN `-` where nothing was opened.
"""

import random
import struct
from collections.abc import Callable
from pathlib import Path

from pylibsrtp import Error, Policy, Session

PROFILES = {
    "AES128_CM_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
VERDICTS = {"replay check failed (bad index)": "replayed", "replay check failed (index too old)": "old"}
FORGED = {"authentication failure", "unable to perform desired validation"}
chance = random.Random(7714)  # noqa: S311 - the same packets each time


def session(name: str, key: bytes, direction: int) -> Session:
    policy = Policy(key=key, ssrc_type=direction, srtp_profile=PROFILES[name][0])
    policy.window_size = 1_024
    return Session(policy)


def rtp(sequence: int, ssrc: int, size: int) -> bytes:
    csrcs = chance.choice((0, 0, 2))
    extension = chance.choice((b"", bytes.fromhex("bede000110aa2100"), bytes.fromhex("100000020103aabbcc020000")))
    first = 0x80 | csrcs | (0x10 if extension else 0)
    head = struct.pack("!BBHII", first, 96, sequence & 0xFFFF, 90 * sequence & 0xFFFFFFFF, ssrc)
    return head + chance.randbytes(4 * csrcs) + extension + chance.randbytes(size)


def rtcp(ssrc: int, reports: int) -> bytes:
    words = 1 + 6 * reports
    return struct.pack("!BBHI", 0x80 | reports, 201, words, ssrc) + chance.randbytes(24 * reports)


def flipped(wire: bytes, at: int) -> bytes:
    changed = bytearray(wire)
    changed[at] ^= 1
    return bytes(changed)


def verdict(opening: Callable[[bytes], bytes], wire: bytes) -> tuple[str, str]:
    try:
        return "ok", opening(wire).hex()
    except Error as error:
        text = str(error)
        if text in VERDICTS:
            return VERDICTS[text], "-"
        if text in FORGED:
            return "forged", "-"
        raise


def rtp_arrivals(sender: Session) -> list[tuple[int, bytes]]:
    """A roll-over with reordering, a jump past the window, late, repeated and forged packets, a second SSRC."""
    order = [*range(65_500, 65_580, 2), 66_700]
    sealed = {n: sender.protect(rtp(n, 0x11223344, chance.choice((0, 1, 20, 60)))) for n in order}
    early = sorted(order[:-1], key=lambda n: n + chance.choice((0, 0, 3, 17)))
    held = early.pop(30)
    arrivals = [(n, sealed[n]) for n in early]
    for place in (5, 20, 33):
        arrivals.insert(place, (early[place], flipped(sealed[early[place]], chance.choice((1, 9, -1, -12)))))
        arrivals.insert(place + 3, arrivals[place - 2])
    arrivals += [(66_700, sealed[66_700]), (held, sealed[held]), (66_700, sealed[66_700])]
    other = sender.protect(rtp(9, 0x99, 1_170))
    return [*arrivals, (9, flipped(other, 40)), (9, other), (9, other)]


def rtcp_arrivals(sender: Session) -> list[tuple[int, bytes]]:
    sealed = [sender.protect_rtcp(rtcp(0xABCD, n % 3)) for n in range(140)]
    tag = len(sender.protect_rtcp(rtcp(0xABCD, 0))) - 8
    order = [0, 2, 1, 1, 6, 4, 139, 138, 139, 20, 3]
    arrivals = [(n + 1, sealed[n]) for n in order]
    arrivals.insert(4, (4, flipped(sealed[3], -1)))
    arrivals.insert(5, (4, flipped(sealed[3], 5)))
    clear = bytearray(sealed[70])
    clear[-4 if tag == 20 else -14] &= 0x7F  # the E flag
    return [*arrivals, (71, bytes(clear)), (71, sealed[70])]


def lines(name: str) -> list[str]:
    key = chance.randbytes(PROFILES[name][1])
    sender = session(name, key, Policy.SSRC_ANY_OUTBOUND)
    receiver = session(name, key, Policy.SSRC_ANY_INBOUND)
    written = [f"profile {name} {key.hex()}"]
    for index, wire in rtp_arrivals(sender):
        said, plain = verdict(receiver.unprotect, wire)
        written.append(f"rtp {said} {index} {wire.hex()} {plain}")
    for index, wire in rtcp_arrivals(sender):
        said, plain = verdict(receiver.unprotect_rtcp, wire)
        written.append(f"rtcp {said} {index} {wire.hex()} {plain}")
    return written


if __name__ == "__main__":
    text = "\n".join(line for name in PROFILES for line in lines(name)) + "\n"
    Path(__file__).with_suffix(".txt").write_text(text)
