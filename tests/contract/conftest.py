"""The stores under their contract: `stores` in memory, on SQLite and on PostgreSQL; `sql_url` on the two databases.
`engine` is each forwarding engine in turn.

The schema is made once a session, by the program that makes it in production, and copied for every test.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.sql import open_database, sql_stores
from conference.ports.stores import Stores
from tests.support.engine import ENGINES, Bench, bench
from tests.support.postgres import PostgresServer, postgres_server, postgres_url

__all__ = ["postgres_server", "postgres_url"]

ADAPTERS = ("memory", "sqlite", "postgresql")


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
    """Empty for the memory adapters."""
    if request.param == "memory":
        yield ""
        return
    yield from _database(request.param, request, tmp_path)


@pytest.fixture(params=ADAPTERS[1:])
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
async def stores(adapter_url: str, ids: SequenceIds) -> AsyncIterator[Stores]:
    """Empty stores of every adapter in turn."""
    if not adapter_url:
        yield memory_stores(ids)
        return
    database = open_database(adapter_url)
    yield sql_stores(database, ids)
    await database.close()


@pytest.fixture(params=ENGINES, ids=lambda make: make.name)
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async with bench(request.param()) as made:
        yield made
