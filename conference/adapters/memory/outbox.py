"""Port `Outbox` in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent


@dataclass(slots=True)
class _Entry:
    event: DomainEvent
    held_until: datetime | None = None
    published: bool = False


class MemoryOutbox:
    def __init__(self) -> None:
        self._rooms: dict[MeetingId, list[_Entry]] = {}  # by seq: events are added in order

    def add(self, event: DomainEvent) -> None:
        self._rooms.setdefault(event.meeting_id, []).append(_Entry(event))

    def forget(self, meeting_id: MeetingId) -> None:
        """The meeting was deleted."""
        self._rooms.pop(meeting_id, None)

    async def claim(self, now: datetime, *, limit: int = 100, hold_s: float = 30.0) -> Sequence[DomainEvent]:
        firsts = (next((e for e in entries if not e.published), None) for entries in self._rooms.values())
        free = [e for e in firsts if e and (e.held_until is None or e.held_until <= now)]
        claimed = sorted(free, key=lambda entry: entry.event.at)[:limit]
        for entry in claimed:
            entry.held_until = now + timedelta(seconds=hold_s)
        return [entry.event for entry in claimed]

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None:
        wanted = set(event_ids)
        for entries in self._rooms.values():
            for entry in entries:
                entry.published = entry.published or entry.event.id in wanted

    async def events(self, meeting_id: MeetingId, *, since: int = 1, limit: int | None = None) -> Sequence[DomainEvent]:
        return [entry.event for entry in self._rooms.get(meeting_id, ()) if entry.event.seq >= since][:limit]

    def knows(self, meeting_id: MeetingId) -> bool:
        """Whether there is such a meeting: each begins with an event."""
        return meeting_id in self._rooms
