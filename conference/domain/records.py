"""What a meeting leaves behind: recordings, transcript, metadata, audit and domain events."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from conference.domain.ids import EventId, MeetingId, ParticipantId, RecordingId, Redacted, SessionId, TenantId, UserId


class RecordingState(StrEnum):
    RECORDING = "recording"
    PROCESSING = "processing"
    READY = "ready"
    FAILED = "failed"


class StorageTier(StrEnum):
    HOT = "hot"
    COOL = "cool"
    COLD = "cold"
    ARCHIVE = "archive"


@dataclass(frozen=True, slots=True, repr=False)
class Recording(Redacted):
    """A composite (`participant_id` None) or one participant's tracks. `blob_url` is the name of its media file, not an
    address: links to it are made when they are asked for, and end soon."""

    id: RecordingId
    meeting_id: MeetingId
    session_id: SessionId
    blob_url: str
    duration_seconds: float
    storage_tier: StorageTier
    state: RecordingState
    created_at: datetime
    participant_id: ParticipantId | None = None
    manifest: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, repr=False)
class Segment(Redacted):
    """A piece of the transcript; times in seconds of the recording clock. A final one never changes."""

    id: str
    participant_id: ParticipantId
    t0: float
    t1: float
    lang: str
    text: str
    final: bool
    rev: int = 0


@dataclass(frozen=True, slots=True)
class ActionItem:
    text: str = field(repr=False)
    owner: str | None = field(repr=False)
    segment_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class MeetingMetadata(Redacted):
    """What was made of the transcript. Each item cites segments that exist."""

    meeting_id: MeetingId
    summary: str
    action_items: tuple[ActionItem, ...]
    decisions: tuple[ActionItem, ...]
    sentiment: str
    created_at: datetime


class AuditAction(StrEnum):
    LOGIN = "login"  # a caller's token was seen for the first time, or refused
    ROOM_CREATED = "room-created"
    RECORDING_ACCESS = "recording-access"
    PARTICIPANT_JOINED = "participant-joined"
    PARTICIPANT_LEFT = "participant-left"
    CONSENT = "consent"
    TOKEN_REFUSED = "token-refused"  # noqa: S105
    WEBHOOK_CHANGED = "webhook-changed"  # an admin made, changed, paused, resumed, replayed or deleted one


@dataclass(frozen=True, slots=True, repr=False)
class AuditEvent(Redacted):
    """Who did what, where, when and how it ended. Opaque ids only; `outcome` is "ok" or a reason slug."""

    id: EventId
    action: AuditAction
    at: datetime
    outcome: str
    tenant_id: TenantId | None = None
    user_id: UserId | None = None
    meeting_id: MeetingId | None = None
    detail: Mapping[str, str] = field(default_factory=dict)


class EventType(StrEnum):
    """Domain events (contracts.md section 6)."""

    ROOM_CREATED = "RoomCreated"
    SESSION_STARTED = "SessionStarted"
    PARTICIPANT_JOINED = "ParticipantJoined"
    PARTICIPANT_LEFT = "ParticipantLeft"
    CONSENT_RECORDED = "ConsentRecorded"
    RECORDING_STARTED = "RecordingStarted"
    RECORDING_STOPPED = "RecordingStopped"
    MEETING_ENDED = "MeetingEnded"
    RECORDING_READY = "RecordingReady"
    RECORDING_FAILED = "RecordingFailed"
    TRANSCRIPT_READY = "TranscriptReady"
    SUMMARY_READY = "SummaryReady"


@dataclass(frozen=True, slots=True, repr=False)
class DomainEvent(Redacted):
    """What happened in a room; `seq` numbers the room's events from 1. Payload values are JSON, opaque ids only."""

    id: EventId
    meeting_id: MeetingId
    seq: int
    type: EventType
    at: datetime
    payload: Mapping[str, object] = field(default_factory=dict)
