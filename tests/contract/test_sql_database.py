"""The databases under the SQL stores: schema, failures, settings of the connection."""

import asyncio
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.sql import Database, open_database, postgresql, sql_stores
from conference.adapters.sql.schema import is_current, upgrade
from conference.adapters.sql.tables import metadata
from conference.domain.errors import Unavailable
from conference.domain.meetings import User
from conference.ports.meetings import Joined
from tests.support.meetings import TENANT, a_join, a_meeting, user
from tests.support.postgres import PostgresServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract


@pytest.fixture
async def database(sql_url: str) -> AsyncIterator[Database]:
    database = open_database(sql_url)
    yield database
    await database.close()


def _differences(connection: sa.Connection) -> list[object]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def _checks(connection: sa.Connection) -> set[str]:
    found = sa.inspect(connection)
    return {str(check["name"]) for table in found.get_table_names() for check in found.get_check_constraints(table)}


async def test_the_migrations_build_the_schema_of_the_tables(database: Database) -> None:
    assert await database.read(_differences) == []
    assert await database.read(_checks) == {"ck_meetings_status", "ck_participants_role", "ck_webhook_endpoints_status"}
    assert await is_current(database)


async def test_the_indexes_of_the_specification_exist(database: Database) -> None:
    def columns(connection: sa.Connection, table: str) -> list[list[str | None]]:
        return [index["column_names"] for index in sa.inspect(connection).get_indexes(table)]

    assert ["host_id", "start_time"] in await database.read(lambda c: columns(c, "meetings"))
    assert ["meeting_id", "user_id"] in await database.read(lambda c: columns(c, "participants"))


async def test_an_upgrade_that_is_repeated_or_concurrent_does_nothing_more(tmp_path: Path, postgres_url: str) -> None:
    for url in (f"sqlite:///{tmp_path / 'new.db'}", postgres_url):
        databases = [open_database(url) for _ in range(3)]
        assert not await is_current(databases[0])
        await asyncio.gather(*(upgrade(database) for database in databases))
        await upgrade(databases[0])
        assert await is_current(databases[0])
        for database in databases:
            await database.close()


async def test_a_failed_transaction_leaves_nothing(database: Database, clock: ManualClock) -> None:
    def fail(connection: sa.Connection) -> None:
        connection.execute(metadata.tables["users"].insert(), {"id": user(1), "display_name": "One"})
        raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await database.write(fail)
    stores = sql_stores(database, SequenceIds())
    assert await stores.users.names([user(1)]) == {}
    person = User(user(1), TENANT, "one@example.org", "One", clock.now())
    assert await stores.users.upsert(person) == person


async def test_a_statement_of_ours_that_is_wrong_is_a_bug_and_names_no_data(database: Database) -> None:
    wrong = sa.text("INSERT INTO users (id, tenant) VALUES ('x', :name)")
    with pytest.raises(sa.exc.DBAPIError) as caught:
        await database.write(lambda connection: connection.execute(wrong, {"name": "somebody"}))
    assert "somebody" not in str(caught.value)


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/parley", "sqlite://", "sqlite:///:memory:"])
def test_a_database_that_cannot_work_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"not a database|needs a file"):
        open_database(url)


# --- SQLite ---


async def test_sqlite_connections_are_set_for_several_processes(tmp_path: Path) -> None:
    database = open_database(f"sqlite+aiosqlite:///{tmp_path / 'new.db'}")

    def pragmas(connection: sa.Connection) -> dict[str, object]:
        names = ("journal_mode", "foreign_keys", "busy_timeout", "synchronous")
        return {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}

    wanted = {"journal_mode": "wal", "foreign_keys": 1, "busy_timeout": 5000, "synchronous": 1}
    assert await database.read(pragmas) == wanted
    assert await database.write(pragmas) == wanted
    await database.close()


async def test_a_writer_waits_for_the_writer_of_another_process(
    tmp_path: Path, migrated_sqlite: Path, clock: ManualClock
) -> None:
    file = tmp_path / "shared.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    database = open_database(f"sqlite:///{file}")
    stores = sql_stores(database, SequenceIds())
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(stores.meetings.create(a_meeting(clock.now())))
        assert await stores.meetings.get(a_meeting(clock.now()).id) is None  # readers do not wait
        assert not writing.done()
        other.execute("COMMIT")
    assert await writing == a_meeting(clock.now())
    other.close()
    await database.close()


async def test_a_sqlite_file_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'missing' / 'parley.db'}")
    for run in (database.read, database.write):
        with pytest.raises(Unavailable):
            await run(lambda connection: connection.execute(sa.text("SELECT 1")))
    await database.close()


