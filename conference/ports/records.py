"""The smaller stores: users, recordings, transcripts and metadata, audit, outbox, queue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from conference.domain.ids import EventId, MeetingId, TenantId, UserId
from conference.domain.meetings import User
from conference.domain.records import AuditAction, AuditEvent, DomainEvent, MeetingMetadata, Recording, Segment


class UserStore(Protocol):
    async def upsert(self, user: User) -> User:
        """Stores the user, or updates e-mail and name; `created_at` stays the first one."""
        ...

    async def get(self, user_id: UserId) -> User | None: ...

    async def names(self, user_ids: Sequence[UserId]) -> Mapping[UserId, str]:
        """Display names of those that exist."""
        ...


class RecordingStore(Protocol):
    async def put(self, recording: Recording) -> None: ...

    async def of_meeting(self, meeting_id: MeetingId) -> Sequence[Recording]: ...


class TranscriptStore(Protocol):
    async def put_segments(self, meeting_id: MeetingId, segments: Sequence[Segment]) -> None:
        """A newer `rev` replaces an older one; a final segment never changes."""
        ...

    async def segments(self, meeting_id: MeetingId) -> Sequence[Segment]:
        """By t0."""
        ...

    async def put_metadata(self, metadata: MeetingMetadata) -> None: ...

    async def metadata(self, meeting_id: MeetingId) -> MeetingMetadata | None: ...


class AuditLog(Protocol):
    async def write(self, event: AuditEvent) -> None:
        """The same id twice is one entry."""
        ...

    async def find(
        self,
        *,
        tenant_id: TenantId | None = None,
        meeting_id: MeetingId | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEvent]:
        """Newest first."""
        ...


class Outbox(Protocol):
    """Domain events written with what they tell, delivered at least once and in order per room."""

    async def claim(self, now: datetime, *, limit: int = 100, hold_s: float = 30.0) -> Sequence[DomainEvent]:
        """Unpublished events, at most one in flight per room (its lowest seq), held for `hold_s`."""
        ...

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None: ...

    async def events(self, meeting_id: MeetingId, *, since: int = 1, limit: int | None = None) -> Sequence[DomainEvent]:
        """The events of a meeting by seq, from `since` on (webhooks, replay)."""
        ...


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A received message. `pop_receipt` proves that it is still ours; `dequeue_count` starts at 1."""

    id: str
    pop_receipt: str
    body: str
    dequeue_count: int
    inserted_at: datetime


class EventQueue(Protocol):
    """A queue with Azure Storage Queue's rules: visibility time-out, pop receipts, at least once."""

    async def send(self, queue: str, body: str, *, now: datetime, delay_s: float = 0.0, message_id: str = "") -> None:
        """The same message_id again is one message."""
        ...

    async def receive(
        self, queue: str, *, now: datetime, limit: int = 16, visibility_s: float = 30.0
    ) -> Sequence[QueueMessage]: ...

    async def delete(self, queue: str, message: QueueMessage) -> bool:
        """False where the receipt is stale."""
        ...

    async def length(self, queue: str) -> int: ...
