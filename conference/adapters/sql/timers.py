"""What time alone changes: lapsed leases, idle rooms, retention. Every run is bounded; the next run does the rest.

Candidates are read without a lock; each meeting is then changed in a transaction of its own, which looks again.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import sqlalchemy as sa

from conference.adapters.sql.stays import lapse
from conference.adapters.sql.tables import meetings, participants, sessions
from conference.adapters.sql.telling import locked
from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.meetings import MeetingStatus, Participant
from conference.ports.clock import Ids

_free_at: Final = sa.func.coalesce(participants.c.left_at, participants.c.lease_until)


def lapsed(connection: sa.Connection, now: datetime, limit: int) -> dict[MeetingId, list[ParticipantId]]:
    """Open stays whose lease is over, the oldest first, by meeting."""
    statement = (
        sa.select(participants.c.meeting_id, participants.c.id)
        .where(participants.c.left_at.is_(None), participants.c.lease_until <= now)
        .order_by(participants.c.lease_until)
        .limit(limit)
    )
    found: dict[MeetingId, list[ParticipantId]] = {}
    for meeting_id, participant_id in connection.execute(statement):
        found.setdefault(meeting_id, []).append(participant_id)
    return found


def expire(
    connection: sa.Connection, ids: Ids, meeting_id: MeetingId, participant_ids: list[ParticipantId], now: datetime
) -> Sequence[Participant]:
    """Ends those stays of one meeting that are still lapsed."""
    meeting = locked(connection, meeting_id)
    if meeting is None:
        return ()
    still = (participants.c.id.in_(participant_ids), participants.c.lease_until <= now)
    return lapse(connection, ids, meeting, *still)


def idle_rooms(connection: sa.Connection, before: datetime, limit: int) -> Sequence[MeetingId]:
    """Rooms with an open session in which nobody has had a place since `before`."""
    later = sa.exists().where(participants.c.session_id == sessions.c.id, _free_at > before)
    statement = (
        sa.select(sessions.c.room_id)
        .where(sessions.c.end_time.is_(None), sessions.c.start_time <= before, ~later)
        .order_by(sessions.c.start_time)
        .limit(limit)
    )
    return list(connection.execute(statement).scalars())


def close_idle(connection: sa.Connection, meeting_id: MeetingId, before: datetime) -> bool:
    """Ends the room's open session at the moment its last place was free, if that is still `before` or earlier."""
    if locked(connection, meeting_id) is None:
        return False
    last = sa.select(sa.func.max(_free_at)).where(participants.c.session_id == sessions.c.id).scalar_subquery()
    open_session = (sessions.c.room_id == meeting_id, sessions.c.end_time.is_(None))
    seen = sa.func.coalesce(last, sessions.c.start_time)
    closing = sa.update(sessions).where(*open_session, seen <= before).values(end_time=seen)
    return connection.execute(closing).rowcount > 0


def delete_ended(connection: sa.Connection, before: datetime, limit: int) -> Sequence[MeetingId]:
    """Deletes meetings that ended before, the oldest first; what is theirs goes by the foreign keys."""
    ended = (meetings.c.status == MeetingStatus.COMPLETED, meetings.c.end_time < before)
    oldest = sa.select(meetings.c.id).where(*ended).order_by(meetings.c.end_time).limit(limit)
    deleted = sa.delete(meetings).where(meetings.c.id.in_(oldest)).returning(meetings.c.id)
    return list(connection.execute(deleted).scalars())
