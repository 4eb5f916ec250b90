"""Brings a database's schema up to date, by Alembic, inside one writing transaction of ours.

Two processes that start at once take turns: on SQLite by BEGIN IMMEDIATE, on PostgreSQL by an advisory lock.
"""

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from conference.adapters.sql.engine import Database

_SCRIPTS: Final = Path(__file__).parent / "migrations"
_LOCK: Final = 0x7061726C65790001  # "parley", 1: the key of the advisory lock


async def upgrade(database: Database, revision: str = "head") -> None:
    """Runs the migrations that are missing. Raises Unavailable."""
    await database.write(lambda connection: _upgrade(connection, revision))


async def is_current(database: Database) -> bool:
    """True where the schema is the one that this program was written for."""
    return await database.read(lambda connection: _revision(connection) == head())


def head() -> str | None:
    """The newest revision."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def _upgrade(connection: sa.Connection, revision: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def _revision(connection: sa.Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()
