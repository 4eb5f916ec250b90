"""A TURN server without I/O (RFC 8656): links and datagrams go in, what to send comes out.

Relays UDP over IPv4; clients come over UDP, TCP or TLS. Credentials are the long-term ones of RFC 8489 9.2 with user
names that expire: expiry counts at Allocate only, so a relayed call outlives its credential, for 12 hours at most.
Everything that a client can make the server keep is bounded, and what is refused is counted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, Protocol

from conference.domain.addresses import IpAddress, unmapped
from conference.domain.errors import ProtocolError
from conference.domain.ids import Secret
from conference.protocol.rate import TokenBucket
from local.turn import messages as t
from local.turn.nonces import Nonces
from local.turn.peers import PeerRules

Transport = Literal["udp", "tcp", "tls"]
DEFAULT_LIFETIME_S: Final = 600
MAX_LIFETIME_S: Final = 3_600
LONGEST_S: Final = 12 * 3_600
PERMISSION_S: Final = 300
CHANNEL_S: Final = 600
UDP: Final = 17
MAX_DATAGRAM: Final = 1_500
_SOFTWARE: Final = (t.SOFTWARE, b"Parley")


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the whole server, a user name, an allocation, and what strangers are answered each second."""

    allocations: int = 1_000
    allocations_of_user: int = 10
    permissions: int = 64
    channels: int = 64
    strangers_per_s: int = 200


class Link(Protocol):
    """A client's five-tuple: one object each, equal to itself only."""

    @property
    def transport(self) -> Transport: ...

    @property
    def client(self) -> tuple[IpAddress, int]: ...

    def send(self, data: bytes) -> None:
        """Never waits; what finds no room is dropped."""
        ...


class Relay(Protocol):
    """A UDP socket of an allocation."""

    @property
    def port(self) -> int: ...

    def send(self, data: bytes, peer: tuple[IpAddress, int]) -> None: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Allocation:
    link: Link
    relay: Relay
    username: str
    key: bytes = field(repr=False)
    transaction_id: bytes
    began: float
    expires: float
    lifetime: int
    permissions: dict[IpAddress, float] = field(default_factory=dict)
    channels: dict[int, tuple[IpAddress, int]] = field(default_factory=dict)
    numbers: dict[tuple[IpAddress, int], int] = field(default_factory=dict)
    bound_until: dict[int, float] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """Since the start. `refused_peers` are permissions, channels and datagrams beyond the rules."""

    made: int = 0
    refused: int = 0
    auth_failures: int = 0
    refused_peers: int = 0
    malformed: int = 0
    egress_bytes: int = 0
    ingress_bytes: int = 0


class _Refuse(Exception):
    def __init__(self, code: int, text: str, *more: tuple[int, bytes]) -> None:
        super().__init__(text)
        self.code = code
        self.more = more


