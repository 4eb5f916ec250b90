"""Statements that differ by dialect, given one face."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite


def insert(connection: sa.Connection, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that knows `on_conflict_do_nothing` and `on_conflict_do_update`; both dialects spell them alike."""
    return insert_for(connection.dialect.name, table)


def insert_for(dialect: str, table: sa.Table) -> postgresql.Insert | sqlite.Insert:
    """As `insert`, for a statement that is built before there is a connection."""
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)


def insert_new(connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
    """Inserts the row unless its key or a unique value is there already. True where it was inserted."""
    statement = insert(connection, table).on_conflict_do_nothing().returning(sa.literal(1))
    return connection.execute(statement, values).first() is not None
