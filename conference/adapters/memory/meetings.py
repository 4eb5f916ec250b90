"""Port `MeetingStore` in memory. The rules are the domain's; here is only what is kept, and the order of questions."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.adapters.memory.audit import MemoryAuditLog
from conference.adapters.memory.outbox import MemoryOutbox
from conference.domain import events
from conference.domain.consent import GENESIS, ConsentLog, chained
from conference.domain.errors import Refused
from conference.domain.events import Change
from conference.domain.ids import ConsentId, EventId, MeetingId, ParticipantId, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Participant, Role, Session
from conference.domain.policies import may_change_role, may_enter, may_take_place, participant_id_of
from conference.ports.clock import Ids
from conference.ports.meetings import Ended, Joined, JoinRequest, NewConsent, Page, ParticipantPage, joined


class Belongings(Protocol):
    """What else is kept of a meeting and goes with it."""

    def forget(self, meeting_id: MeetingId) -> None: ...


@dataclass(slots=True)
class _Room:
    """Everything of one meeting."""

    meeting: Meeting
    fingerprint: str
    sessions: list[Session] = field(default_factory=list)
    participants: dict[ParticipantId, Participant] = field(default_factory=dict)
    chain: list[ConsentLog] = field(default_factory=list)
    removed: set[UserId] = field(default_factory=set)
    identities: dict[UserId, str] = field(default_factory=dict)  # at the media provider
    event_seq: int = 0

    def stay_of(self, user_id: UserId) -> Participant | None:
        """The user's stay that has not ended, live or lapsed."""
        return next((p for p in self.participants.values() if p.user_id == user_id and p.left_at is None), None)

    def open_session(self) -> Session | None:
        last = self.sessions[-1] if self.sessions else None
        return last if last and last.end_time is None else None

    def entries_of(self, user_id: UserId) -> list[ConsentLog]:
        return [entry for entry in self.chain if entry.user_id == user_id]


