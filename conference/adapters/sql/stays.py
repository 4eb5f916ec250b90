"""Participants after the join: joined, left, renewed, removed, given another role, or lapsed."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.statements import insert_new
from conference.adapters.sql.tables import participants, removals
from conference.adapters.sql.telling import locked, tell
from conference.domain import events
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.domain.meetings import Meeting, Participant, Role
from conference.domain.policies import may_change_role
from conference.ports.clock import Ids

Condition = sa.ColumnElement[bool]

_ONE: Final = sa.select(participants).where(
    participants.c.meeting_id == sa.bindparam("meeting_id"), participants.c.id == sa.bindparam("participant_id")
)

_PLACE: Final = sa.select(participants).where(
    participants.c.meeting_id == sa.bindparam("meeting_id"),
    participants.c.user_id == sa.bindparam("user_id"),
    participants.c.left_at.is_(None),
    participants.c.lease_until > sa.bindparam("now"),
)


def find(connection: sa.Connection, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None:
    """`MeetingStore.participant`."""
    row = connection.execute(_ONE, {"meeting_id": meeting_id, "participant_id": participant_id}).first()
    return rows.participant(row) if row else None


def place_of(connection: sa.Connection, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
    """`MeetingStore.place_of`."""
    row = connection.execute(_PLACE, {"meeting_id": meeting_id, "user_id": user_id, "now": now}).first()
    return rows.participant(row) if row else None


def end_stays(
    connection: sa.Connection,
    ids: Ids,
    meeting: Meeting,
    *conditions: Condition,
    at: datetime | sa.Column[datetime],
    reason: str,
) -> Sequence[Participant]:
    """Ends the open stays of the meeting that the conditions name and tells of them.

    Belongs under the meeting's lock. `at` is a moment or a column of the stay itself."""
    open_stays = (participants.c.meeting_id == meeting.id, participants.c.left_at.is_(None), *conditions)
    ending = sa.update(participants).where(*open_stays).values(left_at=at).returning(participants)
    ended = sorted(map(rows.participant, connection.execute(ending)), key=lambda stay: (stay.created_at, stay.id))
    told = (events.participant_left(stay, reason) for stay in ended if events.is_told(stay, reason))
    tell(connection, ids, meeting, *told)
    return ended


def lapse(connection: sa.Connection, ids: Ids, meeting: Meeting, *conditions: Condition) -> Sequence[Participant]:
    """Ends stays whose lease is over, at the lease's end."""
    return end_stays(connection, ids, meeting, *conditions, at=participants.c.lease_until, reason=events.LEFT_TIMEOUT)


def mark_joined(
    connection: sa.Connection,
    ids: Ids,
    meeting_id: MeetingId,
    participant_id: ParticipantId,
    now: datetime,
    lease_until: datetime,
) -> Participant | None:
    """`MeetingStore.mark_joined`."""
    meeting = locked(connection, meeting_id)
    before = find(connection, meeting_id, participant_id) if meeting else None
    if meeting is None or before is None or not before.is_live(now):
        return None
    after = _update(connection, participant_id, lease_until=lease_until, joined_at=before.joined_at or now)
    if before.joined_at is None:
        tell(connection, ids, meeting, events.participant_joined(after, now))
    return after


def _update(connection: sa.Connection, participant_id: ParticipantId, **values: Any) -> Participant:
    statement = sa.update(participants).where(participants.c.id == participant_id).values(**values)
    return rows.participant(connection.execute(statement.returning(participants)).one())


def mark_left(
    connection: sa.Connection,
    ids: Ids,
    meeting_id: MeetingId,
    participant_id: ParticipantId,
    now: datetime,
    reason: str,
) -> bool:
    """`MeetingStore.mark_left`."""
    meeting = locked(connection, meeting_id)
    if meeting is None:
        return False
    named = participants.c.id == participant_id
    return bool(end_stays(connection, ids, meeting, named, at=now, reason=reason))


def renew_leases(
    connection: sa.Connection,
    meeting_id: MeetingId,
    participant_ids: Collection[ParticipantId],
    now: datetime,
    until: datetime,
) -> int:
    """`MeetingStore.renew_leases`."""
    statement = (
        sa.update(participants)
        .where(
            participants.c.meeting_id == meeting_id,
            participants.c.id.in_(set(participant_ids)),
            participants.c.left_at.is_(None),
            participants.c.lease_until > now,
        )
        .values(lease_until=until)
    )
    return connection.execute(statement).rowcount


def remove(
    connection: sa.Connection,
    ids: Ids,
    meeting_id: MeetingId,
    participant_id: ParticipantId,
    by: UserId,
    now: datetime,
) -> Participant | Refused:
    """`MeetingStore.remove`."""
    meeting = locked(connection, meeting_id)
    participant = find(connection, meeting_id, participant_id) if meeting else None
    if meeting is None or participant is None:
        return Refused("not-found")
    if participant.role is Role.HOST:
        return Refused("forbidden")
    user_id = participant.user_id
    insert_new(connection, removals, meeting_id=meeting_id, user_id=user_id, removed_by=by, removed_at=now)
    ended = end_stays(connection, ids, meeting, participants.c.user_id == user_id, at=now, reason=events.LEFT_REMOVED)
    return ended[0] if ended else participant


def set_role(
    connection: sa.Connection, meeting_id: MeetingId, participant_id: ParticipantId, role: Role
) -> Participant | Refused:
    """`MeetingStore.set_role`."""
    meeting = locked(connection, meeting_id)
    participant = find(connection, meeting_id, participant_id) if meeting else None
    if meeting is None or participant is None or participant.left_at is not None:
        return Refused("not-found")
    decision = may_change_role(participant, role, meeting.settings)
    if isinstance(decision, Refused):
        return decision
    return _update(connection, participant_id, role=role)
