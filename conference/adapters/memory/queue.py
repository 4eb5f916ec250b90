"""Port `EventQueue` in memory, with Azure Storage Queue's rules."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from conference.ports.clock import Ids
from conference.ports.records import QueueMessage


@dataclass(slots=True)
class _Entry:
    body: str
    inserted_at: datetime
    visible_at: datetime
    pop_receipt: str = ""
    dequeue_count: int = 0


class MemoryEventQueue:
    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._queues: dict[str, dict[str, _Entry]] = {}

    async def send(self, queue: str, body: str, *, now: datetime, delay_s: float = 0.0, message_id: str = "") -> None:
        entry = _Entry(body, now, now + timedelta(seconds=delay_s))
        self._queues.setdefault(queue, {}).setdefault(message_id or self._ids.new(), entry)

    async def receive(
        self, queue: str, *, now: datetime, limit: int = 16, visibility_s: float = 30.0
    ) -> Sequence[QueueMessage]:
        visible = [(id, entry) for id, entry in self._queues.get(queue, {}).items() if entry.visible_at <= now]
        return [self._take(id, entry, now + timedelta(seconds=visibility_s)) for id, entry in visible[:limit]]

    def _take(self, id: str, entry: _Entry, until: datetime) -> QueueMessage:
        entry.visible_at, entry.pop_receipt = until, self._ids.new()
        entry.dequeue_count += 1
        return QueueMessage(id, entry.pop_receipt, entry.body, entry.dequeue_count, entry.inserted_at)

    async def delete(self, queue: str, message: QueueMessage) -> bool:
        entries = self._queues.get(queue, {})
        entry = entries.get(message.id)
        if entry is None or entry.pop_receipt != message.pop_receipt:
            return False
        del entries[message.id]
        return True

    async def length(self, queue: str) -> int:
        return len(self._queues.get(queue, {}))
