"""What a change of a meeting tells: the domain event for the outbox and, for some, the audit entry.

Every `MeetingStore` adapter writes these, so all of them tell the same story. A `Change` has no number yet: the store
gives it the meeting's next `seq` in the transaction of the change itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from conference.domain.consent import ConsentLog
from conference.domain.ids import EventId, MeetingId, TenantId, UserId
from conference.domain.meetings import Meeting, Participant, Session
from conference.domain.records import AuditAction, AuditEvent, DomainEvent, EventType

# Reasons of ParticipantLeft that the stores themselves give; signaling adds its own ("left", "disconnected", ...).
LEFT_TIMEOUT: Final = "timeout"
LEFT_REMOVED: Final = "removed"
LEFT_ENDED: Final = "meeting-ended"

_AUDITED: Final = {
    EventType.ROOM_CREATED: AuditAction.ROOM_CREATED,
    EventType.PARTICIPANT_JOINED: AuditAction.PARTICIPANT_JOINED,
    EventType.PARTICIPANT_LEFT: AuditAction.PARTICIPANT_LEFT,
    EventType.CONSENT_RECORDED: AuditAction.CONSENT,
}


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened. `user_id` did it, or is concerned; payload values are JSON, opaque ids only."""

    type: EventType
    at: datetime
    user_id: UserId | None
    payload: Mapping[str, object]

    def numbered(self, event_id: EventId, meeting_id: MeetingId, seq: int) -> DomainEvent:
        return DomainEvent(event_id, meeting_id, seq, self.type, self.at, self.payload)

    def audited(self, entry_id: EventId, meeting_id: MeetingId, tenant_id: TenantId) -> AuditEvent | None:
        """The audit entry, or None for a change that is not audited."""
        action = _AUDITED.get(self.type)
        if action is None:
            return None
        detail = {key: str(value) for key, value in self.payload.items() if value is not None and key != "userId"}
        return AuditEvent(entry_id, action, self.at, "ok", tenant_id, self.user_id, meeting_id, detail)


def room_created(meeting: Meeting) -> Change:
    payload = {"hostId": meeting.host_id, "region": meeting.region}
    return Change(EventType.ROOM_CREATED, meeting.created_at, meeting.host_id, payload)


def session_started(session: Session, by: UserId) -> Change:
    return Change(EventType.SESSION_STARTED, session.start_time, by, {"sessionId": session.id})


def participant_joined(participant: Participant, at: datetime) -> Change:
    return Change(EventType.PARTICIPANT_JOINED, at, participant.user_id, _stay(participant))


def is_told(participant: Participant, reason: str) -> bool:
    """Whether the end of this stay is a ParticipantLeft: a place that was never taken up ends without a word, unless
    by removal, which also revokes the token that its holder may still use."""
    return participant.joined_at is not None or reason == LEFT_REMOVED


def participant_left(participant: Participant, reason: str) -> Change:
    """Of a stay that has ended."""
    at = participant.left_at or participant.lease_until
    return Change(EventType.PARTICIPANT_LEFT, at, participant.user_id, {**_stay(participant), "reason": reason})


def consent_recorded(entry: ConsentLog) -> Change:
    payload = {
        "consentId": entry.id,
        "userId": entry.user_id,
        "participantId": entry.participant_id,
        "consentType": entry.consent_type.value,
        "status": entry.status.value,
        "textVersion": entry.text_version,
    }
    return Change(EventType.CONSENT_RECORDED, entry.timestamp, entry.user_id, payload)


def meeting_ended(session: Session | None, by: UserId, at: datetime) -> Change:
    payload = {"sessionId": session.id if session else None, "by": by}
    return Change(EventType.MEETING_ENDED, at, by, payload)


def _stay(participant: Participant) -> dict[str, object]:
    return {
        "participantId": participant.id,
        "sessionId": participant.session_id,
        "userId": participant.user_id,
        "role": participant.role.value,
    }
