"""SQLite: one thread writes, a few read; each transaction is one hop to its thread.

A hop per transaction and not per statement is why this uses sqlite3 itself and not an asyncio driver: 3,400 instead of
850 transactions of three statements a second. Writers of this process queue up before the one thread; those of other
processes meet at BEGIN IMMEDIATE, which waits up to 5 s for the lock. A deferred transaction that first reads and then
writes would fail with SQLITE_BUSY_SNAPSHOT whatever the time-out, so every writing transaction begins IMMEDIATE.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.pool import ConnectionPoolEntry

from conference.domain.errors import Unavailable

T = TypeVar("T")

_READERS: Final = 4
_WAITING_MOST: Final = 4_000  # transactions in front of the threads; more are refused at once
_BUSY_TIMEOUT_MS: Final = 5_000
_PRAGMAS: Final = (
    f"busy_timeout = {_BUSY_TIMEOUT_MS}",  # first: the switch to WAL itself may have to wait
    "journal_mode = WAL",
    "synchronous = NORMAL",  # in WAL: no corruption by a power cut, the last transactions may be lost
    "foreign_keys = ON",
)
# Primary result codes that tell of the machine or of other processes, not of our statements.
_FAULTS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
    }
)


class SqliteDatabase:
    """Implements `Database` over a file; its folder has to exist."""

    def __init__(self, url: URL) -> None:
        if not url.database or url.database == ":memory:":
            raise ValueError("SQLite needs a file: threads and processes share it")
        self._engine = sa.create_engine(
            url.set(drivername="sqlite+pysqlite"),
            pool_size=_READERS + 1,
            max_overflow=0,
            hide_parameters=True,  # rows hold personal data, errors may be logged
        )
        sa.event.listen(self._engine, "connect", _prepare)
        self._writer = ThreadPoolExecutor(1, "sqlite-write")
        self._readers = ThreadPoolExecutor(_READERS, "sqlite-read")
        self._waiting = 0

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._run(self._readers, self._read, work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        return await self._run(self._writer, self._write, work)

    async def close(self) -> None:
        """Waits for the transactions that have begun; the rest are cancelled."""
        for pool in (self._writer, self._readers):
            await asyncio.to_thread(pool.shutdown, cancel_futures=True)
        self._engine.dispose()

    async def _run(
        self,
        pool: ThreadPoolExecutor,
        transaction: Callable[[Callable[[sa.Connection], T]], T],
        work: Callable[[sa.Connection], T],
    ) -> T:
        if self._waiting >= _WAITING_MOST:
            raise Unavailable("database")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, transaction, work)
        finally:
            self._waiting -= 1

    def _read(self, work: Callable[[sa.Connection], T]) -> T:
        with _translated(), self._engine.connect() as connection:
            return work(connection)

    def _write(self, work: Callable[[sa.Connection], T]) -> T:
        with _translated(), self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return work(connection)


def _prepare(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # transactions begin where we say so
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sa.exc.TimeoutError as error:
        raise Unavailable("database") from error
    except sa.exc.DBAPIError as error:
        code = getattr(error.orig, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _FAULTS:
            raise Unavailable("database") from error
        raise
