"""STUN messages as TURN uses them (RFC 8489, RFC 8656), and ChannelData.

`parse` is total: it returns a message or raises ProtocolError `bad-stun`, for any bytes. Integrity is a second step,
because the key depends on the user name that the message carries.
"""

import hashlib
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from conference.domain.addresses import IpAddress
from conference.domain.errors import ProtocolError
from conference.protocol import stun
from conference.protocol.stun import MAGIC_COOKIE
from conference.protocol.stun import error_code as error_code  # part of what is told here
from conference.protocol.stun import xor_address as xor_address

# Methods
BINDING: Final = 0x001
ALLOCATE: Final = 0x003
REFRESH: Final = 0x004
SEND: Final = 0x006
DATA: Final = 0x007
CREATE_PERMISSION: Final = 0x008
CHANNEL_BIND: Final = 0x009
# Classes
REQUEST: Final = 0x000
INDICATION: Final = 0x010
SUCCESS: Final = 0x100
ERROR: Final = 0x110
# Attributes
USERNAME: Final = 0x0006
MESSAGE_INTEGRITY: Final = 0x0008
ERROR_CODE: Final = 0x0009
UNKNOWN_ATTRIBUTES: Final = 0x000A
CHANNEL_NUMBER: Final = 0x000C
LIFETIME: Final = 0x000D
XOR_PEER_ADDRESS: Final = 0x0012
PAYLOAD: Final = 0x0013
REALM: Final = 0x0014
NONCE: Final = 0x0015
XOR_RELAYED_ADDRESS: Final = 0x0016
REQUESTED_ADDRESS_FAMILY: Final = 0x0017
EVEN_PORT: Final = 0x0018
REQUESTED_TRANSPORT: Final = 0x0019
DONT_FRAGMENT: Final = 0x001A
XOR_MAPPED_ADDRESS: Final = 0x0020
RESERVATION_TOKEN: Final = 0x0022
SOFTWARE: Final = 0x8022
FINGERPRINT: Final = 0x8028
KNOWN: Final = frozenset(
    {
        USERNAME, MESSAGE_INTEGRITY, CHANNEL_NUMBER, LIFETIME, XOR_PEER_ADDRESS, PAYLOAD, REALM, NONCE,
        REQUESTED_ADDRESS_FAMILY, REQUESTED_TRANSPORT, DONT_FRAGMENT, 0x0024, 0x0025, 0x0001,
    }
)  # fmt: skip  # 0x0024, 0x0025: ICE checks to a server; 0x0001: MAPPED-ADDRESS of old clients
FIRST_CHANNEL: Final = 0x4000
LAST_CHANNEL: Final = 0x4FFF
MAX_BYTES: Final = 65_535
_PAIR: Final = struct.Struct("!HH")
_CLASS: Final = 0x0110


@dataclass(frozen=True, slots=True)
class TurnMessage:
    """`attributes` keeps the first of each type, `peers` all XOR-PEER-ADDRESSes; `integrity_at` is the offset of
    MESSAGE-INTEGRITY, None without one."""

    method: int
    kind: int
    transaction_id: bytes
    attributes: dict[int, bytes]
    peers: tuple[bytes, ...]
    integrity_at: int | None
    raw: bytes

    def text(self, attribute: int) -> str:
        """An attribute in UTF-8; "" where it is absent or is not."""
        try:
            return self.attributes.get(attribute, b"").decode()
        except UnicodeDecodeError:
            return ""

    def number(self, attribute: int) -> int | None:
        """An attribute of four bytes."""
        value = self.attributes.get(attribute)
        return int.from_bytes(value, "big") if value is not None and len(value) == 4 else None

    @property
    def unknown(self) -> tuple[int, ...]:
        """Attributes that must be understood and are not."""
        return tuple(kind for kind in self.attributes if kind < 0x8000 and kind not in KNOWN)


def _bad(detail: str) -> ProtocolError:
    return ProtocolError("bad-stun", detail)


