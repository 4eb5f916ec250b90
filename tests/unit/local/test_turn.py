"""The TURN server's core without sockets: who gets an allocation, what it may reach, and when it ends."""

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from conference.adapters.turn import TurnIceServers
from conference.domain.addresses import IpAddress
from conference.domain.errors import ProtocolError
from conference.domain.ids import ParticipantId, Secret
from local.turn import messages as t
from local.turn.core import Limits, TurnCore
from local.turn.nonces import Nonces
from local.turn.peers import PeerRules, Ports, parse_peers

pytestmark = pytest.mark.unit

REALM: Final = "parley"
DATE: Final = datetime(2026, 11, 25, 12, tzinfo=UTC)
RELAY: Final = ip_address("10.9.8.7")
SFU: Final = (ip_address("10.9.8.7"), 7882)
WEB: Final = (ip_address("8.8.8.8"), 53)
RULES: Final = PeerRules(RELAY, Ports(50_000, 50_099), parse_peers("10.9.8.7:7882-7883, 10.0.0.5:7882"))
ICE: Final = TurnIceServers(["turn:x"], Secret("new"), previous=Secret("old"))


@dataclass(eq=False)
class FakeLink:
    transport: Any = "udp"
    client: tuple[IpAddress, int] = (ip_address("198.51.100.1"), 4_000)
    sent: list[bytes] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.sent.append(data)


@dataclass(eq=False)
class FakeRelay:
    port: int
    sent: list[tuple[bytes, tuple[IpAddress, int]]] = field(default_factory=list)
    is_closed: bool = False

    def send(self, data: bytes, peer: tuple[IpAddress, int]) -> None:
        self.sent.append((data, peer))

    def close(self) -> None:
        self.is_closed = True


class World:
    """A server and what its clients say."""

    def __init__(self, *, limits: Limits | None = None, relays: int = 100) -> None:
        self.relays: list[FakeRelay] = []
        self.now = 1_000.0
        self.date = DATE
        self.left = relays
        self.core = TurnCore(
            realm=REALM,
            rules=RULES,
            passwords=ICE.credentials,
            open_relay=self._open,
            nonces=Nonces(b"key"),
            limits=limits,
        )
        self._number = 0

    def _open(self, link: Any) -> FakeRelay | None:
        if len([relay for relay in self.relays if not relay.is_closed]) >= self.left:
            return None
        relay = FakeRelay(50_000 + len(self.relays))
        self.relays.append(relay)
        return relay

    def raw(self, link: FakeLink, data: bytes) -> list[bytes]:
        before = len(link.sent)
        self.core.receive(link, data, self.now, self.date)
        return link.sent[before:]

    def ask(
        self,
        link: FakeLink,
        method: int,
        *attributes: tuple[int, bytes],
        username: str = "",
        password: str = "",
        transaction_id: bytes = b"",
    ) -> t.TurnMessage:
        """A request with credentials: first without, for the nonce."""
        self._number += 1
        id_ = transaction_id or self._number.to_bytes(12, "big")
        challenge = t.parse(self.raw(link, t.encode(method, t.REQUEST, id_, []))[0])
        assert error_of(challenge) == 401
        name = username or self.username()
        signed = [
            *attributes,
            (t.USERNAME, name.encode()),
            (t.REALM, challenge.attributes[t.REALM]),
            (t.NONCE, challenge.attributes[t.NONCE]),
        ]
        given = password or ICE.credentials(name, DATE)[0].reveal()
        key = t.long_term_key(name, REALM, given)
        return t.parse(self.raw(link, t.encode(method, t.REQUEST, id_, signed, key))[0])

    def username(self, participant: str = "ann") -> str:
        return str(ICE.for_participant(ParticipantId(participant), DATE)[0].username)

    def allocate(self, link: FakeLink, **options: Any) -> t.TurnMessage:
        return self.ask(link, t.ALLOCATE, TRANSPORT, **options)

    def permit(self, link: FakeLink, host: str, **options: Any) -> int:
        return error_of(self.ask(link, t.CREATE_PERMISSION, peer(link, host, 0), **options))


TRANSPORT: Final = (t.REQUESTED_TRANSPORT, bytes([17, 0, 0, 0]))


def peer(link: FakeLink, host: str, port: int) -> tuple[int, bytes]:
    # An IPv4 address is masked by the cookie alone, so the transaction's id does not matter.
    return t.XOR_PEER_ADDRESS, t.xor_address(ip_address(host), port, bytes(12))


def error_of(message: t.TurnMessage) -> int:
    """0 for a success."""
    value = message.attributes.get(t.ERROR_CODE)
    return 0 if value is None else value[2] * 100 + value[3]


