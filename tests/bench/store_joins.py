"""First joins of a store alone, without HTTP and tokens: on SQLite, on PostgreSQL and on our Cosmos DB server.

PEOPLE people each join each of MEETINGS meetings, AT_ONCE joins at a time, joins that follow each other in different
meetings; one round of each store before the next round of any. PostgreSQL runs with its default durability, SQLite as
the app sets it; the Cosmos DB server is a process of its own that keeps everything in memory, on this machine: its
numbers measure our adapter, its client and that server, and say nothing about Azure.
"""

import asyncio
import base64
import os
import statistics
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from conference.adapters.cosmos import CosmosDatabase, cosmos_stores
from conference.adapters.cosmos.provision import provision
from conference.adapters.memory.clock import SequenceIds
from conference.adapters.memory.queue import MemoryEventQueue
from conference.adapters.sql import open_database, sql_stores
from conference.adapters.sql.schema import upgrade
from conference.domain.ids import Secret
from conference.domain.meetings import Meeting, MeetingSettings
from conference.ports.meetings import Joined, MeetingStore
from tests.bench.databases import postgresql
from tests.bench.measuring import started
from tests.bench.results import Result, percentile
from tests.support.meetings import a_join, a_meeting, user
from tests.support.ports import free_port
from tests.support.waiting import eventually, is_ready

ADAPTERS: Final = ("sqlite", "postgresql", "cosmos")
NAMES: Final = tuple(f"store.{adapter}.{what}" for adapter in ADAPTERS for what in ("join_per_s", "join_p95_ms"))
PEOPLE: Final = 60
MEETINGS: Final = 10
ROUNDS: Final = 3
AT_ONCE: Final = 16
READY_S: Final = 30.0


@dataclass
class Measured:
    """A store, and what its rounds gave: joins a second, and the milliseconds of each join."""

    name: str
    store: MeetingStore
    rates: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def round(self, number: int) -> None:
        meetings = [await self._meeting(number * MEETINGS + place) for place in range(MEETINGS)]
        waiting = [(person, meeting) for person in range(PEOPLE) for meeting in meetings]
        waiting.reverse()
        clock = asyncio.get_running_loop().time

        async def worker() -> None:
            while waiting:
                person, meeting = waiting.pop()
                began = clock()
                answer = await self.store.join(a_join(meeting, user(person), datetime.now(UTC)))
                self.times.append((clock() - began) * 1_000)
                if not isinstance(answer, Joined):
                    raise RuntimeError(f"a join was refused: {answer}")

        began = clock()
        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        self.rates.append(PEOPLE * MEETINGS / (clock() - began))

    async def _meeting(self, number: int) -> Meeting:
        meeting = a_meeting(datetime.now(UTC), number, settings=MeetingSettings(max_participants=PEOPLE))
        await self.store.create(meeting)
        return meeting


@asynccontextmanager
async def _sql(url: str) -> AsyncIterator[MeetingStore]:
    database = open_database(url)
    try:
        await upgrade(database)
        yield sql_stores(database, SequenceIds()).meetings
    finally:
        await database.close()


@asynccontextmanager
async def _cosmos(folder: Path) -> AsyncIterator[MeetingStore]:
    port, key = free_port(), base64.b64encode(os.urandom(64)).decode()
    url = f"http://127.0.0.1:{port}"
    environment = {
        **os.environ,
        "PARLEY_COSMOS_PORT": str(port),
        "PARLEY_COSMOS_KEY": key,
        "PARLEY_DATA_DIR": str(folder),
        "PARLEY_LOG_LEVEL": "ERROR",
    }
    async with started("local.cosmos", environment=environment):
        await eventually(lambda: is_ready(url), within_s=READY_S)
        database = CosmosDatabase(url, "bench", key=Secret(key))
        try:
            await provision(database)
            yield cosmos_stores(database, SequenceIds(), MemoryEventQueue(SequenceIds())).meetings
        finally:
            await database.close()


async def _measure(folder: Path, postgres_url: str | None) -> list[Result]:
    async with AsyncExitStack() as stack:
        stores = {"sqlite": await stack.enter_async_context(_sql(f"sqlite:///{folder / 'bench.db'}"))}
        if postgres_url:
            stores["postgresql"] = await stack.enter_async_context(_sql(postgres_url))
        stores["cosmos"] = await stack.enter_async_context(_cosmos(folder))
        measured = {name: Measured(name, store) for name, store in stores.items()}
        for number in range(ROUNDS):
            for one in measured.values():  # in turn, so that all meet the same neighbours
                await one.round(number)
    for one in measured.values():
        print(f"  {one.name}: {', '.join(f'{rate:.0f}' for rate in one.rates)} a second")
    rates = {name: statistics.median(one.rates) for name, one in measured.items()}
    times = {name: percentile(one.times, 95) for name, one in measured.items()}
    return [
        result
        for name in ADAPTERS
        for result in (
            Result(f"store.{name}.join_per_s", rates.get(name), "joins per second"),
            Result(f"store.{name}.join_p95_ms", times.get(name), "ms"),
        )
    ]


def run() -> list[Result]:
    with TemporaryDirectory(prefix="parley-bench-") as name, postgresql() as postgres_url:
        return asyncio.run(_measure(Path(name), postgres_url))
