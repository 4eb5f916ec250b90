"""MeetingStore: everything of one meeting that must change together.

Adapters: `memory`, `sql` (SQLite, PostgreSQL); one contract suite runs against all. Each writing method is one
transaction that also writes the domain events it causes into the outbox, and its audit events. Refusals are returned,
`Unavailable` is raised where the database does not answer.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from conference.domain.consent import (
    ConsentLog,
    ConsentStatus,
    ConsentType,
    Grant,
    decided_version,
    granted,
    required_grants,
)
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, EventId, MeetingId, ParticipantId, Redacted, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Participant, Role, Session


@dataclass(frozen=True, slots=True)
class Page:
    """Items of one page, and the cursor of the next (None at the end)."""

    items: Sequence[Meeting]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, repr=False)
class NewConsent(Redacted):
    """A decision to append. `participant_id` is filled by the store where the user is live in the meeting."""

    id: ConsentId
    meeting_id: MeetingId
    user_id: UserId
    consent_type: ConsentType
    status: ConsentStatus
    text_version: str
    now: datetime

    def entry(self, participant_id: ParticipantId | None) -> ConsentLog:
        """The log entry, not yet linked into the chain."""
        return ConsentLog(
            self.id,
            self.meeting_id,
            self.user_id,
            participant_id,
            self.consent_type,
            self.status,
            self.text_version,
            self.now.astimezone(UTC),
        )

    def is_of(self, stored: ConsentLog) -> bool:
        """True where `stored` records this very decision: then this is a retry of it."""
        ours = (self.meeting_id, self.user_id, self.consent_type, self.status, self.text_version)
        return ours == (
            stored.meeting_id,
            stored.user_id,
            stored.consent_type,
            stored.status,
            stored.text_version,
        )


@dataclass(frozen=True, slots=True, repr=False)
class JoinRequest(Redacted):
    """A request for a place. `session_id` is used where the meeting has no open session yet.

    `require_consent` False reserves the host's place at POST /rooms before any decision; `early_s` is the join window.
    """

    meeting_id: MeetingId
    user_id: UserId
    role: Role
    now: datetime
    lease_until: datetime
    session_id: SessionId
    require_consent: bool = True
    early_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Joined:
    """A place. `grants` are those accepted; `declined` those asked and not granted."""

    participant: Participant
    grants: frozenset[Grant]
    declined: frozenset[Grant]
    consent_version: str | None
    rejoined: bool  # the user already had this place


def joined(
    participant: Participant, entries: Sequence[ConsentLog], settings: MeetingSettings, *, rejoined: bool
) -> Joined:
    """The answer for a place that was taken: `entries` are the user's decisions in chain order."""
    required = frozenset(required_grants(settings))
    grants = granted(entries, settings)
    version = decided_version(entries) if required else None
    return Joined(participant, grants, required - grants, version, rejoined)


@dataclass(frozen=True, slots=True)
class Ended:
    """`already` is True where the meeting had ended before; then nothing was written."""

    meeting: Meeting
    session: Session | None
    already: bool