async def test_a_sqlite_file_that_stays_locked_is_unavailable(
    tmp_path: Path, migrated_sqlite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conference.adapters.sql.sqlite._PRAGMAS", ("busy_timeout = 50",))
    file = tmp_path / "locked.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    database = open_database(f"sqlite:///{file}")
    with sqlite3.connect(file, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable) as caught:
            await database.write(lambda connection: None)
        assert caught.value.retryable
        other.execute("ROLLBACK")
    other.close()
    await database.close()


async def test_more_waiting_transactions_than_the_limit_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conference.adapters.sql.sqlite._WAITING_MOST", 2)
    database = open_database(f"sqlite:///{tmp_path / 'new.db'}")
    answers = await asyncio.gather(*(database.write(lambda _: 1) for _ in range(3)), return_exceptions=True)
    assert answers[:2] == [1, 1]
    assert isinstance(answers[2], Unavailable)
    await database.close()


# --- PostgreSQL ---


async def test_a_postgresql_that_does_not_listen_is_unavailable(unused_tcp_port: int) -> None:
    database = open_database(f"postgresql://parley@127.0.0.1:{unused_tcp_port}/parley")
    for run in (database.read, database.write):
        with pytest.raises(Unavailable):
            await run(lambda connection: connection.execute(sa.text("SELECT 1")))
    await database.close()


async def test_connections_that_were_cut_fail_once_and_then_come_back(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    database = open_database(postgres_url)

    async def answer() -> int:
        return await database.write(lambda connection: connection.execute(sa.text("SELECT 1")).scalar_one())

    assert await answer() == 1
    await asyncio.to_thread(postgres_server.end_connections, postgres_url)
    with pytest.raises(Unavailable):
        await answer()
    assert await answer() == 1
    await database.close()


async def test_a_deadlock_is_run_again(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await database.write(lambda c: c.execute(sa.text("CREATE TABLE pair (id int PRIMARY KEY, n int)")))
    await database.write(lambda c: c.execute(sa.text("INSERT INTO pair VALUES (1, 0), (2, 0)")))
    add = sa.text("UPDATE pair SET n = n + 1 WHERE id = :id")
    pause = sa.text("SELECT pg_sleep(0.2)")  # lets both hold their first row before they ask for the second

    async def both(first: int, second: int) -> None:
        def work(connection: sa.Connection) -> None:
            connection.execute(add, {"id": first})
            connection.execute(pause)
            connection.execute(add, {"id": second})

        await database.write(work)

    await asyncio.gather(both(1, 2), both(2, 1))
    total = await database.read(lambda c: c.execute(sa.text("SELECT sum(n) FROM pair")).scalar_one())
    assert total == 4
    await database.close()


async def test_a_statement_that_takes_too_long_is_unavailable(postgres_url: str) -> None:
    database = open_database(postgres_url, statement_timeout_s=0.2)
    for run in (database.read, database.write):
        with pytest.raises(Unavailable):
            await run(lambda connection: connection.execute(sa.text("SELECT pg_sleep(60)")))
    assert await database.read(lambda c: c.execute(sa.text("SELECT 1")).scalar_one()) == 1
    await database.close()


async def test_a_pool_with_no_connection_left_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_POOL_WAIT_S", 0.2)
    database = open_database(postgres_url, pool_size=1)
    lock = sa.text("SELECT pg_advisory_lock(1)")
    gate = open_database(postgres_url)
    await gate.write(lambda c: c.execute(lock))  # of the session, so it outlasts the transaction
    held = asyncio.create_task(database.write(lambda c: c.execute(lock)))
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")

    async def is_held() -> bool:
        return bool(await gate.read(lambda c: c.execute(waiting).scalar_one()))

    await eventually(is_held)
    with pytest.raises(Unavailable):
        await database.read(lambda c: c.execute(sa.text("SELECT 1")))
    await gate.close()  # which ends the session and gives the lock to the one who waits
    await held
    assert await database.read(lambda c: c.execute(sa.text("SELECT 1")).scalar_one()) == 1
    await database.close()


# --- both ---


async def test_a_process_that_dies_in_a_transaction_leaves_nothing_and_holds_nobody_up(
    sql_url: str, clock: ManualClock
) -> None:
    database = open_database(sql_url)
    store = sql_stores(database, SequenceIds()).meetings
    meeting = a_meeting(clock.now())
    await store.create(meeting)
    program = (
        "import asyncio, os, sys, sqlalchemy as sa\n"
        "from conference.adapters.sql import open_database\n"
        "def work(c):\n"
        "    c.execute(sa.text('UPDATE meetings SET version = 99'))\n"
        "    os._exit(9)\n"
        "asyncio.run(open_database(sys.argv[1]).write(work))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", program, sql_url)
    assert await asyncio.wait_for(process.wait(), 30) == 9
    answer = await asyncio.wait_for(store.join(a_join(meeting, user(1), clock.now())), 10)
    assert isinstance(answer, Joined)
    after = await store.get(meeting.id)
    assert after is not None
    assert after.version == meeting.version + 1  # the join's own
    await database.close()


async def test_callers_who_give_up_leave_the_room_and_the_pool_whole(database: Database, clock: ManualClock) -> None:
    store = sql_stores(database, SequenceIds()).meetings
    meeting = a_meeting(clock.now())
    await store.create(meeting)
    joins = [asyncio.create_task(store.join(a_join(meeting, user(n), clock.now()))) for n in range(1, 61)]
    await asyncio.wait(joins[:20], return_when=asyncio.FIRST_COMPLETED)
    for join in joins[::2]:
        join.cancel()
    answers = await asyncio.gather(*joins, return_exceptions=True)
    stayed = [answer for answer in answers if isinstance(answer, Joined)]
    assert len(stayed) >= 30
    assert len(stayed) <= await store.live_count(meeting.id, clock.now()) <= 50
    again = await asyncio.gather(*(store.join(a_join(meeting, user(n), clock.now())) for n in range(1, 61)))
    assert sum(isinstance(answer, Joined) for answer in again) == 50
    assert await store.live_count(meeting.id, clock.now()) == 50
