"""STUN binding requests and answers, as far as an ICE-lite agent needs them (RFC 8489, RFC 8445).

`parse` is total: it returns a request or raises ProtocolError `bad-stun`, for any bytes. Integrity is a second step,
because the key is known only when the user name has been read. Only MESSAGE-INTEGRITY (SHA-1) exists in WebRTC.
"""

import hashlib
import hmac
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from conference.domain.addresses import IpAddress, unmapped
from conference.domain.errors import ProtocolError

MAGIC_COOKIE: Final = 0x2112A442
BINDING_REQUEST: Final = 0x0001
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111
MAX_BYTES: Final = 1_500
MAX_ATTRIBUTES: Final = 32

_USERNAME: Final = 0x0006
_MESSAGE_INTEGRITY: Final = 0x0008
_ERROR_CODE: Final = 0x0009
_XOR_MAPPED_ADDRESS: Final = 0x0020
_PRIORITY: Final = 0x0024
_USE_CANDIDATE: Final = 0x0025
_FINGERPRINT: Final = 0x8028
_ICE_CONTROLLED: Final = 0x8029
_ICE_CONTROLLING: Final = 0x802A
_FINGERPRINT_XOR: Final = 0x5354554E
_HEADER: Final = struct.Struct("!HHI12s")
_ATTRIBUTE: Final = struct.Struct("!HH")


@dataclass(frozen=True, slots=True)
class StunMessage:
    """A parsed message. `integrity_at` is the offset of its MESSAGE-INTEGRITY attribute, None without one."""

    type: int
    transaction_id: bytes
    username: str
    priority: int
    use_candidate: bool
    ice_controlled: bool
    integrity_at: int | None
    raw: bytes


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-stun", detail)


def read_header(data: bytes, max_bytes: int = MAX_BYTES) -> tuple[int, bytes]:
    """The message's type and its transaction ID. Raises ProtocolError `bad-stun`."""
    if not 20 <= len(data) <= max_bytes:
        raise _bad("the size is not that of a STUN message")
    kind, length, cookie, transaction_id = _HEADER.unpack_from(data)
    if kind & 0xC000 or cookie != MAGIC_COOKIE or length % 4 or length + 20 != len(data):
        raise _bad("the header is not that of a STUN message")
    return kind, transaction_id


def read_attributes(data: bytes) -> list[tuple[int, int, bytes]]:
    """(type, offset, value) of each attribute. Raises ProtocolError `bad-stun`."""
    found: list[tuple[int, int, bytes]] = []
    at = 20
    while at < len(data):
        if at + 4 > len(data):
            raise _bad("an attribute is cut off")
        kind, length = _ATTRIBUTE.unpack_from(data, at)
        if at + 4 + length > len(data):
            raise _bad("an attribute is longer than the message")
        if len(found) >= MAX_ATTRIBUTES:
            raise _bad(f"a message has at most {MAX_ATTRIBUTES} attributes")
        found.append((kind, at, data[at + 4 : at + 4 + length]))
        at += 4 + length + (-length % 4)
    return found


def parse(data: bytes) -> StunMessage:
    """The STUN message in `data`. Raises ProtocolError `bad-stun`."""
    kind, transaction_id = read_header(data)
    username, priority, use_candidate, controlled = "", 0, False, False
    integrity_at: int | None = None
    for attribute, at, value in read_attributes(data):
        if attribute == _FINGERPRINT:
            _check_fingerprint(data, at, value)
        elif integrity_at is not None:
            continue  # RFC 8489 14.5: what follows MESSAGE-INTEGRITY is ignored, except FINGERPRINT
        elif attribute == _MESSAGE_INTEGRITY:
            if len(value) != 20:
                raise _bad("MESSAGE-INTEGRITY has 20 bytes")
            integrity_at = at
        elif attribute == _USERNAME:
            username = _text(value)
        elif attribute == _PRIORITY and len(value) == 4:
            priority = int.from_bytes(value, "big")
        elif attribute == _USE_CANDIDATE:
            use_candidate = True
        elif attribute == _ICE_CONTROLLED:
            controlled = True
    return StunMessage(kind, transaction_id, username, priority, use_candidate, controlled, integrity_at, data)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _bad("USERNAME is not UTF-8") from None


