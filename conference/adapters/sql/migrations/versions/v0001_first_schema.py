"""The first schema: every table of contracts.md section 1, the outbox and the queue."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The types as they were at this revision; `tables.py` may move on.
INSTANT = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _users()
    _meetings()
    _sessions()
    _participants()
    _removals()
    _consent_log()
    _recordings()
    _transcript_segments()
    _meeting_metadata()
    _audit_events()
    _outbox_events()
    _queue_messages()


def downgrade() -> None:
    for table in (
        "queue_messages",
        "outbox_events",
        "audit_events",
        "meeting_metadata",
        "transcript_segments",
        "recordings",
        "consent_log",
        "removals",
        "participants",
        "sessions",
        "meetings",
        "users",
    ):
        op.drop_table(table)


def _users() -> None:
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("email", sa.Text(), nullable=True),
        sa.Column("display_name", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )


def _meetings() -> None:
    op.create_table(
        "meetings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=False),
        sa.Column("region", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("scheduled_time", INSTANT, nullable=True),
        sa.Column("start_time", INSTANT, nullable=True),
        sa.Column("end_time", INSTANT, nullable=True),
        sa.Column("listed_at", INSTANT, nullable=False),
        sa.Column("password_hash", sa.Text(), nullable=True),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_seq", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["host_id"], ["users.id"], name="fk_meetings_host_id"),
        sa.CheckConstraint("status IN ('SCHEDULED', 'ACTIVE', 'COMPLETED')", name=op.f("ck_meetings_status")),
        sa.PrimaryKeyConstraint("id", name="pk_meetings"),
    )
    op.create_index("ix_meetings_end_time", "meetings", ["end_time"])
    op.create_index("ix_meetings_host_id_listed_at_id", "meetings", ["host_id", "listed_at", "id"])
    op.create_index("ix_meetings_host_id_start_time", "meetings", ["host_id", "start_time"])


def _sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("room_id", sa.Text(), nullable=False),
        sa.Column("start_time", INSTANT, nullable=False),
        sa.Column("end_time", INSTANT, nullable=True),
        sa.Column("recording_url", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["room_id"], ["meetings.id"], name="fk_sessions_room_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index("ix_sessions_room_id_start_time", "sessions", ["room_id", "start_time"])
    op.create_index(
        "uq_sessions_open",
        "sessions",
        ["room_id"],
        unique=True,
        sqlite_where=sa.text("end_time IS NULL"),
        postgresql_where=sa.text("end_time IS NULL"),
    )


def _participants() -> None:
    op.create_table(
        "participants",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("joined_at", INSTANT, nullable=True),
        sa.Column("left_at", INSTANT, nullable=True),
        sa.Column("lease_until", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name="fk_participants_meeting_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_participants_session_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_participants_user_id"),
        sa.CheckConstraint("role IN ('host', 'attendee', 'viewer')", name=op.f("ck_participants_role")),
        sa.PrimaryKeyConstraint("id", name="pk_participants"),
    )
    op.create_index("ix_participants_meeting_id_user_id", "participants", ["meeting_id", "user_id"])
    op.create_index("ix_participants_session_id", "participants", ["session_id"])
    op.create_index(
        "uq_participants_open",
        "participants",
        ["meeting_id", "user_id"],
        unique=True,
        sqlite_where=sa.text("left_at IS NULL"),
        postgresql_where=sa.text("left_at IS NULL"),
    )


def _removals() -> None:
    op.create_table(
        "removals",
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("removed_by", sa.Text(), nullable=False),
        sa.Column("removed_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name="fk_removals_meeting_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_removals_user_id"),
        sa.PrimaryKeyConstraint("meeting_id", "user_id", name="pk_removals"),
    )


def _consent_log() -> None:
    op.create_table(
        "consent_log",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("participant_id", sa.Text(), nullable=True),
        sa.Column("consent_type", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("text_version", sa.Text(), nullable=False),
        sa.Column("timestamp", INSTANT, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name="fk_consent_log_meeting_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participants.id"], name="fk_consent_log_participant_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_consent_log_user_id"),
        sa.PrimaryKeyConstraint("id", name="pk_consent_log"),
        sa.UniqueConstraint("meeting_id", "position", name="uq_consent_log_meeting_id_position"),
        sa.UniqueConstraint("meeting_id", "previous_hash", name="uq_consent_log_meeting_id_previous_hash"),
    )
    op.create_index("ix_consent_log_meeting_id_user_id", "consent_log", ["meeting_id", "user_id"])
    op.create_index("ix_consent_log_participant_id", "consent_log", ["participant_id"])


def _recordings() -> None:
    op.create_table(
        "recordings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("participant_id", sa.Text(), nullable=True),
        sa.Column("blob_url", sa.Text(), nullable=False),
        sa.Column("duration_seconds", sa.Double(), nullable=False),
        sa.Column("storage_tier", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("manifest", JSON, nullable=False),
        sa.ForeignKeyConstraint(["meeting_id"], ["meetings.id"], name="fk_recordings_meeting_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participants.id"], name="fk_recordings_participant_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_recordings_session_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_recordings"),
    )
    op.create_index("ix_recordings_meeting_id_created_at", "recordings", ["meeting_id", "created_at"])
    op.create_index("ix_recordings_participant_id", "recordings", ["participant_id"])
    op.create_index("ix_recordings_session_id", "recordings", ["session_id"])


def _transcript_segments() -> None:
    op.create_table(
        "transcript_segments",
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("participant_id", sa.Text(), nullable=False),
        sa.Column("t0", sa.Double(), nullable=False),
        sa.Column("t1", sa.Double(), nullable=False),
        sa.Column("lang", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["meeting_id"], ["meetings.id"], name="fk_transcript_segments_meeting_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["participant_id"], ["participants.id"], name="fk_transcript_segments_participant_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("meeting_id", "id", name="pk_transcript_segments"),
    )
    op.create_index("ix_transcript_segments_participant_id", "transcript_segments", ["participant_id"])


def _meeting_metadata() -> None:
    op.create_table(
        "meeting_metadata",
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("action_items", JSON, nullable=False),
        sa.Column("decisions", JSON, nullable=False),
        sa.Column("sentiment", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["meeting_id"], ["meetings.id"], name="fk_meeting_metadata_meeting_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("meeting_id", name="pk_meeting_metadata"),
    )


def _audit_events() -> None:
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Text(), nullable=True),
        sa.Column("user_id", sa.Text(), nullable=True),
        sa.Column("meeting_id", sa.Text(), nullable=True),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_meeting_id_at", "audit_events", ["meeting_id", "at"])
    op.create_index("ix_audit_events_tenant_id_at", "audit_events", ["tenant_id", "at"])


def _outbox_events() -> None:
    op.create_table(
        "outbox_events",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("meeting_id", sa.Text(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("claimed_until", INSTANT, nullable=True),
        sa.Column("published_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["meeting_id"], ["meetings.id"], name="fk_outbox_events_meeting_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_outbox_events"),
        sa.UniqueConstraint("meeting_id", "seq", name="uq_outbox_events_meeting_id_seq"),
    )
    op.create_index(
        "ix_outbox_events_pending",
        "outbox_events",
        ["meeting_id", "seq"],
        sqlite_where=sa.text("published_at IS NULL"),
        postgresql_where=sa.text("published_at IS NULL"),
    )


def _queue_messages() -> None:
    op.create_table(
        "queue_messages",
        sa.Column("number", ROW_NUMBER, autoincrement=True, nullable=False),
        sa.Column("queue", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("inserted_at", INSTANT, nullable=False),
        sa.Column("visible_at", INSTANT, nullable=False),
        sa.Column("dequeue_count", sa.Integer(), nullable=False),
        sa.Column("pop_receipt", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_queue_messages"),
        sa.UniqueConstraint("queue", "id", name="uq_queue_messages_queue_id"),
    )
    op.create_index("ix_queue_messages_queue_visible_at", "queue_messages", ["queue", "visible_at"])
