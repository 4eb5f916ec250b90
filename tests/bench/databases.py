"""Databases that benches start."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.support.postgres import PostgresServer, find_binaries

DURABLE: Final = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "shared_buffers": "128MB"}


@contextmanager
def postgresql() -> Iterator[str | None]:
    """The address of a new database of a server with its default durability; None where there is no server."""
    binaries = find_binaries()
    if binaries is None:
        print("  no PostgreSQL server here: install the Debian package postgresql")
        yield None
        return
    server = PostgresServer(binaries, DURABLE)
    try:
        server.start()
        yield server.new_database()
    finally:
        server.discard()