class MemoryMeetingStore:
    """Tells `outbox` and `audit` of every change; `belongings` forget a meeting that retention deletes."""

    def __init__(
        self, ids: Ids, audit: MemoryAuditLog, outbox: MemoryOutbox, belongings: Iterable[Belongings] = ()
    ) -> None:
        self._ids = ids
        self._audit = audit
        self._outbox = outbox
        self._belongings = tuple(belongings)
        self._rooms: dict[MeetingId, _Room] = {}

    def _tell(self, room: _Room, *changes: Change) -> None:
        for change in changes:
            room.event_seq += 1
            meeting = room.meeting
            self._outbox.add(change.numbered(EventId(self._ids.new()), meeting.id, room.event_seq))
            entry = change.audited(EventId(self._ids.new()), meeting.id, meeting.tenant_id)
            if entry:
                self._audit.add(entry)

    # --- the meeting ---

    async def create(self, meeting: Meeting, *, fingerprint: str = "") -> Meeting | Refused:
        known = self._rooms.get(meeting.id)
        if known:
            return known.meeting if known.fingerprint == fingerprint else Refused("idempotency-conflict")
        room = self._rooms[meeting.id] = _Room(meeting, fingerprint)
        self._tell(room, events.room_created(meeting))
        return meeting

    async def get(self, meeting_id: MeetingId) -> Meeting | None:
        room = self._rooms.get(meeting_id)
        return room.meeting if room else None

    async def of_host(
        self, host_id: UserId, *, start: datetime | None, end: datetime | None, cursor: str | None, limit: int
    ) -> Page:
        after = decode_cursor(cursor) if cursor is not None else None
        found = [
            (meeting.listed_at, meeting.id, meeting)
            for meeting in (room.meeting for room in self._rooms.values())
            if meeting.host_id == host_id
            and (start is None or meeting.listed_at >= start)
            and (end is None or meeting.listed_at < end)
            and (after is None or (meeting.listed_at, meeting.id) < after)
        ]
        page = sorted(found, key=lambda item: item[:2], reverse=True)[: limit + 1]
        more = len(page) > limit
        page = page[:limit]
        return Page([item[2] for item in page], encode_cursor(*page[-1][:2]) if more else None)

    async def change_settings(
        self, meeting_id: MeetingId, settings: MeetingSettings, *, expected_version: int, now: datetime
    ) -> Meeting | Refused:
        room = self._rooms.get(meeting_id)
        if room is None:
            return Refused("not-found")
        if room.meeting.status is MeetingStatus.COMPLETED:
            return Refused("meeting-ended")
        if room.meeting.version != expected_version:
            return Refused("precondition-failed")
        room.meeting = replace(room.meeting, settings=settings, version=expected_version + 1)
        return room.meeting

    async def end(
        self, meeting_id: MeetingId, *, by: UserId, now: datetime, expected_version: int | None = None
    ) -> Ended | Refused:
        room = self._rooms.get(meeting_id)
        if room is None:
            return Refused("not-found")
        if room.meeting.status is MeetingStatus.COMPLETED:
            return Ended(room.meeting, room.sessions[-1] if room.sessions else None, already=True)
        if expected_version not in (None, room.meeting.version):
            return Refused("precondition-failed")
        for participant in list(room.participants.values()):
            self._end_stay(room, participant, now, events.LEFT_ENDED)
        session = self._end_session(room, now)
        room.meeting = replace(
            room.meeting, status=MeetingStatus.COMPLETED, end_time=now, version=room.meeting.version + 1
        )
        self._tell(room, events.meeting_ended(session, by, now))
        return Ended(room.meeting, session, already=False)

    def _end_session(self, room: _Room, at: datetime) -> Session | None:
        session = room.open_session()
        if session:
            session = room.sessions[-1] = replace(session, end_time=at)
        return session

    # --- stays ---

    async def join(self, request: JoinRequest) -> Joined | Refused:
        room = self._rooms.get(request.meeting_id)
        if room is None:
            return Refused("not-found")
        stay = room.stay_of(request.user_id)
        place = stay if stay and stay.is_live(request.now) else None
        role = place.role if place else request.role  # a place keeps the role that the host may have given it
        early = timedelta(seconds=request.early_s)
        entered = may_enter(room.meeting, request.user_id, role, request.now, early)
        if isinstance(entered, Refused):
            return entered
        entries = room.entries_of(request.user_id)
        decision = may_take_place(
            room.meeting.settings,
            entries,
            removed=request.user_id in room.removed,
            others=0 if place else sum(p.is_live(request.now) for p in room.participants.values()),
            require_consent=request.require_consent,
        )
        if isinstance(decision, Refused):
            return decision
        if place:
            participant = replace(place, lease_until=max(place.lease_until, request.lease_until))
        else:
            self._give_on(room, request)
            participant = self._new_stay(room, request)
        room.participants[participant.id] = participant
        return joined(participant, entries, room.meeting.settings, rejoined=place is not None)

    def _give_on(self, room: _Room, request: JoinRequest) -> None:
        """Ends the user's own lapsed stay; where places are given on, everybody's: no late renewal brings one back."""
        unended = [p for p in room.participants.values() if p.left_at is None]
        given_on = len(unended) >= room.meeting.settings.max_participants
        for stay in unended:
            if not stay.is_live(request.now) and (given_on or stay.user_id == request.user_id):
                self._end_stay(room, stay, stay.lease_until, events.LEFT_TIMEOUT)

    def _new_stay(self, room: _Room, request: JoinRequest) -> Participant:
        session = room.open_session()
        if session is None:
            session = Session(request.session_id, request.meeting_id, request.now)
            room.sessions.append(session)
            room.meeting = _started(room.meeting, request.now)
            self._tell(room, events.session_started(session, request.user_id))
        number = 1 + sum(p.user_id == request.user_id for p in room.participants.values())
        return Participant(
            id=participant_id_of(request.meeting_id, request.user_id, number),
            meeting_id=request.meeting_id,
            session_id=session.id,
            user_id=request.user_id,
            role=request.role,
            created_at=request.now,
            lease_until=request.lease_until,
        )

    def _live(self, meeting_id: MeetingId, participant_id: ParticipantId) -> tuple[_Room, Participant] | None:
        """A stay that has not ended, with its room."""
        room = self._rooms.get(meeting_id)
        participant = room.participants.get(participant_id) if room else None
        return (room, participant) if room and participant and participant.left_at is None else None

    def _end_stay(self, room: _Room, participant: Participant, at: datetime, reason: str) -> bool:
        if participant.left_at is not None:
            return False
        room.participants[participant.id] = ended = replace(participant, left_at=at)
        if events.is_told(ended, reason):
            self._tell(room, events.participant_left(ended, reason))
        return True

    async def mark_joined(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, lease_until: datetime
    ) -> Participant | None:
        found = self._live(meeting_id, participant_id)
        if found is None or not found[1].is_live(now):
            return None
        room, before = found
        after = replace(before, lease_until=lease_until, joined_at=before.joined_at or now)
        room.participants[after.id] = after
        if before.joined_at is None:
            self._tell(room, events.participant_joined(after, now))
        return after

    async def mark_left(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, reason: str
    ) -> bool:
        found = self._live(meeting_id, participant_id)
        return found is not None and self._end_stay(*found, now, reason)

    async def renew_leases(
        self, meeting_id: MeetingId, participant_ids: Collection[ParticipantId], *, now: datetime, until: datetime
    ) -> int:
        found = [self._live(meeting_id, id) for id in set(participant_ids)]
        live = [(room, p) for room, p in filter(None, found) if p.is_live(now)]
        for room, participant in live:
            room.participants[participant.id] = replace(participant, lease_until=until)
        return len(live)

    async def remove(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, by: UserId, now: datetime
    ) -> Participant | Refused:
        room = self._rooms.get(meeting_id)
        participant = room.participants.get(participant_id) if room else None
        if room is None or participant is None:
            return Refused("not-found")
        if participant.role is Role.HOST:
            return Refused("forbidden")
        room.removed.add(participant.user_id)
        stay = room.stay_of(participant.user_id) or participant
        self._end_stay(room, stay, now, events.LEFT_REMOVED)
        return room.participants[stay.id]

    async def set_role(
        self, meeting_id: MeetingId, participant_id: ParticipantId, role: Role, *, now: datetime
    ) -> Participant | Refused:
        found = self._live(meeting_id, participant_id)
        if found is None:
            return Refused("not-found")
        room, participant = found
        decision = may_change_role(participant, role, room.meeting.settings)
        if isinstance(decision, Refused):
            return decision
        changed = room.participants[participant_id] = replace(participant, role=role)
        return changed

    async def participant(self, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None:
        room = self._rooms.get(meeting_id)
        return room.participants.get(participant_id) if room else None

    async def place_of(self, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
        room = self._rooms.get(meeting_id)
        stay = room.stay_of(user_id) if room else None
        return stay if stay and stay.is_live(now) else None

    async def participants(self, meeting_id: MeetingId, *, cursor: str | None, limit: int) -> ParticipantPage:
        after = decode_cursor(cursor) if cursor is not None else None
        room = self._rooms.get(meeting_id)
        everybody = room.participants.values() if room else ()
        found = [p for p in everybody if after is None or (p.created_at, p.id) > after]
        page = sorted(found, key=lambda p: (p.created_at, p.id))[: limit + 1]
        more = len(page) > limit
        page = page[:limit]
        return ParticipantPage(page, encode_cursor(page[-1].created_at, page[-1].id) if more else None)

    async def live_count(self, meeting_id: MeetingId, now: datetime) -> int:
        room = self._rooms.get(meeting_id)
        return sum(p.is_live(now) for p in room.participants.values()) if room else 0

    async def session(self, session_id: SessionId) -> Session | None:
        sessions = (session for room in self._rooms.values() for session in room.sessions)
        return next((session for session in sessions if session.id == session_id), None)

    # --- consent ---

    async def record_consent(self, consent: NewConsent) -> ConsentLog | Refused:
        room = self._rooms.get(consent.meeting_id)
        if room is None:
            return Refused("not-found")
        everywhere = (entry for room in self._rooms.values() for entry in room.chain)
        known = next((entry for entry in everywhere if entry.id == consent.id), None)
        if known:
            return known if consent.is_of(known) else Refused("idempotency-conflict")
        if room.meeting.status is MeetingStatus.COMPLETED:
            return Refused("meeting-ended")
        stay = room.stay_of(consent.user_id)
        participant_id = stay.id if stay and stay.is_live(consent.now) else None
        entry = chained(consent.entry(participant_id), room.chain[-1].hash if room.chain else GENESIS)
        room.chain.append(entry)
        self._tell(room, events.consent_recorded(entry))
        return entry

    async def consents(self, meeting_id: MeetingId, user_id: UserId | None = None) -> Sequence[ConsentLog]:
        room = self._rooms.get(meeting_id)
        chain = room.chain if room else []
        return [entry for entry in chain if user_id is None or entry.user_id == user_id]

    async def consent(self, meeting_id: MeetingId, consent_id: ConsentId) -> ConsentLog | None:
        return next((entry for entry in await self.consents(meeting_id) if entry.id == consent_id), None)

    # --- the media provider ---

    async def provider_identity(self, meeting_id: MeetingId, user_id: UserId) -> str | None:
        room = self._rooms.get(meeting_id)
        return room.identities.get(user_id) if room else None

    async def bind_provider_identity(self, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
        return self._rooms[meeting_id].identities.setdefault(user_id, identity)

    # --- timers ---

    async def expire_leases(self, now: datetime, *, limit: int = 1_000) -> Sequence[Participant]:
        everybody = [(room, p) for room in self._rooms.values() for p in room.participants.values()]
        lapsed = [(room, p) for room, p in everybody if p.left_at is None and p.lease_until <= now]
        lapsed = sorted(lapsed, key=lambda item: item[1].lease_until)[:limit]
        for room, participant in lapsed:
            self._end_stay(room, participant, participant.lease_until, events.LEFT_TIMEOUT)
        return [room.participants[participant.id] for room, participant in lapsed]

    async def expire_rooms(self, now: datetime, *, idle_s: float, limit: int = 100) -> Sequence[MeetingId]:
        before = now - timedelta(seconds=idle_s)
        idle = [
            (room, last)
            for room in self._rooms.values()
            if (session := room.open_session()) and (last := _last_seen(room, session)) <= before
        ]
        idle = sorted(idle, key=lambda item: item[1])[:limit]
        for room, last in idle:
            self._end_session(room, last)
        return [room.meeting.id for room, _ in idle]

    async def delete_ended_before(self, before: datetime, *, limit: int = 100) -> Sequence[MeetingId]:
        ended = [
            (meeting.end_time, meeting.id)
            for meeting in (room.meeting for room in self._rooms.values())
            if meeting.end_time is not None and meeting.end_time < before
        ]
        old = [meeting_id for _, meeting_id in sorted(ended)[:limit]]
        for meeting_id in old:
            del self._rooms[meeting_id]
            for belonging in self._belongings:
                belonging.forget(meeting_id)
        return old


def _started(meeting: Meeting, at: datetime) -> Meeting:
    """The meeting once its first session has opened; later sessions change nothing."""
    if meeting.status is MeetingStatus.ACTIVE:
        return meeting
    return replace(meeting, status=MeetingStatus.ACTIVE, start_time=at, version=meeting.version + 1)


def _last_seen(room: _Room, session: Session) -> datetime:
    """When somebody last held a place in the session."""
    ends = (p.left_at or p.lease_until for p in room.participants.values() if p.session_id == session.id)
    return max((session.start_time, *ends))
