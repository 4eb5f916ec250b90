"""The schema: one table an entity of contracts.md section 1, and what delivery needs (outbox, queue,
webhooks).

Alembic's versions (`migrations/versions`) build the same schema step by step; a contract test compares the two. Rows of
a meeting go with it (ON DELETE CASCADE) except the audit log, which outlives it and so has no foreign key.
"""

from datetime import UTC, datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator

from conference.domain.meetings import MeetingStatus, Role
from conference.domain.webhooks import WebhookStatus

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, in UTC, to the microsecond. SQLite keeps it as ISO text, which sorts; PostgreSQL as timestamptz."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone is not an instant")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Json: Final = sa.JSON().with_variant(JSONB(), "postgresql")
RowNumber: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite numbers only INTEGER keys by itself


def _id(name: str = "id") -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[datetime]:
    return sa.Column(name, UtcDateTime, nullable=nullable)


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _of(name: str, target: str, *, nullable: bool = False, primary_key: bool = False) -> sa.Column[str]:
    """A foreign key whose rows go with the target's."""
    return sa.Column(
        name, sa.Text, sa.ForeignKey(target, ondelete="CASCADE"), nullable=nullable, primary_key=primary_key
    )


def _user(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, sa.ForeignKey("users.id"), nullable=False)


def _choice(name: str, *texts: str) -> sa.Column[str]:
    known = ", ".join(f"'{text}'" for text in texts)
    return sa.Column(name, sa.Text, sa.CheckConstraint(f"{name} IN ({known})", name=name), nullable=False)


def _json(name: str) -> sa.Column[Any]:
    return sa.Column(name, Json, nullable=False)


# A row with no tenant is a user who is known by id only, until their sign-in tells the rest.
users: Final = sa.Table(
    "users",
    metadata,
    _id(),
    _text("tenant_id", nullable=True),
    _text("email", nullable=True),
    _text("display_name", nullable=True),
    _time("created_at", nullable=True),
)

meetings: Final = sa.Table(
    "meetings",
    metadata,
    _id(),
    _user("host_id"),
    _text("tenant_id"),
    _text("region"),
    _time("created_at"),
    _time("scheduled_time", nullable=True),
    _time("start_time", nullable=True),
    _time("end_time", nullable=True),
    _time("listed_at"),  # Meeting.listed_at, so that a host's list is one walk of an index
    _text("password_hash", nullable=True),
    _json("settings"),
    _choice("status", *MeetingStatus),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("event_seq", sa.Integer, nullable=False),  # number of the last domain event
    _text("fingerprint"),  # of the request that created it
    _text("provider_room", nullable=True),
    sa.Index(None, "host_id", "start_time"),
    sa.Index(None, "host_id", "listed_at", "id"),
    sa.Index(None, "end_time"),
)

sessions: Final = sa.Table(
    "sessions",
    metadata,
    _id(),
    _of("room_id", "meetings.id"),
    _time("start_time"),
    _time("end_time", nullable=True),
    _text("recording_url", nullable=True),
    sa.Index(None, "room_id", "start_time"),
)
sa.Index(
    "uq_sessions_open",
    sessions.c.room_id,
    unique=True,
    sqlite_where=sessions.c.end_time.is_(None),
    postgresql_where=sessions.c.end_time.is_(None),
)

participants: Final = sa.Table(
    "participants",
    metadata,
    _id(),
    _of("meeting_id", "meetings.id"),
    _of("session_id", "sessions.id"),
    _user("user_id"),
    _choice("role", *Role),
    _time("created_at"),
    _time("joined_at", nullable=True),
    _time("left_at", nullable=True),
    _time("lease_until"),
    sa.Index(None, "meeting_id", "user_id"),
    sa.Index(None, "session_id"),
)
# One open stay a user and meeting; counting a room's live places walks only this index.
sa.Index(
    "uq_participants_open",
    participants.c.meeting_id,
    participants.c.user_id,
    unique=True,
    sqlite_where=participants.c.left_at.is_(None),
    postgresql_where=participants.c.left_at.is_(None),
)

# Users whom a host has removed from a meeting.
removals: Final = sa.Table(
    "removals",
    metadata,
    _of("meeting_id", "meetings.id", primary_key=True),
    sa.Column("user_id", sa.Text, sa.ForeignKey("users.id"), primary_key=True),
    _text("removed_by"),
    _time("removed_at"),
)

# By what name the media provider of a meeting knows a user there.
provider_identities: Final = sa.Table(
    "provider_identities",
    metadata,
    _of("meeting_id", "meetings.id", primary_key=True),
    sa.Column("user_id", sa.Text, primary_key=True),
    _text("identity"),
)

consent_log: Final = sa.Table(
    "consent_log",
    metadata,
    _id(),
    _of("meeting_id", "meetings.id"),
    _user("user_id"),
    _of("participant_id", "participants.id", nullable=True),
    _text("consent_type"),
    _text("status"),
    _text("text_version"),
    _time("timestamp"),
    sa.Column("position", sa.Integer, nullable=False),  # in the meeting's chain, from 1
    _text("previous_hash"),
    _text("hash"),
    sa.UniqueConstraint("meeting_id", "previous_hash"),
    sa.UniqueConstraint("meeting_id", "position"),
    sa.Index(None, "meeting_id", "user_id"),
    sa.Index(None, "participant_id"),
)

