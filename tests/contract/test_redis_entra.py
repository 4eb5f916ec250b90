"""Redis by tokens of Entra ID: renewed in live connections, ended by the server, refused, late, and through TLS.

Real servers, on their own and as a cluster, behind gates that cut a connection whose token has ended, as Azure does.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from conference.adapters.redis import passwords
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.presence import RedisPresence
from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId
from conference.ports.presence import RoomEvent
from local.edge.certificates import Certificates
from tests.support.redis import RedisServer
from tests.support.redis_gate import OBJECT_ID, Authority, Gate, gate_to
from tests.support.rooms import enter_room
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

LISTENER_PINGS_S = 2.5
ROOMS = [MeetingId(f"room-{number}") for number in range(6)]


@dataclass
class Azure:
    """The servers behind their gates, and a client that signs in by the authority's tokens."""

    authority: Authority
    gates: list[Gate]
    is_cluster: bool
    presence: RedisPresence
    client: RedisClient

    def signed_in_with(self) -> set[str]:
        return {token for gate in self.gates for token in gate.tokens}

    def accepted(self) -> int:
        return sum(gate.accepted for gate in self.gates)

    def end(self, token: str) -> int:
        """As at the token's time: it opens nothing, and connections that go by it end. Gives how many there were."""
        self.authority.end(token)
        return sum(gate.cut(token) for gate in self.gates)


@pytest.fixture(params=["server", "cluster"])
async def azure(request: pytest.FixtureRequest) -> AsyncIterator[Azure]:
    is_cluster = request.param == "cluster"
    nodes: list[RedisServer]
    nodes = request.getfixturevalue("redis_cluster").nodes if is_cluster else [request.getfixturevalue("redis_server")]
    authority = Authority(nodes)
    async with AsyncExitStack() as stack:
        gates = [await stack.enter_async_context(gate_to(node.port)) for node in nodes]
        if is_cluster:
            await announce(nodes, [gate.port for gate in gates])
        redis = connect(f"redis://127.0.0.1:{gates[0].port}", cluster=is_cluster, credential=authority)
        client = RedisClient(redis)
        yield Azure(authority, gates, is_cluster, RedisPresence(client, process_id="p1"), client)
        await client.close()
        if is_cluster:
            await announce(nodes, [0, 0])
    for node in nodes:
        node.ask("ACL", "DELUSER", OBJECT_ID)


async def announce(nodes: list[RedisServer], ports: list[int]) -> None:
    """Makes clients reach the nodes at these ports; 0: at their own."""
    for node, port in zip(nodes, ports, strict=True):
        assert node.ask("CONFIG", "SET", "cluster-announce-port", str(port)) == b"+OK\r\n"
    shown = [str(port or node.port).encode() for node, port in zip(nodes, ports, strict=True)]
    await eventually(lambda: all(port in node.ask("CLUSTER", "SLOTS") for node in nodes for port in shown))


async def publish(azure: Azure, room: MeetingId, text: str) -> None:
    assert await azure.presence.publish(room, "MessageReceived", f'"{text}"') is not None


async def open_rooms(azure: Azure) -> None:
    for room in ROOMS:
        await enter_room(azure.presence, room)


