"""Port `AuditLog` in memory."""

from collections.abc import Sequence
from datetime import datetime

from conference.domain.ids import EventId, MeetingId, TenantId
from conference.domain.records import AuditAction, AuditEvent


class MemoryAuditLog:
    def __init__(self) -> None:
        self._entries: dict[EventId, AuditEvent] = {}

    async def write(self, event: AuditEvent) -> None:
        self.add(event)

    def add(self, event: AuditEvent) -> None:
        """As `write`, for a store's own change."""
        self._entries.setdefault(event.id, event)

    async def find(
        self,
        *,
        tenant_id: TenantId | None = None,
        meeting_id: MeetingId | None = None,
        action: AuditAction | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEvent]:
        found = [
            entry
            for entry in self._entries.values()
            if (tenant_id is None or entry.tenant_id == tenant_id)
            and (meeting_id is None or entry.meeting_id == meeting_id)
            and (action is None or entry.action is action)
            and (since is None or entry.at >= since)
        ]
        return sorted(found, key=lambda entry: (entry.at, entry.id), reverse=True)[:limit]
