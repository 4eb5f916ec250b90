"""The stores under their contract: `stores` in memory, on SQLite, on PostgreSQL and on our Cosmos DB server; `sql_url`
on the two SQL databases, `cosmos` on that server alone. `engine` is each forwarding engine in turn.

The schema is made once a session, by the program that makes it in production, and copied for every test.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from conference.adapters.cosmos import CosmosDatabase
from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.sql import Database, open_database, sql_stores
from conference.ports.stores import Stores
from tests.support.cosmos import RunningCosmos, cosmos_server, stores_over
from tests.support.engine import ENGINES, Bench, bench
from tests.support.postgres import PostgresServer, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

SQL = ("sqlite", "postgresql")
ADAPTERS = ("memory", *SQL, "cosmos")


def _migrate(url: str) -> None:
    environment = {**os.environ, "PARLEY_DATABASE_URL": url}
    subprocess.run([sys.executable, "-m", "conference.adapters.sql.migrate"], check=True, env=environment, timeout=60)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "parley.db"
    _migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgres(postgres_server: PostgresServer) -> str:
    url = postgres_server.new_database()
    _migrate(url)
    return url


def _database(adapter: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """The URL of a database with the schema and no rows."""
    if adapter == "sqlite":
        file = folder / "parley.db"
        shutil.copyfile(request.getfixturevalue("migrated_sqlite"), file)
        yield f"sqlite:///{file}"
        return
    template = request.getfixturevalue("migrated_postgres")
    server: PostgresServer = request.getfixturevalue("postgres_server")
    url = server.new_database(like=template)
    yield url
    server.drop_database(url)


@pytest.fixture(params=ADAPTERS)
def adapter_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The SQL database's; for the others their name."""
    if request.param not in SQL:
        yield request.param
        return
    yield from _database(request.param, request, tmp_path)


@pytest.fixture(params=SQL)
def sql_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from _database(request.param, request, tmp_path)


@pytest.fixture(params=(*ADAPTERS, "azure"))
def queue_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of the database under an event queue; the adapter's name where there is none."""
    if request.param in ("memory", "azure"):
        yield request.param
        return
    yield from _database(request.param, request, tmp_path)


@pytest.fixture
def ids() -> SequenceIds:
    return SequenceIds()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def cosmos() -> AsyncIterator[RunningCosmos]:
    async with cosmos_server() as running:
        yield running


@asynccontextmanager
async def _stores(adapter: str, ids: SequenceIds) -> AsyncIterator[Stores]:
    if adapter == "memory":
        yield memory_stores(ids)
    elif adapter == "cosmos":
        async with cosmos_server() as running:
            cosmos_database = running.open()
            yield stores_over(cosmos_database, ids)
            await cosmos_database.close()
    else:
        database = open_database(adapter)
        yield sql_stores(database, ids)
        await database.close()


@pytest.fixture
async def stores(adapter_url: str, ids: SequenceIds) -> AsyncIterator[Stores]:
    """Empty stores of every adapter in turn."""
    async with _stores(adapter_url, ids) as opened:
        yield opened


@pytest.fixture(params=ADAPTERS[1:])
async def twins(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Stores, Stores]]:
    """Two processes' worth of stores over one database, where an adapter has any."""
    async with AsyncExitStack() as stack:
        databases: list[Database | CosmosDatabase]
        if request.param == "cosmos":
            running = await stack.enter_async_context(cosmos_server())
            opened = [running.open(), running.open()]
            databases = [*opened]
            twins = [stores_over(database, SequenceIds(n)) for n, database in enumerate(opened)]
        else:
            url = stack.enter_context(contextmanager(_database)(request.param, request, tmp_path))
            sql = [open_database(url), open_database(url)]
            databases = [*sql]
            twins = [sql_stores(database, SequenceIds(n)) for n, database in enumerate(sql)]
        yield twins[0], twins[1]
        for database in databases:
            await database.close()


@pytest.fixture(params=ENGINES, ids=lambda make: make.name)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(request.param()) as made:
        yield made
