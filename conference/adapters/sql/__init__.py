"""The stores in SQL: SQLAlchemy Core on SQLite and PostgreSQL, the schema by Alembic (`python -m ...sql.migrate`)."""

from conference.adapters.sql.engine import Database, open_database
from conference.adapters.sql.meetings import SqlMeetingStore
from conference.adapters.sql.outbox import SqlOutbox
from conference.adapters.sql.queue import SqlEventQueue
from conference.adapters.sql.records import SqlAuditLog, SqlRecordingStore, SqlTranscriptStore, SqlUserStore
from conference.adapters.sql.webhooks import SqlWebhookStore
from conference.ports.clock import Ids
from conference.ports.stores import Stores

__all__ = ["Database", "open_database", "sql_stores"]


def sql_stores(database: Database, ids: Ids) -> Stores:
    """Every store over one open database whose schema is up to date; the caller closes it."""
    return Stores(
        meetings=SqlMeetingStore(database, ids),
        users=SqlUserStore(database),
        recordings=SqlRecordingStore(database),
        transcripts=SqlTranscriptStore(database),
        audit=SqlAuditLog(database),
        outbox=SqlOutbox(database),
        queue=SqlEventQueue(database, ids),
        webhooks=SqlWebhookStore(database, ids),
    )
