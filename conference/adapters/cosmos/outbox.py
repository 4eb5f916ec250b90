"""Port `Outbox` in Cosmos DB.

A room's `outbox` item says what is numbered and what is published, and holds the one event in flight: the relay that
moves its `heldUntil` first has it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import Document, Operation, Raced
from conference.adapters.cosmos.documents import OUTBOX, item_id, moment
from conference.adapters.cosmos.feed import Feed
from conference.adapters.cosmos.gate import Gate
from conference.adapters.cosmos.operations import one_of, patch
from conference.adapters.cosmos.rooms import Rooms
from conference.domain.errors import Unavailable
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent

_REMEMBERED = 10_000  # claims whose room need not be looked up when they are published
_BEFORE_THE_FEED = 8  # claims in a row that gave events, after which the change feed is read again


@dataclass(frozen=True, slots=True)
class _Claim:
    """A room's event in flight, and its `outbox` item as the claim left it."""

    meeting_id: MeetingId
    number: int
    last: int
    etag: str


class CosmosOutbox:
    """`feed` numbers events before they are delivered."""

    def __init__(self, rooms: Rooms, feed: Feed) -> None:
        self._rooms = rooms
        self._feed = feed
        self._claimed: dict[EventId, _Claim] = {}
        self._gave_events = 0
        self._gate = Gate()

    async def claim(self, now: datetime, *, limit: int = 100, hold_s: float = 30.0) -> Sequence[DomainEvent]:
        waiting = await self._waiting(now, limit)
        held_until = moment(now + timedelta(seconds=hold_s))
        if len(self._claimed) > _REMEMBERED:
            self._claimed.clear()
        # One room that fails does not hold up the events of the others.
        events = await self._gate.what_succeeds(partial(self._claim, outbox, held_until) for outbox in waiting)
        self._gave_events = self._gave_events + 1 if events else 0
        return sorted(events, key=lambda event: event.at)

    async def _waiting(self, now: datetime, limit: int) -> list[Document]:
        """The rooms with an event to deliver. While a backlog is worked off, the feed is read now and then only."""
        text = "SELECT * FROM c WHERE c.kind = 'outbox' AND c.waiting = true AND c.heldUntil <= @now ORDER BY c.nextAt"
        if self._gave_events % _BEFORE_THE_FEED:
            found = await self._rooms.items.query(text, {"now": moment(now)}, limit=limit)
            if found:
                return found
        await self._feed.catch_up()
        return await self._rooms.items.query(text, {"now": moment(now)}, limit=limit)

    async def _claim(self, outbox: Document, held_until: str) -> DomainEvent | None:
        """The room's next event; None where another relay was first."""
        meeting_id, next_number = outbox["meetingId"], int(outbox["published"]) + 1
        found = await self._numbered(meeting_id, next_number)
        if found is None:
            return None
        held = patch(OUTBOX, set={"heldUntil": held_until}, etag=outbox["_etag"])
        try:
            (etag,) = await self._rooms.items.batch(meeting_id, [held])
        except Raced:
            return None
        event = documents.event(found)
        self._claimed[event.id] = _Claim(meeting_id, next_number, int(outbox["last"]), etag)
        return event

    async def _numbered(self, meeting_id: MeetingId, number: int) -> Document | None:
        text = "SELECT * FROM c WHERE c.kind = 'event' AND c.seq = @number"
        found = await self._rooms.items.query(text, {"number": number}, key=meeting_id)
        return found[0] if found else None

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None:
        claims = {id: claim for id in event_ids if (claim := self._claimed.pop(id, None)) is not None}
        rooms = {id: claim.meeting_id for id, claim in claims.items()}
        unknown = [item_id("event", id) for id in event_ids if id not in claims]
        if unknown:
            named, given = one_of(unknown)
            text = f"SELECT c.id, c.meetingId FROM c WHERE {named}"  # noqa: S608
            for row in await self._rooms.items.query(text, given):
                rooms[EventId(documents.own_id(row))] = row["meetingId"]
        await self._gate.all(partial(self._finish, room, id, claims.get(id), now) for id, room in rooms.items())

    async def _finish(self, meeting_id: MeetingId, event_id: EventId, claim: _Claim | None, now: datetime) -> None:
        """By the claim, where the room's item is as that left it; else by what is stored now."""
        if claim is not None:
            try:
                await self._rooms.items.batch(meeting_id, [_published(claim.number, claim.last, claim.etag, now)])
            except (Raced, Unavailable):
                pass
            else:
                return
        await self._publish(meeting_id, event_id, now)

    async def _publish(self, meeting_id: MeetingId, event_id: EventId, now: datetime) -> None:
        async def attempt() -> None:
            text = "SELECT * FROM c WHERE c.id IN (@outbox, @event)"
            given = {"outbox": OUTBOX, "event": item_id("event", event_id)}
            found = await self._rooms.items.query(text, given, key=meeting_id)
            by_id = {document["id"]: document for document in found}
            outbox, event = by_id.get(OUTBOX), by_id.get(given["event"])
            if outbox is None or event is None or event.get("seq") != outbox["published"] + 1:
                return  # published before, or gone with its meeting
            done = _published(event["seq"], outbox["last"], outbox["_etag"], now)
            await self._rooms.items.batch(meeting_id, [done])

        await self._rooms.database.settle(attempt)

    async def events(self, meeting_id: MeetingId, *, since: int = 1, limit: int | None = None) -> Sequence[DomainEvent]:
        await self._feed.catch_up()
        text = "SELECT * FROM c WHERE c.kind = 'event' AND c.seq >= @since ORDER BY c.seq"
        found = await self._rooms.items.query(text, {"since": since}, key=meeting_id, limit=limit)
        return [documents.event(document) for document in found]


def _published(number: int, last: int, etag: str, now: datetime) -> Operation:
    values = {"published": number, "heldUntil": "", "waiting": last > number, "nextAt": moment(now)}
    return patch(OUTBOX, set=values, etag=etag)
