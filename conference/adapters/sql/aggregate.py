"""The meeting itself: created, read, listed, changed, ended."""

from datetime import datetime
from typing import Final

import sqlalchemy as sa

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.adapters.sql import rows
from conference.adapters.sql.statements import insert_new
from conference.adapters.sql.stays import end_stays
from conference.adapters.sql.tables import meetings, participants, provider_identities, sessions
from conference.adapters.sql.telling import know_user, locked, tell, write_changes
from conference.domain import events
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Session
from conference.ports.clock import Ids
from conference.ports.meetings import Ended, Page, ParticipantPage

_ONE: Final = sa.select(meetings).where(meetings.c.id == sa.bindparam("meeting_id"))


def create(connection: sa.Connection, ids: Ids, meeting: Meeting, fingerprint: str) -> Meeting | Refused:
    """`MeetingStore.create`."""
    know_user(connection, meeting.host_id)
    values = rows.meeting_values(meeting) | {"event_seq": 1, "fingerprint": fingerprint}
    if insert_new(connection, meetings, **values):
        write_changes(connection, ids, meeting, 1, [events.room_created(meeting)])
        return meeting
    stored = connection.execute(_ONE, {"meeting_id": meeting.id}).one()
    return rows.meeting(stored) if stored.fingerprint == fingerprint else Refused("idempotency-conflict")


def find(connection: sa.Connection, meeting_id: MeetingId) -> Meeting | None:
    """`MeetingStore.get`."""
    row = connection.execute(_ONE, {"meeting_id": meeting_id}).first()
    return rows.meeting(row) if row else None


def of_host(
    connection: sa.Connection,
    host_id: UserId,
    start: datetime | None,
    end: datetime | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """`MeetingStore.of_host`."""
    at, id_ = meetings.c.listed_at, meetings.c.id
    statement = sa.select(meetings).where(meetings.c.host_id == host_id)
    if start is not None:
        statement = statement.where(at >= start)
    if end is not None:
        statement = statement.where(at < end)
    if cursor is not None:
        last_at, last_id = decode_cursor(cursor)
        statement = statement.where((at < last_at) | ((at == last_at) & (id_ < last_id)))
    found = connection.execute(statement.order_by(at.desc(), id_.desc()).limit(limit + 1))
    page = [rows.meeting(row) for row in found]
    more, page = len(page) > limit, page[:limit]
    return Page(page, encode_cursor(page[-1].listed_at, page[-1].id) if more else None)


def change_settings(
    connection: sa.Connection, meeting_id: MeetingId, settings: MeetingSettings, expected_version: int
) -> Meeting | Refused:
    """`MeetingStore.change_settings`."""
    meeting = locked(connection, meeting_id)
    if meeting is None:
        return Refused("not-found")
    if meeting.status is MeetingStatus.COMPLETED:
        return Refused("meeting-ended")
    if meeting.version != expected_version:
        return Refused("precondition-failed")
    changed = {"settings": rows.settings_value(settings), "version": expected_version + 1}
    statement = sa.update(meetings).where(meetings.c.id == meeting_id).values(**changed).returning(meetings)
    return rows.meeting(connection.execute(statement).one())


def end(
    connection: sa.Connection,
    ids: Ids,
    meeting_id: MeetingId,
    by: UserId,
    now: datetime,
    expected_version: int | None,
) -> Ended | Refused:
    """`MeetingStore.end`."""
    meeting = locked(connection, meeting_id)
    if meeting is None:
        return Refused("not-found")
    if meeting.status is MeetingStatus.COMPLETED:
        return Ended(meeting, _last_session(connection, meeting_id), already=True)
    if expected_version not in (None, meeting.version):
        return Refused("precondition-failed")
    end_stays(connection, ids, meeting, at=now, reason=events.LEFT_ENDED)
    open_session = (sessions.c.room_id == meeting_id, sessions.c.end_time.is_(None))
    closing = sa.update(sessions).where(*open_session).values(end_time=now).returning(sessions)
    closed = connection.execute(closing).first()
    session = rows.session(closed) if closed else None
    tell(
        connection,
        ids,
        meeting,
        events.meeting_ended(session, by, now),
        status=MeetingStatus.COMPLETED,
        end_time=now,
        version=meeting.version + 1,
    )
    return Ended(rows.meeting(connection.execute(_ONE, {"meeting_id": meeting_id}).one()), session, already=False)


def session(connection: sa.Connection, session_id: SessionId) -> Session | None:
    """`MeetingStore.session`."""
    row = connection.execute(sa.select(sessions).where(sessions.c.id == session_id)).first()
    return rows.session(row) if row else None


def _last_session(connection: sa.Connection, meeting_id: MeetingId) -> Session | None:
    statement = sa.select(sessions).where(sessions.c.room_id == meeting_id)
    row = connection.execute(statement.order_by(sessions.c.start_time.desc()).limit(1)).first()
    return rows.session(row) if row else None


def participants_of(
    connection: sa.Connection, meeting_id: MeetingId, cursor: str | None, limit: int
) -> ParticipantPage:
    """`MeetingStore.participants`."""
    at, id_ = participants.c.created_at, participants.c.id
    statement = sa.select(participants).where(participants.c.meeting_id == meeting_id)
    if cursor is not None:
        last_at, last_id = decode_cursor(cursor)
        statement = statement.where((at > last_at) | ((at == last_at) & (id_ > last_id)))
    page = [rows.participant(row) for row in connection.execute(statement.order_by(at, id_).limit(limit + 1))]
    more, page = len(page) > limit, page[:limit]
    return ParticipantPage(page, encode_cursor(page[-1].created_at, page[-1].id) if more else None)


def live_count(connection: sa.Connection, meeting_id: MeetingId, now: datetime) -> int:
    """`MeetingStore.live_count`."""
    live = (participants.c.left_at.is_(None), participants.c.lease_until > now)
    counted = sa.select(sa.func.count()).select_from(participants).where(participants.c.meeting_id == meeting_id, *live)
    return connection.execute(counted).scalar_one()


def provider_identity(connection: sa.Connection, meeting_id: MeetingId, user_id: UserId) -> str | None:
    """`MeetingStore.provider_identity`."""
    named = (provider_identities.c.meeting_id == meeting_id, provider_identities.c.user_id == user_id)
    return connection.execute(sa.select(provider_identities.c.identity).where(*named)).scalar_one_or_none()


def bind_identity(connection: sa.Connection, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
    """`MeetingStore.bind_provider_identity`."""
    row = {"meeting_id": meeting_id, "user_id": user_id, "identity": identity}
    if insert_new(connection, provider_identities, **row):
        return identity
    return provider_identity(connection, meeting_id, user_id) or identity
