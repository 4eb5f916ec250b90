"""PostgreSQL by asyncpg. READ COMMITTED; a store locks the meeting's row before it reads what it decides on.

A pooled connection may have died since its last use: the statement then fails as `Unavailable`, SQLAlchemy empties the
pool, and the caller's retry gets a fresh one. No ping is spent on every transaction for that.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

import sqlalchemy as sa
from asyncpg.exceptions import InterfaceError, PostgresError
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from conference.domain.errors import Unavailable

T = TypeVar("T")

_POOL_WAIT_S: Final = 10
_CONNECT_S: Final = 5
_RECYCLE_S: Final = 1_800
_ATTEMPTS: Final = 3  # of a transaction that the database gave up
_GIVEN_UP: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock
# SQLSTATE classes: connection, transaction rollback, resources, lock not available, operator's intervention.
_FAULTS: Final = ("08", "40", "53", "55P03", "57")


class PostgresqlDatabase:
    """Implements `Database`."""

    def __init__(self, url: URL, *, pool_size: int, statement_timeout_s: float | None) -> None:
        self._engine: AsyncEngine = create_async_engine(
            url.set(drivername="postgresql+asyncpg"),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=_POOL_WAIT_S,
            pool_recycle=_RECYCLE_S,
            hide_parameters=True,  # rows hold personal data, errors may be logged
            connect_args={"timeout": _CONNECT_S, "command_timeout": statement_timeout_s},
        )
        self._reading = self._engine.execution_options(isolation_level="AUTOCOMMIT")  # saves BEGIN and COMMIT

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        with _translated():
            async with self._reading.connect() as connection:
                return await connection.run_sync(work)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        with _translated():
            for _ in range(_ATTEMPTS - 1):
                try:
                    return await self._write(work)
                except sa.exc.DBAPIError as error:
                    if _state(error) not in _GIVEN_UP:
                        raise
            return await self._write(work)

    async def _write(self, work: Callable[[sa.Connection], T]) -> T:
        async with self._engine.begin() as connection:
            return await connection.run_sync(work)

    async def close(self) -> None:
        await self._engine.dispose()


def _state(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlstate", None) or ""


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sa.exc.TimeoutError, OSError, TimeoutError, PostgresError, InterfaceError) as error:
        # What asyncpg raises outside of a statement comes from connecting.
        raise Unavailable("database") from error
    except sa.exc.DBAPIError as error:
        if error.connection_invalidated or _state(error).startswith(_FAULTS):
            raise Unavailable("database") from error
        raise
