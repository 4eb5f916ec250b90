"""Port `Outbox` in Cosmos DB.

A room's `outbox` item says what is numbered and what is published, and holds the one event in flight: the relay that
moves its `heldUntil` first has it.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Document, Raced
from conference.adapters.cosmos.documents import OUTBOX, item_id, moment
from conference.adapters.cosmos.feed import Feed
from conference.adapters.cosmos.operations import one_of, patch
from conference.adapters.cosmos.rooms import Rooms
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent

_AT_ONCE = 16
_REMEMBERED = 10_000  # events whose room need not be looked up when they are published


class CosmosOutbox:
    """`feed` numbers events before they are delivered."""

    def __init__(self, rooms: Rooms, feed: Feed) -> None:
        self._rooms = rooms
        self._feed = feed
        self._claimed: dict[EventId, MeetingId] = {}
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def claim(self, now: datetime, *, limit: int = 100, hold_s: float = 30.0) -> Sequence[DomainEvent]:
        await self._feed.catch_up()
        text = "SELECT * FROM c WHERE c.kind = 'outbox' AND c.waiting = true AND c.heldUntil <= @now ORDER BY c.nextAt"
        waiting = await self._rooms.items.query(text, {"now": moment(now)}, limit=limit)
        held_until = moment(now + timedelta(seconds=hold_s))
        claimed = await asyncio.gather(*(self._claim(outbox, held_until) for outbox in waiting))
        events = [event for event in claimed if event is not None]
        if len(self._claimed) > _REMEMBERED:
            self._claimed.clear()
        self._claimed |= {event.id: event.meeting_id for event in events}
        return sorted(events, key=lambda event: event.at)

    async def _claim(self, outbox: Document, held_until: str) -> DomainEvent | None:
        """The room's next event; None where another relay was first."""
        meeting_id, next_number = outbox["meetingId"], int(outbox["published"]) + 1
        async with self._gate:
            found = await self._numbered(meeting_id, next_number)
            if found is None:
                return None
            try:
                await self._rooms.items.batch(
                    meeting_id, [patch(OUTBOX, set={"heldUntil": held_until}, etag=outbox["_etag"])]
                )
            except Raced:
                return None
        return documents.event(found)

    async def _numbered(self, meeting_id: MeetingId, number: int) -> Document | None:
        text = "SELECT * FROM c WHERE c.kind = 'event' AND c.seq = @number"
        found = await self._rooms.items.query(text, {"number": number}, key=meeting_id)
        return found[0] if found else None

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None:
        unknown = [item_id("event", id) for id in event_ids if id not in self._claimed]
        if unknown:
            named, given = one_of(unknown)
            text = f"SELECT c.id, c.meetingId FROM c WHERE {named}"  # noqa: S608
            for row in await self._rooms.items.query(text, given):
                self._claimed[EventId(documents.own_id(row))] = row["meetingId"]
        rooms = [(self._claimed[id], id) for id in event_ids if id in self._claimed]
        await asyncio.gather(*(self._publish(meeting_id, id, now) for meeting_id, id in rooms))
        for id in event_ids:
            self._claimed.pop(id, None)

    async def _publish(self, meeting_id: MeetingId, event_id: EventId, now: datetime) -> None:
        async def attempt() -> None:
            text = "SELECT * FROM c WHERE c.id IN (@outbox, @event)"
            given = {"outbox": OUTBOX, "event": item_id("event", event_id)}
            found = await self._rooms.items.query(text, given, key=meeting_id)
            by_id = {document["id"]: document for document in found}
            outbox, event = by_id.get(OUTBOX), by_id.get(given["event"])
            if outbox is None or event is None or event.get("seq") != outbox["published"] + 1:
                return  # published before, or gone with its meeting
            more = outbox["last"] > event["seq"]
            values = {"published": event["seq"], "heldUntil": "", "waiting": more, "nextAt": moment(now)}
            await self._rooms.items.batch(meeting_id, [patch(OUTBOX, set=values, etag=outbox["_etag"])])

        async with self._gate:
            await self._rooms.database.settle(attempt)

    async def events(self, meeting_id: MeetingId, *, since: int = 1, limit: int | None = None) -> Sequence[DomainEvent]:
        await self._feed.catch_up()
        text = "SELECT * FROM c WHERE c.kind = 'event' AND c.seq >= @since ORDER BY c.seq"
        found = await self._rooms.items.query(text, {"since": since}, key=meeting_id, limit=limit)
        return [documents.event(document) for document in found]
