"""A database as the stores see it: `read(work)` and `write(work)`, where `work` is a plain function over a Connection.

One transaction is one call of `work`, so the rules of a store are written once, without awaits, and each engine runs
them in its own best way: `sqlite.py` in threads, `postgresql.py` on asyncpg. Both turn failures of the database
into `Unavailable`; any other database error is a bug and passes through.
"""

from collections.abc import Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from conference.adapters.sql.postgresql import PostgresqlDatabase
from conference.adapters.sql.sqlite import SqliteDatabase

T = TypeVar("T")


class Database(Protocol):
    """An open database; `close` it at the end of the process."""

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` without a transaction: each statement sees what was committed before it. Raises Unavailable."""
        ...

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Runs `work` in one writing transaction and commits; an exception rolls all of it back. Raises Unavailable.

        `work` has to be repeatable: a transaction that the database gave up (deadlock) is run again."""
        ...

    async def close(self) -> None: ...


def open_database(url: str, *, pool_size: int = 10, statement_timeout_s: float | None = 15.0) -> Database:
    """The database at a SQLAlchemy URL: `sqlite:///file` or `postgresql://...`; a driver named in it is ignored.

    Connects lazily. `pool_size` and `statement_timeout_s` are PostgreSQL's; SQLite has one writer and a few readers.
    Raises ValueError, whose text does not show the URL: it may hold a password.
    """
    try:
        parsed = make_url(url)
    except sa.exc.ArgumentError:
        raise ValueError("the address of the database is no URL of the form postgresql://user@host/name") from None
    match parsed.get_backend_name():
        case "sqlite":
            return SqliteDatabase(parsed)
        case "postgresql":
            return PostgresqlDatabase(parsed, pool_size=pool_size, statement_timeout_s=statement_timeout_s)
        case other:
            raise ValueError(f"{other} is not a database this system works with")