def parse(data: bytes) -> TurnMessage:
    """The message in `data`. Raises ProtocolError `bad-stun`."""
    kind, transaction_id = stun.read_header(data, MAX_BYTES)
    attributes: dict[int, bytes] = {}
    peers: list[bytes] = []
    integrity_at: int | None = None
    for attribute, at, value in stun.read_attributes(data):
        if integrity_at is not None:
            break  # RFC 8489 14.5: what follows MESSAGE-INTEGRITY is ignored
        if attribute == MESSAGE_INTEGRITY:
            if len(value) != 20:
                raise _bad("MESSAGE-INTEGRITY has 20 bytes")
            integrity_at = at
        elif attribute == XOR_PEER_ADDRESS:
            peers.append(value)
        attributes.setdefault(attribute, value)
    method = (kind & 0x000F) | (kind & 0x00E0) >> 1 | (kind & 0x3E00) >> 2
    return TurnMessage(method, kind & _CLASS, transaction_id, attributes, tuple(peers), integrity_at, data)


def has_integrity(message: TurnMessage, key: bytes) -> bool:
    """True where MESSAGE-INTEGRITY is there and was made with `key` (RFC 8489 14.5)."""
    return stun.is_signed(message.raw, message.integrity_at, key)


def long_term_key(username: str, realm: str, password: str) -> bytes:
    """RFC 8489 9.2.2; MD5 is what the protocol names."""
    return hashlib.md5(f"{username}:{realm}:{password}".encode(), usedforsecurity=False).digest()


def encode(
    method: int, kind: int, transaction_id: bytes, attributes: Iterable[tuple[int, bytes]], key: bytes | None = None
) -> bytes:
    """A message; with a key it ends in MESSAGE-INTEGRITY."""
    wire = (method & 0x000F) | (method & 0x0070) << 1 | (method & 0x0F80) << 2 | kind
    return stun.encode(wire, transaction_id, attributes, key)


def read_address(value: bytes, transaction_id: bytes) -> tuple[IpAddress, int]:
    """The address and port in a XOR-...-ADDRESS attribute. Raises ProtocolError `bad-stun`."""
    sizes = {1: 8, 2: 20}
    if len(value) < 4 or len(value) != sizes.get(value[1]):
        raise _bad("an address of another family or length")
    mask = struct.pack("!I", MAGIC_COOKIE) + transaction_id
    packed = bytes(a ^ b for a, b in zip(value[4:], mask, strict=False))
    port = int.from_bytes(value[2:4], "big") ^ (MAGIC_COOKIE >> 16)
    return (IPv4Address(packed) if value[1] == 1 else IPv6Address(packed)), port


def is_channel_data(data: bytes) -> bool:
    return len(data) >= 4 and data[0] & 0xC0 == 0x40


def read_channel_data(data: bytes) -> tuple[int, bytes]:
    """The channel and the payload. Raises ProtocolError `bad-stun`."""
    if len(data) < 4:
        raise _bad("a channel message is cut off")
    channel, length = _PAIR.unpack_from(data)
    if not FIRST_CHANNEL <= channel <= LAST_CHANNEL or length > len(data) - 4:
        raise _bad("a channel message is longer than what came")
    return channel, data[4 : 4 + length]


def channel_data(channel: int, payload: bytes, *, padded: bool) -> bytes:
    """`padded` over streams (RFC 8656 12.5)."""
    return _PAIR.pack(channel, len(payload)) + payload + (bytes(-len(payload) % 4) if padded else b"")


def frame_size(head: bytes) -> int | None:
    """How long the message or channel message is that begins with `head` on a stream, padding included; None where
    fewer than four bytes are there. Raises ProtocolError `bad-stun`."""
    if len(head) < 4:
        return None
    first, length = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:4], "big")
    if first & 0xC000 == 0:
        return 20 + length
    if FIRST_CHANNEL <= first <= LAST_CHANNEL:
        return 4 + length + (-length % 4)
    raise _bad("neither STUN nor a channel message")
