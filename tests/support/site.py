"""A whole small site for the Python client: a REST front, signaling, an SFU, the tunnel gateway, and what blocks them.

The front's `/v1/signal` is a relay that can give unroutable SFU addresses (UDP is blocked, as far as the client can
see) and break connections; the gateway is behind a `Gate`, which can cut connections and refuse an upgrade.
"""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.domain.ids import UserId
from tests.support.redis import RedisServer
from tests.support.sfu import Sfu, running_sfu
from tests.support.signaling import QUICK, Process, World

NOWHERE: Final = 9  # the port of the discard service: nobody is there
_CANDIDATE: Final = re.compile(r"(a=candidate:\S+ \d+ udp \d+ \S+) \d+")


class Front:
    """The REST API as far as a join needs it (the bearer token is the user's id), and a relay to signaling."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process
        self.udp_blocked = False
        self.ice_servers: list[dict[str, Any]] = []
        self.joins = 0
        self.refuses = 0
        self.sockets: set[web.WebSocketResponse] = set()
        self.url = ""

    async def start(self) -> None:
        application = web.Application()
        application.router.add_get("/v1/users/me/profile", self._profile)
        application.router.add_post("/v1/rooms/{room}/join", self._join)
        application.router.add_get("/v1/signal", self._signal)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _profile(self, request: web.Request) -> web.Response:
        return web.json_response({"id": request.headers["Authorization"].removeprefix("Bearer ")})

    async def _join(self, request: web.Request) -> web.Response:
        if self.refuses:
            problem = {"type": "/docs/problems/room-full", "title": "The room is full.", "status": self.refuses}
            return web.json_response(problem, status=self.refuses)
        self.joins += 1
        person = await self._world.person(user_id=UserId((await request.json())["userId"]))
        grant = {
            "participantId": person.claims.participant_id,
            "token": person.token,
            "signalingUrl": f"{self.url}/v1/signal",
            "iceServers": self.ice_servers,
        }
        return web.json_response(grant)

    async def _signal(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=("parley.v1",), compress=False)
        await socket.prepare(request)
        self.sockets.add(socket)
        async with self._world.http.ws_connect(self._process.url, protocols=("parley.v1",), max_msg_size=0) as upstream:
            up = asyncio.create_task(self._pass_up(socket, upstream))
            async for message in upstream:
                if message.type is WSMsgType.TEXT:
                    with contextlib.suppress(ConnectionError):
                        await socket.send_str(self._shown(message.data))
            up.cancel()
            self.sockets.discard(socket)
            await socket.close(code=upstream.close_code or 1006)
        return socket

    async def _pass_up(self, socket: web.WebSocketResponse, upstream: aiohttp.ClientWebSocketResponse) -> None:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await upstream.send_str(message.data)
        await upstream.close()

    def _shown(self, text: str) -> str:
        return _CANDIDATE.sub(rf"\1 {NOWHERE}", text) if self.udp_blocked else text

    async def break_signaling(self) -> None:
        for socket in tuple(self.sockets):
            await socket.close(code=1001)


class Gate:
    """A TCP proxy before the gateway. Without `upgrades` it ends what asks for a WebSocket."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.upgrades = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._client, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, to_behind = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers |= {writer, to_behind}
        for source, target in ((reader, to_behind), (behind, writer)):
            task = asyncio.create_task(self._pass(source, target, is_up=source is reader))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, is_up: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65_536):
                if is_up and not self.upgrades and b"upgrade: websocket" in data.lower():
                    break
                target.write(data)
                await target.drain()
        target.close()

    def cut(self) -> None:
        """Every connection ends without a word."""
        writers, self._writers = self._writers, set()
        for writer in writers:
            writer.transport.abort()

    async def stop(self) -> None:
        self._server.close()
        self.cut()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class Site:
    """All of it, running."""

    def __init__(self, world: World, process: Process, sfu: Sfu, front: Front, gate: Gate) -> None:
        self.world, self.process, self.sfu, self.front, self.gate = world, process, sfu, front, gate


@asynccontextmanager
async def running_site(redis_server: RedisServer, gateway_port: Any) -> AsyncIterator[Site]:
    """`gateway_port` starts the gateway: given the signaling address, it gives a context manager with its port."""
    async with aiohttp.ClientSession() as http:
        world = World(redis_server, http)
        await world.make_meeting()
        redis = RedisClient(connect(redis_server.url))
        async with running_sfu(tokens=world.tokens, nodes=RedisMediaNodes(redis)) as sfu:
            process = await world.process(replace(QUICK, resume_s=45.0))
            front = Front(world, process)
            await front.start()
            async with gateway_port(process.url) as port:
                gate = Gate(port)
                await gate.start()
                yield Site(world, process, sfu, front, gate)
                await gate.stop()
            await front.stop()
            await world.stop()
        await redis.close()
