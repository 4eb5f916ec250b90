"""Join: status, window, role, consent and capacity decided and the place taken, in one transaction.

Four statements for a newcomer to a running room without consent texts: lock the meeting, read the situation, insert
the participant, commit. The rules themselves are `domain.policies`.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.stays import lapse
from conference.adapters.sql.tables import consent_log, meetings, participants, removals, sessions, users
from conference.adapters.sql.telling import know_user, locked, tell
from conference.domain import events
from conference.domain.consent import ConsentLog, required_grants
from conference.domain.errors import Refused
from conference.domain.ids import SessionId
from conference.domain.meetings import Meeting, MeetingStatus, Participant, Session
from conference.domain.policies import may_enter, may_take_place, participant_id_of
from conference.ports.clock import Ids
from conference.ports.meetings import Joined, JoinRequest, joined

_meeting: Final[sa.BindParameter[str]] = sa.bindparam("meeting_id")
_user: Final[sa.BindParameter[str]] = sa.bindparam("user_id")
_p: Final = participants.alias("p")


def _count(*conditions: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    return sa.select(sa.func.count()).select_from(_p).where(_p.c.meeting_id == _meeting, *conditions).scalar_subquery()


# One row: what the decision needs besides the meeting, and the user's open stay (columns null where there is none).
_SITUATION: Final = (
    sa.select(
        _count(_p.c.left_at.is_(None), _p.c.lease_until > sa.bindparam("now")).label("live"),
        _count(_p.c.left_at.is_(None)).label("open_stays"),
        _count(_p.c.user_id == _user).label("stays"),
        sa.select(sessions.c.id)
        .where(sessions.c.room_id == _meeting, sessions.c.end_time.is_(None))
        .scalar_subquery()
        .label("open_session"),
        sa.exists().where(removals.c.meeting_id == _meeting, removals.c.user_id == _user).label("removed"),
        sa.exists().where(users.c.id == _user).label("known"),
        participants,
    )
    .select_from(meetings)
    .outerjoin(
        participants,
        (participants.c.meeting_id == meetings.c.id)
        & (participants.c.user_id == _user)
        & participants.c.left_at.is_(None),
    )
    .where(meetings.c.id == _meeting)
)
_ENTRIES: Final = (
    sa.select(consent_log)
    .where(consent_log.c.meeting_id == _meeting, consent_log.c.user_id == _user)
    .order_by(consent_log.c.position)
)


def join(connection: sa.Connection, ids: Ids, request: JoinRequest) -> Joined | Refused:
    """`MeetingStore.join`."""
    meeting = locked(connection, request.meeting_id)
    if meeting is None:
        return Refused("not-found")
    # A statement of its own after the lock: under READ COMMITTED it sees what the writers before us committed.
    who = {"meeting_id": request.meeting_id, "user_id": request.user_id}
    situation = connection.execute(_SITUATION, {**who, "now": request.now}).one()
    stay = rows.participant(situation) if situation.id is not None else None
    place = stay if stay and stay.is_live(request.now) else None
    role = place.role if place else request.role  # a place keeps the role that the host may have given it
    entered = may_enter(meeting, request.user_id, role, request.now, timedelta(seconds=request.early_s))
    if isinstance(entered, Refused):
        return entered
    entries = _entries(connection, meeting, who)
    decision = may_take_place(
        meeting.settings,
        entries,
        removed=situation.removed,
        others=0 if place else situation.live,
        require_consent=request.require_consent,
    )
    if isinstance(decision, Refused):
        return decision
    if place:
        participant = _kept(connection, place, request)
    else:
        # A place that is given on is taken from its former holder here: a late renewal, made by a clock that is behind
        # or held up on its way, must not bring it back.
        given_on = situation.open_stays >= meeting.settings.max_participants
        if stay or given_on:
            whose = [] if given_on else [participants.c.user_id == request.user_id]
            lapse(connection, ids, meeting, participants.c.lease_until <= request.now, *whose)
        participant = _new_stay(connection, ids, meeting, request, situation)
    return joined(participant, entries, meeting.settings, rejoined=place is not None)


def _entries(connection: sa.Connection, meeting: Meeting, who: dict[str, str]) -> Sequence[ConsentLog]:
    """The user's decisions, where the room asks for any."""
    if not required_grants(meeting.settings):
        return ()
    return [rows.consent(row) for row in connection.execute(_ENTRIES, who)]


def _kept(connection: sa.Connection, place: Participant, request: JoinRequest) -> Participant:
    until = max(place.lease_until, request.lease_until)
    kept = sa.update(participants).where(participants.c.id == place.id).values(lease_until=until)
    return rows.participant(connection.execute(kept.returning(participants)).one())


def _new_stay(
    connection: sa.Connection, ids: Ids, meeting: Meeting, request: JoinRequest, situation: sa.Row[Any]
) -> Participant:
    if not situation.known:
        know_user(connection, request.user_id)
    session_id = situation.open_session or _start_session(connection, ids, meeting, request)
    participant = Participant(
        id=participant_id_of(meeting.id, request.user_id, situation.stays + 1),
        meeting_id=meeting.id,
        session_id=session_id,
        user_id=request.user_id,
        role=request.role,
        created_at=request.now,
        lease_until=request.lease_until,
    )
    connection.execute(participants.insert(), rows.values(participant))
    return participant


def _start_session(connection: sa.Connection, ids: Ids, meeting: Meeting, request: JoinRequest) -> SessionId:
    """Opens a session; the first one makes the meeting ACTIVE."""
    session = Session(request.session_id, meeting.id, request.now)
    connection.execute(sessions.insert(), rows.values(session))
    first: dict[str, Any] = {}
    if meeting.status is not MeetingStatus.ACTIVE:
        first = {
            "status": MeetingStatus.ACTIVE,
            "start_time": request.now,
            "listed_at": request.now,
            "version": meeting.version + 1,
        }
    tell(connection, ids, meeting, events.session_started(session, request.user_id), **first)
    return session.id