def test_good_credentials_get_an_address_of_the_relays() -> None:
    world, link = World(), FakeLink()
    reply = world.allocate(link)
    assert (error_of(reply), reply.number(t.LIFETIME)) == (0, 600)
    assert t.read_address(reply.attributes[t.XOR_RELAYED_ADDRESS], reply.transaction_id) == (RELAY, 50_000)
    assert t.read_address(reply.attributes[t.XOR_MAPPED_ADDRESS], reply.transaction_id) == link.client
    key = t.long_term_key(world.username(), REALM, ICE.credentials(world.username(), DATE)[0].reveal())
    assert t.has_integrity(reply, key)
    assert world.core.counts.made == 1


def test_the_former_secret_is_taken_while_it_is_rotated() -> None:
    world, link = World(), FakeLink()
    former = ICE.credentials(world.username(), DATE)[1].reveal()
    assert error_of(world.allocate(link, password=former)) == 0


@pytest.mark.parametrize("password", ["wrong", "new"])
def test_a_wrong_password_is_refused_and_counted(password: str) -> None:
    world, link = World(), FakeLink()
    assert error_of(world.allocate(link, password=password)) == 401
    assert (world.core.allocations, world.core.counts.auth_failures) == (0, 1)


def test_an_expired_name_makes_no_allocation_and_keeps_the_one_it_has() -> None:
    world, link, late = World(), FakeLink(), FakeLink(client=(ip_address("198.51.100.2"), 1))
    assert error_of(world.allocate(link)) == 0
    world.date = DATE + timedelta(minutes=6)
    assert error_of(world.allocate(late)) == 401
    assert error_of(world.ask(link, t.REFRESH)) == 0
    assert world.permit(link, "8.8.8.8") == 0


def test_a_nonce_of_another_client_or_of_long_ago_is_stale() -> None:
    world, link, other = World(), FakeLink(), FakeLink(client=(ip_address("198.51.100.2"), 1))
    challenge = t.parse(world.raw(link, t.encode(t.ALLOCATE, t.REQUEST, bytes(12), []))[0])
    name = world.username()
    key = t.long_term_key(name, REALM, ICE.credentials(name, DATE)[0].reveal())
    signed = [TRANSPORT, (t.USERNAME, name.encode()), (t.REALM, b"parley"), (t.NONCE, challenge.attributes[t.NONCE])]
    request = t.encode(t.ALLOCATE, t.REQUEST, bytes(12), signed, key)
    assert error_of(t.parse(world.raw(other, request)[0])) == 438
    world.now += 601
    assert error_of(t.parse(world.raw(link, request)[0])) == 438


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ((), 400),
        (((t.REQUESTED_TRANSPORT, bytes([6, 0, 0, 0])),), 442),
        ((TRANSPORT, (t.REQUESTED_ADDRESS_FAMILY, b"\2\0\0\0")), 440),
        ((TRANSPORT, (t.EVEN_PORT, b"\0")), 420),
        ((TRANSPORT, (t.RESERVATION_TOKEN, bytes(8))), 420),
    ],
)
def test_what_is_not_offered_is_refused_by_its_code(attributes: Any, code: int) -> None:
    assert error_of(_signed(World(), *attributes)) == code


def _signed(world: World, *attributes: tuple[int, bytes]) -> t.TurnMessage:
    return world.ask(FakeLink(), t.ALLOCATE, *attributes)


def test_a_second_allocation_is_a_mismatch_and_a_repeated_request_is_not() -> None:
    world, link = World(), FakeLink()
    first = world.allocate(link, transaction_id=b"a" * 12)
    assert error_of(world.allocate(link, transaction_id=b"a" * 12)) == 0
    assert error_of(world.allocate(link)) == 437
    assert error_of(first) == 0
    assert len(world.relays) == 1


def test_quotas_of_a_name_and_of_the_server() -> None:
    def links() -> list[FakeLink]:
        return [FakeLink(client=(ip_address("198.51.100.1"), port)) for port in range(1, 5)]

    world = World(limits=Limits(allocations_of_user=3))
    assert [error_of(world.allocate(link)) for link in links()] == [0, 0, 0, 486]
    assert error_of(world.allocate(FakeLink(), username=world.username("bob"))) == 0
    world = World(limits=Limits(allocations=2))
    assert [error_of(world.allocate(link)) for link in links()] == [0, 0, 508, 508]
    world = World(relays=1)
    assert [error_of(world.allocate(link)) for link in links()][:2] == [0, 508]
    assert world.core.counts.refused == 3


FORBIDDEN: Final = (
    "127.0.0.1", "10.0.0.9", "192.168.1.1", "169.254.169.254", "100.64.0.1", "224.0.0.1", "0.0.0.0", "168.63.129.16",
    "::ffff:127.0.0.1", "::ffff:10.0.0.9",
)  # fmt: skip


