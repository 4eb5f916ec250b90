"""The sockets of the TURN server: clients over UDP, TCP and TLS, and a UDP socket for each allocation.

TLS certificates are loaded again when their file changes: new connections have the new one, a restart is not needed.
"""

import asyncio
import contextlib
import functools
import random
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

from conference import tasks
from conference.domain.addresses import IpAddress, parse_address, unmapped
from conference.domain.errors import ProtocolError
from local.turn import messages as t
from local.turn.core import Link, Relay, Transport, TurnCore
from local.turn.peers import Ports

TICK_S: Final = 1.0
IDLE_S: Final = 30.0  # a stream that has no allocation by then
MAX_STREAMS: Final = 2_000
MAX_UNREAD: Final = 262_144  # of a stream's client, before datagrams for it are dropped
PORT_TRIES: Final = 32


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the server listens; `tls_port` is used where there are `certificate` and `key`."""

    host: str
    port: int
    tls_port: int = 0
    certificate: Path | None = None
    key: Path | None = None


class UdpLink:
    """A client's address on the UDP port."""

    transport: Transport = "udp"

    def __init__(self, endpoint: asyncio.DatagramTransport, address: tuple[Any, ...]) -> None:
        self._socket = endpoint
        self._address = address
        self.client = (unmapped(parse_address(address[0])), int(address[1]))

    def send(self, data: bytes) -> None:
        if not self._socket.is_closing():
            self._socket.sendto(data, self._address)


class StreamLink:
    """A client's TCP or TLS connection."""

    def __init__(self, writer: asyncio.StreamWriter, transport: Transport) -> None:
        self._writer = writer
        self.transport = transport
        host, port = writer.get_extra_info("peername")[:2]
        self.client = (unmapped(parse_address(host)), int(port))

    def send(self, data: bytes) -> None:
        buffered = self._writer.transport.get_write_buffer_size()
        if not self._writer.is_closing() and buffered + len(data) <= MAX_UNREAD:
            self._writer.write(data)


class RelaySocket(asyncio.DatagramProtocol):
    """An allocation's own port."""

    def __init__(
        self, port: int, heard: Callable[[bytes, tuple[IpAddress, int]], None], closed: Callable[[], None]
    ) -> None:
        self.port = port
        self._heard = heard
        self._closed = closed
        self._socket: asyncio.DatagramTransport | None = None
        self._is_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.DatagramTransport, transport)  # which it is by duty, and not by its class
        if self._is_closed:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed()

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._heard(data, (parse_address(addr[0]), int(addr[1])))

    def error_received(self, exc: Exception) -> None:
        """An earlier datagram found nobody; TURN tells nobody of it."""

    def send(self, data: bytes, peer: tuple[IpAddress, int]) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.sendto(data, (str(peer[0]), peer[1]))

    def close(self) -> None:
        self._is_closed = True
        if self._socket is not None:
            self._socket.close()


class _Clients(asyncio.DatagramProtocol):
    def __init__(self, server: "TurnServer") -> None:
        self._server = server
        self._links: dict[tuple[Any, ...], UdpLink] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.DatagramTransport, transport)  # which it is by duty, and not by its class

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        link = self._links.get(addr) or UdpLink(self._socket, addr)
        self._server.receive(link, data)
        if self._server.core.has(link):
            self._links[addr] = link
        else:
            self._links.pop(addr, None)  # nothing is kept for strangers

    def sweep(self) -> None:
        for addr, link in tuple(self._links.items()):
            if not self._server.core.has(link):
                del self._links[addr]