class Listening:
    """Follows all rooms; keeps what was heard."""

    def __init__(self, azure: Azure) -> None:
        self.heard: list[RoomEvent] = []
        self.listener = azure.presence.listener(self.heard.append)
        self.running = asyncio.create_task(self.listener.run())

    async def follow(self) -> None:
        for room in ROOMS:
            self.listener.follow(room, "g1", 1)
        async with asyncio.timeout(10):
            for room in ROOMS:
                await self.listener.ready(room)

    def texts(self, room: MeetingId) -> list[str]:
        messages = [event for event in self.heard if event.type == "MessageReceived"]
        return [event.payload.strip('"') for event in messages if event.room_id == room]

    async def stop(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


@pytest.fixture
async def listening(azure: Azure) -> AsyncIterator[Listening]:
    await open_rooms(azure)
    made = Listening(azure)
    await made.follow()
    yield made
    await made.stop()


async def test_tokens_are_renewed_in_live_connections_and_nothing_is_lost_or_doubled(
    azure: Azure, listening: Listening
) -> None:
    sent = 0

    async def send() -> None:
        nonlocal sent
        await asyncio.gather(*(publish(azure, room, str(sent)) for room in ROOMS))
        sent += 1

    await send()
    for _ in range(2):
        old, busy = azure.authority.given[-1], len(azure.gates)

        async def renewed() -> bool:
            await send()
            new = azure.authority.given[-1]
            signed_in = [token for gate in azure.gates for token in gate.tokens if token == new]
            return new != old and len(signed_in) > 2 * busy  # noqa: B023  # called within this turn

        before = azure.accepted()
        await eventually(renewed, within_s=20)
        made = azure.accepted() - before
        await asyncio.sleep(LISTENER_PINGS_S)
        idle = azure.end(old)  # a connection that nobody used goes by the old one to its end
        before = azure.accepted()
        for _ in range(10):
            await send()
        assert azure.accepted() - before <= idle
        assert made <= len(ROOMS)
    assert len(azure.authority.given) >= 3
    for room in ROOMS:
        await eventually(lambda: len(listening.texts(room)) >= sent)  # noqa: B023
        assert listening.texts(room) == [str(number) for number in range(sent)]


async def test_connections_whose_token_ended_are_made_anew_and_what_was_missed_is_read(
    azure: Azure, listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_PAUSE_S", 0.05)
    azure.authority.is_down = True
    for token in azure.authority.given:
        assert azure.end(token) > 0
    with pytest.raises(Unavailable):
        await publish(azure, ROOMS[0], "never")
    azure.authority.is_down = False

    async def works() -> bool:
        try:
            await publish(azure, ROOMS[0], "back")
        except Unavailable:
            return False
        return True

    await eventually(works)
    for room in ROOMS[1:]:
        await publish(azure, room, "back")
    for room in ROOMS:
        await eventually(lambda: "back" in listening.texts(room))  # noqa: B023
        assert [text for text in listening.texts(room) if text != "never"] == ["back"]


async def test_while_no_token_can_be_had_the_old_one_goes_on_and_the_credential_is_not_flooded(
    azure: Azure, listening: Listening
) -> None:
    azure.authority.is_down = True
    first = azure.authority.given[-1]
    asked = azure.authority.asked
    loop = asyncio.get_running_loop()
    ends = loop.time() + azure.authority.life_s + 1
    while loop.time() < ends:  # past the end by our clock: the server alone decides
        await publish(azure, ROOMS[0], "on")
        await asyncio.sleep(0.01)
    assert azure.signed_in_with() == {first}
    assert 1 <= azure.authority.asked - asked <= 6
    azure.authority.is_down = False

    async def renewed() -> bool:
        await asyncio.gather(*(publish(azure, room, "on") for room in ROOMS))
        return bool(azure.signed_in_with() - {first})

    await eventually(renewed, within_s=20)
    assert "room.gap" not in [event.type for event in listening.heard]


async def test_a_new_token_that_the_server_refuses_leaves_connections_on_the_old_one(
    azure: Azure, listening: Listening
) -> None:
    async def send() -> None:
        await asyncio.gather(*(publish(azure, room, "on") for room in ROOMS))

    await send()
    azure.authority.is_distrusted = True
    before, first = azure.accepted(), azure.authority.given[-1]

    async def a_newer_one_was_tried() -> bool:
        await send()
        return bool(azure.signed_in_with() - {first})

    await eventually(a_newer_one_was_tried, within_s=20)
    for _ in range(5):
        await send()
    assert azure.accepted() - before <= len(ROOMS)
    azure.authority.is_distrusted = False
    for token in azure.authority.given:
        azure.authority.trust(token)


async def test_a_token_that_is_refused_at_the_door_is_an_outage_that_ends_with_a_good_one(
    azure: Azure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passwords, "_PAUSE_S", 0.05)
    azure.authority.trust("another")  # the user is known, its tokens are not
    azure.authority.is_distrusted = True
    for _ in range(3):
        with pytest.raises(Unavailable):
            await azure.presence.ping()
        await asyncio.sleep(0.55)  # the client fails fast for half a second
    azure.authority.is_distrusted = False

    async def works() -> bool:
        try:
            await azure.presence.ping()
        except Unavailable:
            return False
        return True

    await eventually(works)
    assert azure.authority.asked >= 2


@pytest.mark.parametrize("ahead_s", [3_600.0, -3_600.0])
async def test_a_clock_that_is_an_hour_off_stops_no_connection(azure: Azure, ahead_s: float) -> None:
    """Ours is behind or ahead of the authority's: tokens look as if they lived for longer, or had ended."""
    azure.authority.clock_is_ahead_s = ahead_s
    for _ in range(5):
        await azure.presence.ping()
    assert azure.signed_in_with() <= set(azure.authority.given)


async def test_an_old_token_opens_no_new_connection(azure: Azure) -> None:
    await azure.presence.ping()
    first = azure.authority.given[0]
    azure.authority.end(first)
    stranger: Any = connect(f"redis://{OBJECT_ID}:{first}@127.0.0.1:{azure.gates[0].port}", cluster=azure.is_cluster)
    with pytest.raises(Unavailable):
        await RedisPresence(RedisClient(stranger)).ping()
    await stranger.aclose()


# --- TLS ---


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """For the name `vm.test` alone: an address is not in it."""
    made = Certificates(tmp_path_factory.mktemp("tls"))
    made.ensure(["vm.test"], datetime.now(UTC))
    return made


@pytest.fixture
def vm_test(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name for this machine."""
    loop = asyncio.BaseEventLoop.getaddrinfo

    async def resolve(self: Any, host: Any, *args: Any, **kwargs: Any) -> Any:
        return await loop(self, "127.0.0.1" if host == "vm.test" else host, *args, **kwargs)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    return "vm.test"


@pytest.mark.parametrize("is_cluster", [False, True])
async def test_tls_and_tokens_together_also_where_nodes_tell_addresses_and_certificates_names(
    request: pytest.FixtureRequest, certificates: Certificates, vm_test: str, is_cluster: bool
) -> None:
    nodes: list[RedisServer]
    nodes = request.getfixturevalue("redis_cluster").nodes if is_cluster else [request.getfixturevalue("redis_server")]
    authority = Authority(nodes)
    async with AsyncExitStack() as stack:
        tls = certificates.server_context()
        gates = [await stack.enter_async_context(gate_to(node.port, tls=tls)) for node in nodes]
        if is_cluster:
            await announce(nodes, [gate.port for gate in gates])
        url = f"rediss://{vm_test}:{gates[0].port}"
        trusting = connect(url, cluster=is_cluster, credential=authority, ca_file=certificates.ca_file)
        strict = connect(url, cluster=is_cluster, credential=authority)
        client, distrusting = RedisClient(trusting), RedisClient(strict)
        azure = Azure(authority, gates, is_cluster, RedisPresence(client, process_id="p1"), client)
        await open_rooms(azure)
        listening = Listening(azure)
        await listening.follow()
        for room in ROOMS:
            await publish(azure, room, "by TLS")
            await eventually(lambda: listening.texts(room) == ["by TLS"])  # noqa: B023
        assert all(gate.accepted for gate in gates)
        with pytest.raises(Unavailable):
            await RedisPresence(distrusting).ping()
        await listening.stop()
        await client.close()
        await distrusting.close()
        if is_cluster:
            await announce(nodes, [0, 0])
    for node in nodes:
        node.ask("ACL", "DELUSER", OBJECT_ID)