@pytest.mark.parametrize("host", FORBIDDEN)
def test_special_addresses_are_forbidden_in_every_notation(host: str) -> None:
    world, link = World(), FakeLink()
    world.allocate(link)
    id_ = b"n" * 12
    value = t.xor_address(ip_address(host), 80, id_)
    attribute = (t.XOR_PEER_ADDRESS, value)
    assert error_of(world.ask(link, t.CREATE_PERMISSION, attribute, transaction_id=id_)) == 403
    number = (t.CHANNEL_NUMBER, b"\x40\x00\0\0")
    assert error_of(world.ask(link, t.CHANNEL_BIND, number, attribute, transaction_id=id_)) == 403
    assert world.core.counts.refused_peers >= 2


def test_an_ipv6_peer_has_no_way_from_here() -> None:
    world, link = World(), FakeLink()
    world.allocate(link)
    id_ = b"n" * 12
    value = t.xor_address(ip_address("2606:4700::1111"), 80, id_)
    assert error_of(world.ask(link, t.CREATE_PERMISSION, (t.XOR_PEER_ADDRESS, value), transaction_id=id_)) == 443


def test_media_nodes_and_relays_are_reached_on_their_own_ports_only() -> None:
    world, link = World(), FakeLink()
    world.allocate(link)
    assert world.permit(link, "10.9.8.7") == 0
    assert world.permit(link, "10.0.0.5") == 0
    for host, port, arrives in (
        ("10.9.8.7", 7882, True),
        ("10.9.8.7", 7883, True),
        ("10.9.8.7", 6379, False),
        ("10.9.8.7", 50_050, True),
        ("10.0.0.5", 7882, True),
        ("10.0.0.5", 22, False),
    ):
        before = len(world.relays[0].sent)
        world.raw(link, t.encode(t.SEND, t.INDICATION, bytes(12), [peer(link, host, port), (t.PAYLOAD, b"hello")]))
        assert (len(world.relays[0].sent) > before) is arrives, (host, port)


def test_data_passes_both_ways_with_a_permission_and_not_without() -> None:
    world, link = World(), FakeLink()
    world.allocate(link)
    send = t.encode(t.SEND, t.INDICATION, bytes(12), [peer(link, "8.8.8.8", 53), (t.PAYLOAD, b"hello")])
    world.raw(link, send)
    world.core.relayed(link, b"unasked", WEB, world.now)
    assert world.relays[0].sent == []
    assert world.permit(link, "8.8.8.8") == 0
    world.raw(link, send)
    assert world.relays[0].sent == [(b"hello", WEB)]
    world.core.relayed(link, b"answer", WEB, world.now)
    heard = t.parse(link.sent[-1])
    assert (heard.method, heard.kind, heard.attributes[t.PAYLOAD]) == (t.DATA, t.INDICATION, b"answer")
    world.now += 301
    world.raw(link, send)
    assert len(world.relays[0].sent) == 1
    counts = world.core.counts
    assert (counts.egress_bytes, counts.ingress_bytes) == (5, 6)


def test_a_channel_carries_data_until_it_expires() -> None:
    world, link = World(), FakeLink(transport="tcp")
    world.allocate(link)
    number = (t.CHANNEL_NUMBER, b"\x40\x01\0\0")
    assert error_of(world.ask(link, t.CHANNEL_BIND, number, peer(link, "8.8.8.8", 53))) == 0
    world.raw(link, t.channel_data(0x4001, b"hello", padded=True))
    assert world.relays[0].sent == [(b"hello", WEB)]
    world.core.relayed(link, b"back", WEB, world.now)
    assert link.sent[-1] == b"\x40\x01\0\4back"
    assert error_of(world.ask(link, t.CHANNEL_BIND, number, peer(link, "8.8.4.4", 53))) == 400
    other = (t.CHANNEL_NUMBER, b"\x40\x02\0\0")
    assert error_of(world.ask(link, t.CHANNEL_BIND, other, peer(link, "8.8.8.8", 53))) == 400
    world.now += 599
    world.core.tick(world.now)
    assert error_of(world.ask(link, t.REFRESH)) == 0
    world.now += 2
    world.core.tick(world.now)
    world.raw(link, t.channel_data(0x4001, b"late", padded=True))
    assert len(world.relays[0].sent) == 1


def test_permissions_and_channels_are_bounded() -> None:
    world, link = World(limits=Limits(permissions=3, channels=2)), FakeLink()
    world.allocate(link)
    assert [world.permit(link, f"8.8.8.{n}") for n in range(1, 5)] == [0, 0, 0, 508]
    world.now += 301
    for n, code in ((1, 0), (2, 0), (3, 508)):
        number = (t.CHANNEL_NUMBER, bytes([0x40, n, 0, 0]))
        assert error_of(world.ask(link, t.CHANNEL_BIND, number, peer(link, "8.8.8.1", n))) == code