class TurnServer:
    """`date` is the wall clock; `ports` are those of relays, on `relay_host`."""

    def __init__(
        self,
        make_core: Callable[[Callable[[Link], Relay | None]], TurnCore],
        *,
        relay_host: str,
        ports: Ports,
        date: Callable[[], datetime],
        chance: random.Random,
    ) -> None:
        self.core = make_core(self._open_relay)
        self._relay_host = relay_host
        self._ports = ports
        self._date = date
        self._chance = chance
        self._used: set[int] = set()
        self._clients: list[_Clients] = []
        self._sockets: list[asyncio.DatagramTransport] = []
        self._servers: list[asyncio.Server] = []
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: tuple[ssl.SSLContext, Addresses, float] | None = None

    # --- life ---
    async def start(self, addresses: Addresses) -> None:
        """Listens. Raises OSError where a port is taken, ssl.SSLError for a bad certificate."""
        loop = asyncio.get_running_loop()
        where = (addresses.host, addresses.port)
        endpoint, clients = await loop.create_datagram_endpoint(lambda: _Clients(self), local_addr=where)
        self._sockets.append(endpoint)
        self._clients.append(clients)
        self._servers.append(await asyncio.start_server(self._serve_tcp, *where))
        if addresses.certificate and addresses.key and addresses.tls_port:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            self._tls = (context, addresses, 0.0)
            self._reload()
            self._servers.append(
                await asyncio.start_server(self._serve_tls, addresses.host, addresses.tls_port, ssl=context)
            )
        self._keep(self._tick())

    def _reload(self) -> None:
        """Takes the certificate where its file is another one than before."""
        if self._tls is None:
            return
        context, addresses, loaded = self._tls
        assert addresses.certificate is not None
        assert addresses.key is not None
        with contextlib.suppress(OSError, ssl.SSLError) if loaded else contextlib.nullcontext():
            changed = max(file.stat().st_mtime for file in (addresses.certificate, addresses.key))
            if changed != loaded:
                context.load_cert_chain(addresses.certificate, addresses.key)
                self._tls = (context, addresses, changed)

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for writer in tuple(self._streams):
            writer.transport.abort()
        await tasks.end(self._tasks)
        self.core.end_all()
        for endpoint in self._sockets:
            endpoint.close()
        await asyncio.sleep(0)  # transports end in the loop's next round
        await asyncio.sleep(0)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.core.tick(self._now())
            self._reload()
            for clients in self._clients:
                clients.sweep()

    def _keep(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    def receive(self, link: Link, data: bytes) -> None:
        self.core.receive(link, data, self._now(), self._date())

    # --- relays ---
    def _open_relay(self, link: Link) -> Relay | None:
        """A free port of the range, at random; the socket is bound in a moment and what comes before is lost."""
        free = self._ports.last - self._ports.first + 1 - len(self._used)
        if free <= 0:
            return None
        for _ in range(PORT_TRIES):
            port = self._chance.randint(self._ports.first, self._ports.last)
            if port in self._used:
                continue
            bound = _bind(self._relay_host, port)
            if bound is not None:
                relay = RelaySocket(
                    port,
                    lambda data, peer: self.core.relayed(link, data, peer, self._now()),
                    functools.partial(self._used.discard, port),
                )
                self._used.add(port)
                self._keep(asyncio.get_running_loop().create_datagram_endpoint(_same(relay), sock=bound))
                return relay
        return None

    # --- streams ---
    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, "tcp")

    async def _serve_tls(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._serve(reader, writer, "tls")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: Transport) -> None:
        if len(self._streams) >= MAX_STREAMS or writer.get_extra_info("peername") is None:
            writer.transport.abort()
            return
        self._streams.add(writer)
        link = StreamLink(writer, kind)
        try:
            while True:
                patience = None if self.core.has(link) else IDLE_S
                async with asyncio.timeout(patience):
                    message = await _read_message(reader, has_channels=patience is None)
                self.receive(link, message)
        except (TimeoutError, OSError, asyncio.IncompleteReadError, ProtocolError):
            pass
        finally:
            self.core.closed(link)
            self._streams.discard(writer)
            writer.transport.abort()


def _same(relay: RelaySocket) -> Callable[[], RelaySocket]:
    return lambda: relay


async def _read_message(reader: asyncio.StreamReader, *, has_channels: bool) -> bytes:
    """The next STUN message of a stream, or channel message where there may be any. Raises ProtocolError,
    IncompleteReadError."""
    head = await reader.readexactly(4)
    if t.is_channel_data(head) and not has_channels:
        raise ProtocolError("bad-stun", "a channel message without an allocation")
    size = t.frame_size(head) or 0
    return head + await reader.readexactly(size - 4)


def _bind(host: str, port: int) -> socket.socket | None:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        return None
    return bound