class MeetingStore(Protocol):
    """The aggregate. Ids of events are derived by the store from its own inputs or made fresh by its adapter."""

    async def create(self, meeting: Meeting, *, fingerprint: str = "") -> Meeting | Refused:
        """Stores the meeting, RoomCreated and its audit event. Found under the same id: the stored one when the
        fingerprint of the request is the same (a retry), else Refused("idempotency-conflict")."""
        ...

    async def get(self, meeting_id: MeetingId) -> Meeting | None: ...

    async def of_host(
        self, host_id: UserId, *, start: datetime | None, end: datetime | None, cursor: str | None, limit: int
    ) -> Page:
        """A host's meetings by start time (startTime, else scheduledTime, else createdAt), newest first.

        Raises ProtocolError("invalid-cursor") for a cursor that this method did not give."""
        ...

    async def change_settings(
        self, meeting_id: MeetingId, settings: MeetingSettings, *, expected_version: int, now: datetime
    ) -> Meeting | Refused:
        """Refused: not-found, meeting-ended, precondition-failed."""
        ...

    async def end(
        self, meeting_id: MeetingId, *, by: UserId, now: datetime, expected_version: int | None = None
    ) -> Ended | Refused:
        """Completes the meeting, closes its session, sets left_at of its participants, emits ParticipantLeft for
        each that had joined and MeetingEnded once. Idempotent. Refused: not-found, precondition-failed (another version
        than expected, and not ended yet)."""
        ...

    async def join(self, request: JoinRequest) -> Joined | Refused:
        """Decides status, window, role, consent and capacity and takes a place, in one transaction.

        The user's live place is given again with a longer lease and the role it has. Where a full room has lapsed
        stays, they end (reason "timeout"), so that none of them is renewed beside the newcomer. The first join opens
        a Session, makes the meeting ACTIVE and emits SessionStarted. Refused: not-found, meeting-ended, not-started,
        role-not-allowed, removed, consent-required (extra: consentRequired), room-full."""
        ...

    async def mark_joined(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, lease_until: datetime
    ) -> Participant | None:
        """JoinRoom happened: joined_at is set once, ParticipantJoined emitted once and audited, the lease renewed.
        None where the participant is unknown, has left, or let the lease run out (the place may be another's)."""
        ...

    async def mark_left(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, reason: str
    ) -> bool:
        """Sets left_at and, for one who had joined, emits ParticipantLeft (audited), once. False where that was so
        already."""
        ...

    async def renew_leases(
        self, meeting_id: MeetingId, participant_ids: Collection[ParticipantId], *, now: datetime, until: datetime
    ) -> int:
        """One statement for all of a room's connected participants. A lease that ran out is not renewed: the place
        may be another's. Gives the number renewed."""
        ...

    async def remove(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, by: UserId, now: datetime
    ) -> Participant | Refused:
        """Ends the user's stay, emits ParticipantLeft (reason "removed", also for a place not yet taken up, whose token
        it revokes) and keeps them from joining this meeting again. Gives the stay that ended, or the one
        named where none was open. Refused: not-found, forbidden (the host)."""
        ...

    async def set_role(
        self, meeting_id: MeetingId, participant_id: ParticipantId, role: Role, *, now: datetime
    ) -> Participant | Refused:
        """Refused: not-found (or left), role-not-allowed (the host's role never changes; allowedRoles holds)."""
        ...

    async def participant(self, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None: ...

    async def place_of(self, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
        """The user's live place in the meeting."""
        ...

    async def participants(self, meeting_id: MeetingId, *, cursor: str | None, limit: int) -> "ParticipantPage":
        """Everybody who ever had a place, in order of creation. Raises ProtocolError("invalid-cursor")."""
        ...

    async def live_count(self, meeting_id: MeetingId, now: datetime) -> int: ...

    async def session(self, session_id: SessionId) -> Session | None: ...

    async def record_consent(self, consent: NewConsent) -> ConsentLog | Refused:
        """Appends to the meeting's chain, emits ConsentRecorded, audits. The same id again gives the stored entry.
        Refused: not-found, meeting-ended, idempotency-conflict (the id is of another decision)."""
        ...

    async def consents(self, meeting_id: MeetingId, user_id: UserId | None = None) -> Sequence[ConsentLog]:
        """The chain in order; of one user where named."""
        ...

    async def consent(self, meeting_id: MeetingId, consent_id: ConsentId) -> ConsentLog | None: ...

    async def provider_identity(self, meeting_id: MeetingId, user_id: UserId) -> str | None:
        """By what name the media provider of the meeting knows the user there (ACS, LiveKit)."""
        ...

    async def bind_provider_identity(self, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
        """Keeps that name with the meeting unless there is one; gives the one that counts. The meeting exists."""
        ...

    async def expire_leases(self, now: datetime, *, limit: int = 1_000) -> Sequence[Participant]:
        """Timer: ends stays whose lease is over (reason "timeout", at the lease's end), the oldest first. Gives those
        ended."""
        ...

    async def expire_rooms(self, now: datetime, *, idle_s: float, limit: int = 100) -> Sequence[MeetingId]:
        """Timer: ends open sessions that have had no live participant for `idle_s`, at the moment the last place was
        free; the meeting stays ACTIVE and the next join opens a new session."""
        ...

    async def delete_ended_before(self, before: datetime, *, limit: int = 100) -> Sequence[MeetingId]:
        """Timer: retention. Deletes meetings COMPLETED before then with everything of theirs (audit stays)."""
        ...


@dataclass(frozen=True, slots=True)
class ParticipantPage:
    items: Sequence[Participant]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class EventRef:
    """Names one outbox row."""

    meeting_id: MeetingId
    event_id: EventId