def _check_fingerprint(data: bytes, at: int, value: bytes) -> None:
    expected = zlib.crc32(data[:at]) ^ _FINGERPRINT_XOR
    if len(value) != 4 or int.from_bytes(value, "big") != expected:
        raise _bad("FINGERPRINT does not match")


def has_integrity(message: StunMessage, password: str) -> bool:
    """True where MESSAGE-INTEGRITY is there and was made with `password` (RFC 8489 14.5)."""
    return is_signed(message.raw, message.integrity_at, password.encode())


def is_signed(raw: bytes, at: int | None, key: bytes) -> bool:
    """True where the MESSAGE-INTEGRITY at that offset was made with `key`; False without one."""
    if at is None:
        return False
    # The length field counts up to and including MESSAGE-INTEGRITY, whatever follows it.
    covered = raw[:2] + struct.pack("!H", at + 24 - 20) + raw[4:at]
    return hmac.compare_digest(hmac.digest(key, covered, hashlib.sha1), raw[at + 4 : at + 24])


def xor_address(address: IpAddress, port: int, transaction_id: bytes) -> bytes:
    """The value of a XOR-...-ADDRESS attribute."""
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction_id
    packed = bytes(a ^ b for a, b in zip(address.packed, mask, strict=False))
    return struct.pack("!BBH", 0, 1 if address.version == 4 else 2, port ^ (MAGIC_COOKIE >> 16)) + packed


def encode(kind: int, transaction_id: bytes, attributes: Iterable[tuple[int, bytes]], key: bytes | None) -> bytes:
    """A message of that type; with a key it ends in MESSAGE-INTEGRITY."""
    body = b"".join(_ATTRIBUTE.pack(t, len(v)) + v + bytes(-len(v) % 4) for t, v in attributes)
    length = len(body) + (24 if key is not None else 0)
    message = _HEADER.pack(kind, length, MAGIC_COOKIE, transaction_id) + body
    if key is None:
        return message
    return message + _ATTRIBUTE.pack(_MESSAGE_INTEGRITY, 20) + hmac.digest(key, message, hashlib.sha1)


def error_code(code: int, text: str) -> tuple[int, bytes]:
    """The attribute ERROR-CODE."""
    return _ERROR_CODE, struct.pack("!HBB", 0, code // 100, code % 100) + text.encode()


def _fingerprinted(kind: int, transaction_id: bytes, attributes: list[tuple[int, bytes]], password: str) -> bytes:
    signed = encode(kind, transaction_id, attributes, password.encode())
    final = signed[:2] + struct.pack("!H", len(signed) + 8 - 20) + signed[4:]
    return final + _ATTRIBUTE.pack(_FINGERPRINT, 4) + struct.pack("!I", zlib.crc32(final) ^ _FINGERPRINT_XOR)


def binding_success(request: StunMessage, host: str, port: int, password: str) -> bytes:
    """The answer to a good check; `host` and `port` are where it came from."""
    mapped = xor_address(unmapped(ip_address(host)), port, request.transaction_id)
    return _fingerprinted(BINDING_SUCCESS, request.transaction_id, [(_XOR_MAPPED_ADDRESS, mapped)], password)


def role_conflict(request: StunMessage, password: str) -> bytes:
    """487 for a peer that claims the controlled role, which is always ours (RFC 8445 7.3.1.1)."""
    return _fingerprinted(BINDING_ERROR, request.transaction_id, [error_code(487, "Role Conflict")], password)


def binding_request(
    transaction_id: bytes,
    username: str,
    password: str,
    *,
    priority: int = 1,
    use_candidate: bool = False,
    tie_breaker: int | None = None,
) -> bytes:
    """A check as a full agent sends it: for tests and for clients of ours, which name a `tie_breaker` of 64 bits."""
    attributes = [(_USERNAME, username.encode()), (_PRIORITY, struct.pack("!I", priority))]
    if use_candidate:
        attributes.append((_USE_CANDIDATE, b""))
    if tie_breaker is not None:
        attributes.append((_ICE_CONTROLLING, struct.pack("!Q", tie_breaker)))
    return _fingerprinted(BINDING_REQUEST, transaction_id, attributes, password)