def test_an_allocation_ends_by_time_by_zero_with_its_stream_and_after_twelve_hours() -> None:
    world = World()
    links = [FakeLink(client=(ip_address("198.51.100.1"), port)) for port in range(1, 5)]
    for link in links:
        world.allocate(link)
    assert error_of(world.ask(links[0], t.REFRESH, (t.LIFETIME, bytes(4)))) == 0
    assert world.relays[0].is_closed
    world.core.closed(links[1])
    assert world.relays[1].is_closed
    for _ in range(int(12 * 3_600 / 500)):
        world.now += 500
        world.core.tick(world.now)
        if world.core.has(links[3]):
            world.ask(links[3], t.REFRESH)
    assert world.relays[2].is_closed
    assert world.core.allocations == 1
    world.now += 500
    world.core.tick(world.now)
    assert world.core.allocations == 0


def test_strangers_are_answered_so_often_a_second_and_briefly() -> None:
    world = World(limits=Limits(strangers_per_s=5))
    link = FakeLink()
    request = t.encode(t.ALLOCATE, t.REQUEST, bytes(12), [])
    replies = [reply for _ in range(50) for reply in world.raw(link, request)]
    assert len(replies) == 5
    assert max(map(len, replies)) < 120
    world.now += 1
    assert len(world.raw(link, request)) == 1


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x40\x00", b"\0\x03\0\0\x21\x12\xa4\x42", b"\0\x01"]))
def test_any_bytes_are_a_message_or_refused(data: bytes, head: bytes) -> None:
    for read in (t.parse, t.read_channel_data, t.frame_size):
        with contextlib.suppress(ProtocolError):
            read(head + data)
    World().raw(FakeLink(), head + data)


@given(
    st.sampled_from([t.ALLOCATE, t.REFRESH, t.SEND, t.CREATE_PERMISSION, t.CHANNEL_BIND]),
    st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=30)), max_size=8),
)
def test_what_is_encoded_is_read_again(method: int, attributes: list[tuple[int, bytes]]) -> None:
    kept = [pair for pair in attributes if pair[0] not in (t.MESSAGE_INTEGRITY, t.XOR_PEER_ADDRESS)]
    message = t.parse(t.encode(method, t.REQUEST, b"t" * 12, kept, b"key"))
    assert (message.method, message.kind) == (method, t.REQUEST)
    assert t.has_integrity(message, b"key")
    assert not t.has_integrity(message, b"other")
    for kind, value in reversed(kept):
        assert message.attributes[kind] == next(v for k, v in kept if k == kind) or value is None


class Clients(RuleBasedStateMachine):
    """Clients do what they like: nothing leaks, nothing special is reached."""

    @initialize()
    def begin(self) -> None:
        self.world = World(limits=Limits(allocations=5, allocations_of_user=3, permissions=4, channels=3))
        self.links = [FakeLink(client=(ip_address("198.51.100.1"), port)) for port in range(1, 8)]

    @rule(at=st.integers(0, 6), name=st.sampled_from(["ann", "bob", "cid"]))
    def allocate(self, at: int, name: str) -> None:
        self.world.allocate(self.links[at], username=self.world.username(name))

    @rule(
        at=st.integers(0, 6),
        host=st.sampled_from(["8.8.8.8", "8.8.4.4", "127.0.0.1", "10.0.0.5"]),
        port=st.integers(0, 9_000),
    )
    def reach(self, at: int, host: str, port: int) -> None:
        link = self.links[at]
        name = next((a.username for key, a in self.world.core._allocations.items() if key is link), "")
        self.world.permit(link, host, username=name)
        data = [peer(link, host, port), (t.PAYLOAD, b"x")]
        self.world.raw(link, t.encode(t.SEND, t.INDICATION, bytes(12), data))

    @rule(seconds=st.sampled_from([1, 200, 601]))
    def wait(self, seconds: int) -> None:
        self.world.now += seconds
        self.world.core.tick(self.world.now)

    @rule(at=st.integers(0, 6))
    def close(self, at: int) -> None:
        self.world.core.closed(self.links[at])

    @invariant()
    def relays_are_those_of_allocations(self) -> None:
        if hasattr(self, "world"):
            live = [relay for relay in self.world.relays if not relay.is_closed]
            assert len(live) == self.world.core.allocations <= 5

    @invariant()
    def nothing_special_is_reached(self) -> None:
        if hasattr(self, "world"):
            reached = {where for relay in self.world.relays for _, where in relay.sent}
            assert all(RULES.allows(*where) for where in reached)


TestClients = Clients.TestCase
TestClients.settings = settings(max_examples=50, deadline=None)