recordings: Final = sa.Table(
    "recordings",
    metadata,
    _id(),
    _of("meeting_id", "meetings.id"),
    _of("session_id", "sessions.id"),
    _of("participant_id", "participants.id", nullable=True),
    _text("blob_url"),
    sa.Column("duration_seconds", sa.Double, nullable=False),
    _text("storage_tier"),
    _text("state"),
    _time("created_at"),
    _json("manifest"),
    sa.Index(None, "meeting_id", "created_at"),
    sa.Index(None, "session_id"),
    sa.Index(None, "participant_id"),
)

transcript_segments: Final = sa.Table(
    "transcript_segments",
    metadata,
    _of("meeting_id", "meetings.id", primary_key=True),
    _id(),
    _of("participant_id", "participants.id"),
    sa.Column("t0", sa.Double, nullable=False),
    sa.Column("t1", sa.Double, nullable=False),
    _text("lang"),
    _text("text"),
    sa.Column("final", sa.Boolean, nullable=False),
    sa.Column("rev", sa.Integer, nullable=False),
    sa.Index(None, "participant_id"),
)

meeting_metadata: Final = sa.Table(
    "meeting_metadata",
    metadata,
    _of("meeting_id", "meetings.id", primary_key=True),
    _text("summary"),
    _json("action_items"),
    _json("decisions"),
    _text("sentiment"),
    _time("created_at"),
)

audit_events: Final = sa.Table(
    "audit_events",
    metadata,
    _id(),
    _text("action"),
    _time("at"),
    _text("outcome"),
    _text("tenant_id", nullable=True),
    _text("user_id", nullable=True),
    _text("meeting_id", nullable=True),
    _json("detail"),
    sa.Index(None, "tenant_id", "at"),
    sa.Index(None, "meeting_id", "at"),
)

outbox_events: Final = sa.Table(
    "outbox_events",
    metadata,
    _id(),
    _of("meeting_id", "meetings.id"),
    sa.Column("seq", sa.Integer, nullable=False),
    _text("type"),
    _time("at"),
    _json("payload"),
    _time("claimed_until", nullable=True),
    _time("published_at", nullable=True),
    sa.UniqueConstraint("meeting_id", "seq"),
)
# What is still to be delivered: short, however long the history.
sa.Index(
    "ix_outbox_events_pending",
    outbox_events.c.meeting_id,
    outbox_events.c.seq,
    sqlite_where=outbox_events.c.published_at.is_(None),
    postgresql_where=outbox_events.c.published_at.is_(None),
)

queue_messages: Final = sa.Table(
    "queue_messages",
    metadata,
    sa.Column("number", RowNumber, primary_key=True, autoincrement=True),
    _text("queue"),
    _text("id"),
    _text("body"),
    _time("inserted_at"),
    _time("visible_at"),
    sa.Column("dequeue_count", sa.Integer, nullable=False),
    _text("pop_receipt"),
    sa.UniqueConstraint("queue", "id"),
    sa.Index(None, "queue", "visible_at"),
)

webhook_endpoints: Final = sa.Table(
    "webhook_endpoints",
    metadata,
    _id(),
    _text("tenant_id"),
    _text("url"),
    _json("events"),  # the types it wants; empty for every type
    _text("description"),
    _json("secrets"),  # sealed
    _time("created_at"),
    _choice("status", *WebhookStatus),
    _text("pause_reason", nullable=True),
    _time("paused_at", nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    _text("fingerprint"),  # of the request that created it
    sa.Index(None, "tenant_id", "created_at"),
)

# One room's events on their way to one endpoint.
webhook_streams: Final = sa.Table(
    "webhook_streams",
    metadata,
    _of("endpoint_id", "webhook_endpoints.id", primary_key=True),
    _of("meeting_id", "meetings.id", primary_key=True),
    sa.Column("next_seq", sa.Integer, nullable=False),
    sa.Column("last_seq", sa.Integer, nullable=False),
    _time("due_at", nullable=True),  # empty: idle, or parked
    _text("token", nullable=True),  # of the lease
    _time("held_until", nullable=True),
    sa.Column("attempts", sa.Integer, nullable=False),
    _time("failing_since", nullable=True),
    sa.Column("dead", sa.Boolean, nullable=False),
    sa.Index(None, "meeting_id"),
)
# Most streams are idle: what is due is found by walking these only.
sa.Index(
    "ix_webhook_streams_due",
    webhook_streams.c.due_at,
    sqlite_where=webhook_streams.c.due_at.is_not(None),
    postgresql_where=webhook_streams.c.due_at.is_not(None),
)

webhook_attempts: Final = sa.Table(
    "webhook_attempts",
    metadata,
    _id(),
    _of("endpoint_id", "webhook_endpoints.id"),
    _text("meeting_id"),
    sa.Column("seq", sa.Integer, nullable=False),
    _text("event_id"),
    _text("event_type"),
    _time("at"),
    sa.Column("attempt", sa.Integer, nullable=False),
    _text("outcome"),
    sa.Column("status", sa.Integer, nullable=True),
    _text("error", nullable=True),
    sa.Column("duration_ms", sa.Integer, nullable=False),
    sa.Index(None, "endpoint_id", "at", "id"),
    sa.Index(None, "at"),
)