class TurnCore:
    """`passwords` gives what may be the password of an unexpired user name, `open_relay` a socket, None where no port
    is left. `now` is seconds of a monotonic clock, `date` the wall clock."""

    def __init__(
        self,
        *,
        realm: str,
        rules: PeerRules,
        passwords: Callable[[str, datetime], Sequence[Secret]],
        open_relay: Callable[[Link], Relay | None],
        nonces: Nonces,
        limits: Limits | None = None,
    ) -> None:
        self._realm = realm
        self._rules = rules
        self._passwords = passwords
        self._open_relay = open_relay
        self._nonces = nonces
        self._limits = limits or Limits()
        self._allocations: dict[Link, Allocation] = {}
        self._strangers = TokenBucket(self._limits.strangers_per_s, self._limits.strangers_per_s, 0.0)
        self.counts = Counts()

    @property
    def allocations(self) -> int:
        return len(self._allocations)

    def has(self, link: Link) -> bool:
        """Whether the link has an allocation."""
        return link in self._allocations

    # --- from clients ---
    def receive(self, link: Link, data: bytes, now: float, date: datetime) -> None:
        """A datagram, or a message of a stream."""
        try:
            if t.is_channel_data(data):
                self._channel_data(link, data, now)
                return
            message = t.parse(data)
        except ProtocolError:
            self.counts.malformed += 1
            return
        if message.kind == t.REQUEST:
            self._request(link, message, now, date)
        elif message.kind == t.INDICATION and message.method == t.SEND:
            self._send_indication(link, message, now)

    def _request(self, link: Link, message: t.TurnMessage, now: float, date: datetime) -> None:
        key: bytes | None = None
        try:
            if message.unknown:
                listed = b"".join(kind.to_bytes(2, "big") for kind in message.unknown)
                raise _Refuse(420, "Unknown Attribute", (t.UNKNOWN_ATTRIBUTES, listed))
            if message.method == t.BINDING:
                self._binding(link, message, now)
                return
            handler = _HANDLERS.get(message.method)
            if handler is None:
                raise _Refuse(400, "Bad Request")
            key = self._authenticate(link, message, now, date)
            attributes = handler(self, link, message, key, now)
            reply = t.encode(message.method, t.SUCCESS, message.transaction_id, [*attributes, _SOFTWARE], key)
            link.send(reply)
        except ProtocolError:
            self._refuse(link, message, _Refuse(400, "Bad Request"), key, now)
        except _Refuse as refusal:
            self._refuse(link, message, refusal, key, now)

    def _refuse(self, link: Link, message: t.TurnMessage, refusal: _Refuse, key: bytes | None, now: float) -> None:
        if key is None and not self._may_answer_stranger(now):
            return
        if message.method == t.ALLOCATE and refusal.code not in (401, 438):
            self.counts.refused += 1
        attributes = [t.error_code(refusal.code, str(refusal)), *refusal.more, _SOFTWARE]
        link.send(t.encode(message.method, t.ERROR, message.transaction_id, attributes, key))

    def _may_answer_stranger(self, now: float) -> bool:
        """An answer to a forged address is traffic for somebody else."""
        return self._strangers.take(now)

    def _binding(self, link: Link, message: t.TurnMessage, now: float) -> None:
        if self._may_answer_stranger(now):
            mapped = (t.XOR_MAPPED_ADDRESS, t.xor_address(*link.client, message.transaction_id))
            link.send(t.encode(t.BINDING, t.SUCCESS, message.transaction_id, [mapped]))

    # --- credentials ---
    def _challenge(self, code: int, text: str, link: Link, now: float) -> _Refuse:
        nonce = self._nonces.make(link.client, now)
        return _Refuse(code, text, (t.REALM, self._realm.encode()), (t.NONCE, nonce))

    def _authenticate(self, link: Link, message: t.TurnMessage, now: float, date: datetime) -> bytes:
        """The key of the request's integrity."""
        if message.integrity_at is None:
            raise self._challenge(401, "Unauthorized", link, now)
        needed = (t.USERNAME, t.REALM, t.NONCE)
        if any(attribute not in message.attributes for attribute in needed):
            raise _Refuse(400, "Bad Request")
        if not self._nonces.knows(message.attributes[t.NONCE], link.client, now):
            raise self._challenge(438, "Stale Nonce", link, now)
        username = message.text(t.USERNAME)
        allocation = self._allocations.get(link)
        if allocation is not None:
            keys = [allocation.key] if allocation.username == username else []
        else:
            known = self._passwords(username, date)
            keys = [t.long_term_key(username, self._realm, password.reveal()) for password in known]
        for key in keys:
            if t.has_integrity(message, key):
                return key
        self.counts.auth_failures += 1
        if allocation is not None and allocation.username != username:
            raise _Refuse(441, "Wrong Credentials")
        raise self._challenge(401, "Unauthorized", link, now)

    # --- requests ---
    def _allocate(self, link: Link, message: t.TurnMessage, key: bytes, now: float) -> list[tuple[int, bytes]]:
        known = self._allocations.get(link)
        if known is not None and known.transaction_id == message.transaction_id:  # the answer was lost
            return self._allocated(known, message.transaction_id)
        self._check_allocate(link, message)
        relay = self._open_relay(link)
        if relay is None:
            raise _Refuse(508, "Insufficient Capacity")
        lifetime = _lifetime(message.number(t.LIFETIME)) or DEFAULT_LIFETIME_S
        username = message.text(t.USERNAME)
        allocation = Allocation(link, relay, username, key, message.transaction_id, now, now + lifetime, lifetime)
        self._allocations[link] = allocation
        self.counts.made += 1
        return self._allocated(allocation, message.transaction_id)

    def _check_allocate(self, link: Link, message: t.TurnMessage) -> None:
        if link in self._allocations:
            raise _Refuse(437, "Allocation Mismatch")
        transport = message.attributes.get(t.REQUESTED_TRANSPORT, b"")
        if len(transport) != 4:
            raise _Refuse(400, "Bad Request")
        if transport[0] != UDP:
            raise _Refuse(442, "Unsupported Transport Protocol")
        if message.attributes.get(t.REQUESTED_ADDRESS_FAMILY, b"\1")[:1] != b"\1":
            raise _Refuse(440, "Address Family not Supported")
        if len(self._allocations) >= self._limits.allocations:
            raise _Refuse(508, "Insufficient Capacity")
        username = message.text(t.USERNAME)
        of_user = sum(allocation.username == username for allocation in self._allocations.values())
        if of_user >= self._limits.allocations_of_user:
            raise _Refuse(486, "Allocation Quota Reached")

    def _allocated(self, allocation: Allocation, transaction_id: bytes) -> list[tuple[int, bytes]]:
        relayed = t.xor_address(self._rules.relay, allocation.relay.port, transaction_id)
        mapped = t.xor_address(*allocation.link.client, transaction_id)
        return [
            (t.XOR_RELAYED_ADDRESS, relayed),
            (t.XOR_MAPPED_ADDRESS, mapped),
            (t.LIFETIME, allocation.lifetime.to_bytes(4, "big")),
        ]

    def _own(self, link: Link) -> Allocation:
        allocation = self._allocations.get(link)
        if allocation is None:
            raise _Refuse(437, "Allocation Mismatch")
        return allocation

    def _refresh(self, link: Link, message: t.TurnMessage, key: bytes, now: float) -> list[tuple[int, bytes]]:
        allocation = self._own(link)
        wanted = message.number(t.LIFETIME)
        lifetime = DEFAULT_LIFETIME_S if wanted is None else _lifetime(wanted)
        lifetime = min(lifetime, max(0, int(allocation.began + LONGEST_S - now)))
        if lifetime == 0:
            self._end(allocation)
        allocation.expires = now + lifetime
        return [(t.LIFETIME, lifetime.to_bytes(4, "big"))]

    def _permit(self, link: Link, message: t.TurnMessage, key: bytes, now: float) -> list[tuple[int, bytes]]:
        allocation = self._own(link)
        if not message.peers:
            raise _Refuse(400, "Bad Request")
        hosts = [t.read_address(value, message.transaction_id)[0] for value in message.peers]
        for host in hosts:
            self._check_host(host)
        self._grant(allocation, hosts, now)
        return []

    def _bind(self, link: Link, message: t.TurnMessage, key: bytes, now: float) -> list[tuple[int, bytes]]:
        allocation = self._own(link)
        number = int.from_bytes(message.attributes.get(t.CHANNEL_NUMBER, b"")[:2], "big")
        if len(message.peers) != 1 or not t.FIRST_CHANNEL <= number <= t.LAST_CHANNEL:
            raise _Refuse(400, "Bad Request")
        peer = t.read_address(message.peers[0], message.transaction_id)
        self._check_host(peer[0])
        if not self._rules.allows(*peer):
            self.counts.refused_peers += 1
            raise _Refuse(403, "Forbidden")
        if allocation.channels.get(number, peer) != peer or allocation.numbers.get(peer, number) != number:
            raise _Refuse(400, "Bad Request")
        if number not in allocation.channels and len(allocation.channels) >= self._limits.channels:
            raise _Refuse(508, "Insufficient Capacity")
        self._grant(allocation, [peer[0]], now)
        allocation.channels[number], allocation.numbers[peer] = peer, number
        allocation.bound_until[number] = now + CHANNEL_S
        return []

    def _check_host(self, host: IpAddress) -> None:
        if host.version != 4:
            raise _Refuse(443, "Peer Address Family Mismatch") if not _is_hidden(host) else self._forbidden()
        if not self._rules.allows_host(host):
            raise self._forbidden()

    def _forbidden(self) -> _Refuse:
        self.counts.refused_peers += 1
        return _Refuse(403, "Forbidden")

    def _grant(self, allocation: Allocation, hosts: Sequence[IpAddress], now: float) -> None:
        held = {host: until for host, until in allocation.permissions.items() if until > now}
        if len(held.keys() | set(hosts)) > self._limits.permissions:
            raise _Refuse(508, "Insufficient Capacity")
        allocation.permissions = held | dict.fromkeys(hosts, now + PERMISSION_S)

    # --- media ---
    def _send_indication(self, link: Link, message: t.TurnMessage, now: float) -> None:
        allocation = self._allocations.get(link)
        payload = message.attributes.get(t.PAYLOAD)
        if allocation is None or payload is None or len(message.peers) != 1:
            return
        try:
            peer = t.read_address(message.peers[0], message.transaction_id)
        except ProtocolError:
            self.counts.malformed += 1
            return
        self._to_peer(allocation, peer, payload, now)

    def _channel_data(self, link: Link, data: bytes, now: float) -> None:
        allocation = self._allocations.get(link)
        number, payload = t.read_channel_data(data)
        peer = allocation.channels.get(number) if allocation is not None else None
        if allocation is not None and peer is not None and allocation.bound_until[number] > now:
            self._to_peer(allocation, peer, payload, now)

    def _to_peer(self, allocation: Allocation, peer: tuple[IpAddress, int], payload: bytes, now: float) -> None:
        if allocation.expires <= now or len(payload) > MAX_DATAGRAM:
            return
        if allocation.permissions.get(peer[0], 0.0) <= now or not self._rules.allows(*peer):
            self.counts.refused_peers += 1
            return
        self.counts.egress_bytes += len(payload)
        allocation.relay.send(payload, peer)

    def relayed(self, link: Link, data: bytes, peer: tuple[IpAddress, int], now: float) -> None:
        """A datagram of a peer, for the allocation of `link`."""
        allocation = self._allocations.get(link)
        peer = (unmapped(peer[0]), peer[1])
        if allocation is None or allocation.expires <= now or len(data) > MAX_DATAGRAM:
            return
        if allocation.permissions.get(peer[0], 0.0) <= now or not self._rules.allows(*peer):
            self.counts.refused_peers += 1
            return
        self.counts.ingress_bytes += len(data)
        number = allocation.numbers.get(peer)
        if number is not None and allocation.bound_until[number] > now:
            link.send(t.channel_data(number, data, padded=link.transport != "udp"))
            return
        transaction_id = self._nonces.transaction_id()
        attributes = [(t.XOR_PEER_ADDRESS, t.xor_address(*peer, transaction_id)), (t.PAYLOAD, data)]
        link.send(t.encode(t.DATA, t.INDICATION, transaction_id, attributes))

    # --- ends ---
    def closed(self, link: Link) -> None:
        """The client's stream has ended."""
        allocation = self._allocations.get(link)
        if allocation is not None:
            self._end(allocation)

    def tick(self, now: float) -> None:
        """Ends what has expired; call it every few seconds."""
        for allocation in tuple(self._allocations.values()):
            if allocation.expires <= now or now - allocation.began >= LONGEST_S:
                self._end(allocation)
                continue
            for number, until in tuple(allocation.bound_until.items()):
                if until <= now:
                    del allocation.bound_until[number], allocation.numbers[allocation.channels.pop(number)]

    def end_all(self) -> None:
        for allocation in tuple(self._allocations.values()):
            self._end(allocation)

    def _end(self, allocation: Allocation) -> None:
        if self._allocations.pop(allocation.link, None) is not None:
            allocation.relay.close()


def _lifetime(wanted: int | None) -> int:
    return 0 if not wanted else min(max(wanted, DEFAULT_LIFETIME_S), MAX_LIFETIME_S)


def _is_hidden(host: IpAddress) -> bool:
    """An IPv6 form of an IPv4 address is refused as forbidden, whatever it stands for."""
    return unmapped(host) != host


_Handler = Callable[[TurnCore, Link, t.TurnMessage, bytes, float], list[tuple[int, bytes]]]
_HANDLERS: Final[dict[int, _Handler]] = {
    t.ALLOCATE: TurnCore._allocate,
    t.REFRESH: TurnCore._refresh,
    t.CREATE_PERMISSION: TurnCore._permit,
    t.CHANNEL_BIND: TurnCore._bind,
}
