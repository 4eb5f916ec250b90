"""The embedded TURN server over real sockets, with aioice as its client, and coturn where it is installed."""

import asyncio
import contextlib
import os
import random
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from aioice import turn as aioice_turn
from pydantic import SecretStr

from conference.adapters.turn import TurnIceServers
from conference.domain.addresses import parse_address
from conference.domain.ids import ParticipantId, Secret
from conference.settings import Settings
from local.edge.certificates import Certificates
from local.runner.machine import free_turn_port
from local.turn import coturn, wiring
from local.turn.client import TurnClient, TurnRefused
from local.turn.core import Limits, TurnCore
from local.turn.nonces import Nonces
from local.turn.peers import PeerRules, Ports
from local.turn.server import Addresses, TurnServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

HOST: Final = "127.0.0.1"
RELAYS: Final = Ports(40_000, 41_000)


@dataclass
class Site:
    """A running server; `late` is how far its wall clock is ahead."""

    server: TurnServer
    port: int
    tls_port: int
    ice: TurnIceServers
    echo: tuple[str, int]
    late: list[timedelta] = field(default_factory=lambda: [timedelta(0)])

    def credentials(self, participant: str = "ann") -> tuple[str, str]:
        made = self.ice.for_participant(ParticipantId(participant), datetime.now(UTC))[0]
        assert made.username
        assert made.credential
        return made.username, made.credential.reveal()

    def client(self, participant: str = "ann") -> TurnClient:
        return TurnClient((HOST, self.port), *self.credentials(participant))


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class Peer(asyncio.DatagramProtocol):
    """What aioice's endpoint hands data to."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.heard.put_nowait(data)


@asynccontextmanager
async def serving(folder: Path, *, limits: Limits | None = None, **ice: Any) -> AsyncIterator[Site]:
    """A server whose only media node is an echo on loopback."""
    loop = asyncio.get_running_loop()
    echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=(HOST, 0))
    where = echo.get_extra_info("sockname")
    known = TurnIceServers(["turn:x"], Secret("shared"), **ice)
    rules = PeerRules(parse_address(HOST), RELAYS, ((parse_address(HOST), Ports(where[1], where[1])),))
    certificates = Certificates(folder)
    certificates.ensure([HOST], datetime.now(UTC))
    late = [timedelta(0)]
    server = TurnServer(
        lambda open_relay: TurnCore(
            realm="parley",
            rules=rules,
            passwords=known.credentials,
            open_relay=open_relay,
            nonces=Nonces(b"key"),
            limits=limits,
        ),
        relay_host=HOST,
        ports=RELAYS,
        date=lambda: datetime.now(UTC) + late[0],
        chance=random.Random(1),
    )
    port, tls_port = free_turn_port(HOST, 0), free_turn_port(HOST, 0)
    await server.start(Addresses(HOST, port, tls_port, certificates.chain_file, certificates.key_file))
    try:
        yield Site(server, port, tls_port, known, where, late)
    finally:
        await server.stop()
        echo.close()


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_data_is_relayed_both_ways(tmp_path: Path, transport: str) -> None:
    async with serving(tmp_path) as site:
        username, password = site.credentials()
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        is_tls = transport == "tls"
        relayed, peer = await aioice_turn.create_turn_endpoint(
            Peer,
            server_addr=(HOST, site.tls_port if is_tls else site.port),
            username=username,
            password=password,
            ssl=context if is_tls else False,
            transport="udp" if transport == "udp" else "tcp",
        )
        assert relayed.get_extra_info("sockname")[1] in RELAYS
        for message in (b"first, by a new channel", b"x" * 1_200):
            relayed.sendto(message, site.echo)
            async with asyncio.timeout(5):
                assert await peer.heard.get() == message
        counts = site.server.core.counts
        assert counts.egress_bytes == counts.ingress_bytes == 1_223
        relayed.close()
        await eventually(lambda: site.server.core.allocations == 0)


async def test_a_relayed_call_outlives_its_credential(tmp_path: Path) -> None:
    async with serving(tmp_path, lifetime=timedelta(seconds=20)) as site:
        early, late = site.client(), site.client("bob")
        await early.allocate()
        site.late[0] = timedelta(seconds=21)
        with pytest.raises(TurnRefused):
            await late.allocate()
        await early.refresh(600)
        await early.permit(HOST)
        assert site.server.core.allocations == 1
        await early.refresh(0)
        assert site.server.core.allocations == 0
        for client in (early, late):
            await client.close()


async def test_two_allocations_reach_each_other_and_nothing_beside_the_media_node(
    tmp_path: Path,
) -> None:
    async with serving(tmp_path) as site:
        endpoints = []
        for name in ("ann", "bob"):
            username, password = site.credentials(name)
            made = aioice_turn.create_turn_endpoint(
                Peer, server_addr=(HOST, site.port), username=username, password=password
            )
            endpoints.append(await made)
        (ann, a), (bob, b) = endpoints
        addresses = [endpoint.get_extra_info("sockname") for endpoint in (ann, bob)]
        ann.sendto(b"knock", addresses[1])  # bob has no permission for ann yet
        bob.sendto(b"hello", addresses[0])
        async with asyncio.timeout(5):
            assert await a.heard.get() == b"hello"
        refused = site.server.core.counts.refused_peers
        ann.sendto(b"inside", (HOST, 6379))
        await eventually(lambda: site.server.core.counts.refused_peers > refused)
        for endpoint in (ann, bob):
            endpoint.close()
        assert b.heard.qsize() <= 1


async def test_a_stream_that_says_nothing_useful_is_closed(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        reader, writer = await asyncio.open_connection(HOST, site.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def test_a_new_certificate_is_used_without_a_restart(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:

        async def serial() -> bytes:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            _, writer = await asyncio.open_connection(HOST, site.tls_port, ssl=context)
            certificate: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()
            return certificate

        before = await serial()
        Certificates(tmp_path).ensure([HOST, "another.example"], datetime.now(UTC))

        async def has_changed() -> bool:
            return await serial() != before

        await eventually(has_changed)


async def test_a_server_that_reaches_inside_by_another_notation_is_found_out(tmp_path: Path) -> None:
    async with serving(tmp_path) as site:
        assert await coturn.why_not((HOST, site.port), *site.credentials(), [HOST, "::ffff:127.0.0.1"]) is None
        wrong = await coturn.why_not((HOST, site.port), site.credentials()[0], "wrong", [])
        assert wrong is not None
        assert "401" in wrong
        site.server.core._rules = _Anything()  # type: ignore[assignment]
        found = await coturn.why_not((HOST, site.port), *site.credentials("bob"), [])
        assert found is not None
        assert "CVE-2026-27624" in found


class _Anything:
    """The rules of a server without any."""

    relay = parse_address(HOST)

    def allows(self, address: Any, port: int) -> bool:
        return True

    def allows_host(self, address: Any) -> bool:
        return True


async def test_coturn_keeps_the_rules_or_is_refused(tmp_path: Path) -> None:
    program = coturn.installed()
    if program is None:
        pytest.skip("coturn is not installed")
    port = free_turn_port(HOST, 0)
    ice = TurnIceServers(["turn:x"], Secret("shared"))
    made = ice.for_participant(ParticipantId("ann"), datetime.now(UTC))[0]
    assert made.username
    assert made.credential
    chosen = coturn.Coturn(HOST, port, Ports(41_001, 41_100), [], [Secret("shared")])
    process = await coturn.start(program, coturn.write(chosen, tmp_path))
    try:
        reason = await coturn.why_not((HOST, port), made.username, made.credential.reveal(), [HOST])
    finally:
        await coturn.end(process)
    assert reason is None or "CVE-2026-27624" in reason


@pytest.fixture
def mute_coturn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A coturn that is installed, runs and answers nobody; the settings of a TURN server on a free port."""
    program = tmp_path / "bin" / coturn.PROGRAM
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(coturn, "READY_S", 0.5)
    return Settings(
        data_dir=tmp_path,
        turn_host=HOST,
        turn_port=free_turn_port(HOST, 0),
        turn_relay_ports="41101-41200",
        turn_secret=SecretStr("shared"),
    )


async def test_the_embedded_server_takes_over_from_a_coturn_that_is_refused(
    mute_coturn: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = asyncio.Event()
    serving = asyncio.create_task(wiring.serve(mute_coturn, stop))
    made = wiring.credentials(mute_coturn).for_participant(ParticipantId("ann"), datetime.now(UTC))[0]
    assert made.username
    assert made.credential
    client = TurnClient((HOST, mute_coturn.turn_port), made.username, made.credential.reveal())
    try:
        async with asyncio.timeout(10):
            await coturn._allocate(client)
    finally:
        await client.close()
        stop.set()
        await serving
    assert "The installed coturn is not used: it does not answer." in capfd.readouterr().err


async def test_a_coturn_that_was_asked_for_and_is_refused_ends_the_start(mute_coturn: Settings) -> None:
    with pytest.raises(RuntimeError, match="it does not answer"):
        await wiring.serve(mute_coturn.model_copy(update={"turn_server": "coturn"}), asyncio.Event())
