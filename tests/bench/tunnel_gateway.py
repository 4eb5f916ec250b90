"""What a tunnelled participant costs the gateway: CPU, memory, and how much later their datagrams arrive.

The gateway is a process of its own; signaling and the media node are stand-ins in this one (a WebSocket that says
RoomJoined and SfuEndpoint, a UDP socket that answers each datagram by two). Each session sends 50 datagrams of 120
bytes and 60 of 1,100 bytes a second (sound and a 360p picture) and receives twice as much, as in a call of three.
"""

import asyncio
import json
import os
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

from tests.bench.dataplane_slope import process_cpu_s
from tests.bench.measuring import resident_kb, started
from tests.bench.results import Result, percentile
from tests.support.ports import free_port
from tests.support.tunnel_client import Kind, TunnelClient

NAMES: Final = (
    "tunnel.sessions_per_core",
    "tunnel.us_per_packet",
    "tunnel.session_kb",
    "tunnel.websocket.datagram_p95_ms",
    "tunnel.stream.datagram_p95_ms",
    "tunnel.longpoll.datagram_p95_ms",
)
SESSIONS: Final = (4, 12)
IDLE_SESSIONS: Final = 45  # of one address, fewer than are allowed
WINDOW_S: Final = 5.0
TICK_S: Final = 0.02
SOUND: Final = 120
PICTURE: Final = 1_100
PICTURES_A_TICK: Final = 1.2
WIRES: Final[tuple[tuple[Kind, str], ...]] = (
    ("websocket", NAMES[3]),
    ("stream", NAMES[4]),
    ("poll", NAMES[5]),
)


class Echo(asyncio.DatagramProtocol):
    """The media node: two for one."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)
        self.transport.sendto(data, addr)


@dataclass
class Counted:
    """What one session got, and how long each datagram took there and back, in milliseconds."""

    tunnel: TunnelClient
    stream: int
    received: int = 0
    delays: list[float] = field(default_factory=list)

    def heard(self, stream: int, data: bytes) -> None:
        self.received += 1
        self.delays.append((time.perf_counter_ns() - int.from_bytes(data[:8], "big")) / 1e6)


@dataclass(frozen=True)
class Site:
    url: str
    pid: int
    http: aiohttp.ClientSession

    async def join(self, kind: Kind) -> Counted:
        """A session that has joined and has a path to the media node."""
        tunnel = TunnelClient(self.http, self.url)
        await tunnel.open(kind)
        tunnel.signal('{"type":"JoinRoom","payload":{}}')
        endpoint: dict[str, Any] = {}
        async with asyncio.timeout(10):
            while not endpoint:
                message = json.loads(await tunnel.messages.get())
                endpoint = message["payload"] if message["type"] == "SfuEndpoint" else {}
        stream, refused = await tunnel.path(endpoint["ip"], endpoint["port"])
        if refused:
            raise RuntimeError(f"the gateway refused a path: {refused}")
        made = Counted(tunnel, stream)
        tunnel.heard = made.heard
        return made


@asynccontextmanager
async def _site() -> AsyncIterator[Site]:
    loop = asyncio.get_running_loop()
    echo, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    node = echo.get_extra_info("sockname")

    async def signal(request: web.Request) -> web.WebSocketResponse:
        channel = web.WebSocketResponse(protocols=("parley.v1",))
        await channel.prepare(request)
        async for _ in channel:
            await channel.send_json({"type": "RoomJoined", "payload": {}})
            await channel.send_json({"type": "SfuEndpoint", "payload": {"ip": node[0], "port": node[1]}})
        return channel

    application = web.Application()
    application.router.add_get("/v1/signal", signal)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = free_port()
    environment = {
        "PARLEY_SIGNALING_PORT": str(runner.addresses[0][1]),
        "PARLEY_TUNNEL_PORT": str(port),
        "PARLEY_TUNNEL_SESSIONS": "1000",
    }
    url = f"http://127.0.0.1:{port}"
    connector = aiohttp.TCPConnector(limit=0)
    gateway = started("media_workers.tunnel", environment={**os.environ, **environment})
    async with aiohttp.ClientSession(connector=connector) as http, gateway as process:
        await _ready(http, f"{url}/ready")
        yield Site(url, process.pid, http)
    await runner.cleanup()
    echo.close()


async def _ready(http: aiohttp.ClientSession, url: str) -> None:
    async with asyncio.timeout(20):
        while True:
            with suppress(aiohttp.ClientError):
                async with http.get(url) as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)


async def _talk(sessions: list[Counted], seconds: float) -> None:
    """Everybody sends, spread over each tick."""
    loop = asyncio.get_running_loop()
    began, ticks, owed = loop.time(), 0, 0.0
    while loop.time() - began < seconds:
        owed += PICTURES_A_TICK
        sizes = [SOUND, *([PICTURE] * int(owed))]
        owed -= int(owed)
        for session in sessions:
            for size in sizes:
                stamp = time.perf_counter_ns().to_bytes(8, "big")
                session.tunnel.datagram(session.stream, stamp + bytes(size - 8))
        ticks += 1
        await asyncio.sleep(max(0.0, began + ticks * TICK_S - loop.time()))
    await asyncio.sleep(0.3)


async def _cost(site: Site, count: int) -> tuple[float, float]:
    """CPU seconds a second of the gateway, and datagrams a second that it passed."""
    sessions = [await site.join("websocket") for _ in range(count)]
    await _talk(sessions, 1.0)
    for session in sessions:
        session.received = 0
    cpu, began = process_cpu_s(site.pid), time.perf_counter()
    await _talk(sessions, WINDOW_S)
    spent, passed = process_cpu_s(site.pid) - cpu, sum(session.received for session in sessions) * 1.5
    elapsed = time.perf_counter() - began
    for session in sessions:
        await session.tunnel.close()
    print(f"  {count} sessions: {spent / elapsed:.3f} cores, {passed / elapsed:,.0f} datagrams a second", flush=True)
    return spent / elapsed, passed / elapsed


async def _memory(site: Site) -> float:
    """KiB of the gateway for a session that has joined and says nothing."""
    before = resident_kb(site.pid)
    sessions = [await site.join("websocket") for _ in range(IDLE_SESSIONS)]
    after = resident_kb(site.pid)
    for session in sessions:
        await session.tunnel.close()
    return (after - before) / IDLE_SESSIONS


async def _delay(site: Site, kind: Kind) -> float:
    """Half of the way there and back, 95 %, of one session alone. The wire is the only difference."""
    session = await site.join(kind)
    await _talk([session], 1.0)
    session.delays.clear()
    await _talk([session], WINDOW_S)
    await session.tunnel.close()
    halves = [delay / 2 for delay in session.delays]
    print(f"  {kind}: median {statistics.median(halves):.1f} ms, 95 % {percentile(halves, 95):.1f} ms", flush=True)
    return percentile(halves, 95)


async def _measure() -> list[Result]:
    async with _site() as site:
        await _cost(site, 1)
        few, many = [await _cost(site, count) for count in SESSIONS]
        session_kb = await _memory(site)
        delays = [Result(name, await _delay(site, kind), "ms") for kind, name in WIRES]
    per_session = (many[0] - few[0]) / (SESSIONS[1] - SESSIONS[0])
    per_packet = (many[0] - few[0]) / (many[1] - few[1]) * 1e6
    return [
        Result(NAMES[0], 1 / per_session, "sessions"),
        Result(NAMES[1], per_packet, "µs of CPU"),
        Result(NAMES[2], session_kb, "KiB"),
        *delays,
    ]


def run() -> list[Result]:
    return asyncio.run(_measure())
