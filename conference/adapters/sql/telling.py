"""What every writing transaction of a meeting does: lock it, and write what the change tells.

The meeting's row is the lock of everything of the meeting: `locked` (or `tell`, whose UPDATE takes the same lock) comes
before anything that a decision is based on, so all writers of a meeting stand in one line. On SQLite BEGIN IMMEDIATE
is that lock and FOR UPDATE is left out by the dialect.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.statements import insert_new
from conference.adapters.sql.tables import audit_events, meetings, outbox_events, users
from conference.domain.events import Change
from conference.domain.ids import EventId, MeetingId, TenantId, UserId
from conference.domain.meetings import Meeting
from conference.domain.records import AuditEvent, DomainEvent
from conference.ports.clock import Ids

_LOCKED: Final = sa.select(meetings).where(meetings.c.id == sa.bindparam("meeting_id")).with_for_update()


def locked(connection: sa.Connection, meeting_id: MeetingId) -> Meeting | None:
    """The meeting, which no other transaction changes until this one is over."""
    row = connection.execute(_LOCKED, {"meeting_id": meeting_id}).first()
    return rows.meeting(row) if row else None


def tell(connection: sa.Connection, ids: Ids, meeting: Meeting, *changes: Change, **columns: Any) -> None:
    """Numbers the changes and writes them into outbox and audit log; sets `columns` of the meeting on the way."""
    if not changes and not columns:
        return
    statement = (
        sa.update(meetings)
        .where(meetings.c.id == meeting.id)
        .values(event_seq=meetings.c.event_seq + len(changes), **columns)
        .returning(meetings.c.event_seq)
    )
    last = connection.execute(statement).scalar_one()
    write_changes(connection, ids, meeting, last - len(changes) + 1, changes)


def write_changes(
    connection: sa.Connection, ids: Ids, meeting: Meeting, first_seq: int, changes: Sequence[Change]
) -> None:
    """As `tell`, where the meeting's own row says already that its numbers are taken."""
    numbered = [
        change.numbered(EventId(ids.new()), meeting.id, seq) for seq, change in enumerate(changes, start=first_seq)
    ]
    audited = [change.audited(EventId(ids.new()), meeting.id, TenantId(meeting.tenant_id)) for change in changes]
    _insert(connection, outbox_events, numbered)
    _insert(connection, audit_events, [entry for entry in audited if entry])


def _insert(connection: sa.Connection, table: sa.Table, entities: Iterable[DomainEvent | AuditEvent]) -> None:
    values = [rows.values(entity) for entity in entities]
    if values:
        connection.execute(table.insert(), values)


def know_user(connection: sa.Connection, user_id: UserId) -> None:
    """Makes the row that foreign keys point to, for a user who has not signed in here yet."""
    insert_new(connection, users, id=user_id)
