"""The outbox relay: takes domain events out of the outbox and puts them into the queue `events`.

At least once and in order per room: the outbox gives one event a room at a time, the next one only once this is
published. An event that was sent and not marked (a crash in between) is sent again under the same message id. Any
number of relays may run; a run ends when nothing is left or after `most` events.
"""

from typing import Final

from conference.ports.clock import Clock
from conference.ports.records import EventQueue, Outbox
from conference.protocol.events import encode_event

EVENTS_QUEUE: Final = "events"


class OutboxRelay:
    def __init__(self, outbox: Outbox, queue: EventQueue, clock: Clock, *, queue_name: str = EVENTS_QUEUE) -> None:
        self._outbox = outbox
        self._queue = queue
        self._clock = clock
        self._queue_name = queue_name

    async def run_once(self, *, most: int = 1_000, batch: int = 100) -> int:
        """Delivers what is there and gives the number delivered. Raises Unavailable; what was claimed is free again
        when its hold ends."""
        delivered = 0
        while delivered < most:
            claimed = await self._outbox.claim(self._clock.now(), limit=min(batch, most - delivered))
            if not claimed:
                break
            for event in claimed:
                now = self._clock.now()
                await self._queue.send(self._queue_name, encode_event(event), now=now, message_id=event.id)
            await self._outbox.published([event.id for event in claimed], self._clock.now())
            delivered += len(claimed)
        return delivered
