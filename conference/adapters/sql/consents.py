"""The consent log of a meeting: one hash chain, appended to under the meeting's lock.

The lock makes concurrent writers follow each other; UNIQUE(meetingId, previousHash) would refuse a fork by anybody who
writes without it.
"""

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.statements import insert
from conference.adapters.sql.tables import consent_log, participants, users
from conference.adapters.sql.telling import know_user, locked, tell
from conference.domain import events
from conference.domain.consent import GENESIS, ConsentLog, chained
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, UserId
from conference.domain.meetings import MeetingStatus
from conference.ports.clock import Ids
from conference.ports.meetings import NewConsent

_TAIL: Final = (
    sa.select(consent_log.c.position, consent_log.c.hash)
    .where(consent_log.c.meeting_id == sa.bindparam("meeting_id"))
    .order_by(consent_log.c.position.desc())
    .limit(1)
)


def record(connection: sa.Connection, ids: Ids, consent: NewConsent) -> ConsentLog | Refused:
    """`MeetingStore.record_consent`."""
    meeting = locked(connection, consent.meeting_id)
    if meeting is None:
        return Refused("not-found")
    known = connection.execute(sa.select(consent_log).where(consent_log.c.id == consent.id)).first()
    if known:
        stored = rows.consent(known)
        return stored if consent.is_of(stored) else Refused("idempotency-conflict")
    if meeting.status is MeetingStatus.COMPLETED:
        return Refused("meeting-ended")
    tail = connection.execute(_TAIL, {"meeting_id": consent.meeting_id}).first()
    position, previous = (tail.position + 1, tail.hash) if tail else (1, GENESIS)
    entry = chained(consent.entry(_place(connection, consent)), previous)
    new = insert(connection, consent_log).on_conflict_do_nothing(index_elements=["id"]).returning(consent_log.c.id)
    if not connection.execute(new, rows.values(entry) | {"position": position}).first():
        # The lock is the meeting's: in another meeting an entry has taken the id meanwhile.
        return Refused("idempotency-conflict")
    tell(connection, ids, meeting, events.consent_recorded(entry))
    return entry


def _place(connection: sa.Connection, consent: NewConsent) -> ParticipantId | None:
    """The user's live place; on the way the user's row is made where there is none."""
    live = sa.select(participants.c.id).where(
        participants.c.meeting_id == consent.meeting_id,
        participants.c.user_id == consent.user_id,
        participants.c.left_at.is_(None),
        participants.c.lease_until > consent.now,
    )
    known = sa.exists().where(users.c.id == consent.user_id)
    found = connection.execute(sa.select(live.scalar_subquery().label("place"), known.label("known"))).one()
    if not found.known:
        know_user(connection, consent.user_id)
    return ParticipantId(found.place) if found.place else None


def chain(
    connection: sa.Connection,
    meeting_id: MeetingId,
    user_id: UserId | None = None,
    consent_id: ConsentId | None = None,
) -> Sequence[ConsentLog]:
    """The meeting's entries in order; of one user, or with one id, where named."""
    statement = sa.select(consent_log).where(consent_log.c.meeting_id == meeting_id).order_by(consent_log.c.position)
    if user_id is not None:
        statement = statement.where(consent_log.c.user_id == user_id)
    if consent_id is not None:
        statement = statement.where(consent_log.c.id == consent_id)
    return [rows.consent(row) for row in connection.execute(statement)]
