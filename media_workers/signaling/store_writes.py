"""Writes to the meeting store that a call must not wait for: done now, or again and again until the store answers."""

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, ParticipantId
from media_workers.signaling.services import Services

_QUEUED: Final = 10_000
_log = logging.getLogger(__name__)
Write = Callable[[], Awaitable[object]]


class StoreWrites:
    def __init__(self, services: Services) -> None:
        self._services = services
        self._waiting: deque[Write] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    async def left(self, room_id: MeetingId, participant_id: ParticipantId, reason: str) -> None:
        """The stay has ended, now."""
        now = self._services.clock.now()
        meetings = self._services.meetings
        await self.do(lambda: meetings.mark_left(room_id, participant_id, now=now, reason=reason))

    async def do(self, write: Write) -> None:
        """Once now; later where the store is away. Order is kept among those that wait."""
        if self._waiting:
            self.later(write)
            return
        try:
            await write()
        except Unavailable:
            self.later(write)

    def later(self, write: Write) -> None:
        self._services.metrics.store_retries.inc()
        if len(self._waiting) >= _QUEUED:
            self._waiting.popleft()
            self._services.metrics.dropped.labels("store-writes").inc()
        self._waiting.append(write)

    async def retry(self) -> None:
        """Everything that waits, until the store refuses again."""
        while self._waiting:
            write = self._waiting[0]
            try:
                await write()
            except Unavailable:
                _log.warning("the store does not answer", extra={"waiting": len(self._waiting)})
                return
            if self._waiting and self._waiting[0] is write:
                self._waiting.popleft()
