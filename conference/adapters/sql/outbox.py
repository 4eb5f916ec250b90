"""Port `Outbox` in SQL: rows written by `telling`, claimed here for delivery."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa

from conference.adapters.sql import rows
from conference.adapters.sql.engine import Database
from conference.adapters.sql.tables import outbox_events
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent


class SqlOutbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, now: datetime, *, limit: int = 100, hold_s: float = 30.0) -> Sequence[DomainEvent]:
        held_until = now + timedelta(seconds=hold_s)

        def work(connection: sa.Connection) -> list[DomainEvent]:
            found = connection.execute(_free(now, limit).with_for_update(skip_locked=True, of=outbox_events))
            claimed = [rows.domain_event(row) for row in found]
            named = outbox_events.c.id.in_([event.id for event in claimed])
            connection.execute(sa.update(outbox_events).where(named).values(claimed_until=held_until))
            return claimed

        # A look without a lock first: most often there is nothing to do, and a writer's place is precious on SQLite.
        if not await self._database.read(lambda c: c.execute(_free(now, 1)).first()):
            return []
        return await self._database.write(work)

    async def published(self, event_ids: Sequence[EventId], now: datetime) -> None:
        named = outbox_events.c.id.in_(event_ids)
        statement = sa.update(outbox_events).where(named, outbox_events.c.published_at.is_(None))
        if event_ids:
            await self._database.write(lambda c: c.execute(statement.values(published_at=now)))

    async def events(self, meeting_id: MeetingId, *, since: int = 1, limit: int | None = None) -> Sequence[DomainEvent]:
        wanted = (outbox_events.c.meeting_id == meeting_id, outbox_events.c.seq >= since)
        in_order = sa.select(outbox_events).where(*wanted).order_by(outbox_events.c.seq).limit(limit)
        return await self._database.read(lambda c: [rows.domain_event(row) for row in c.execute(in_order)])


_first: Final = (
    sa.select(outbox_events.c.meeting_id, sa.func.min(outbox_events.c.seq).label("seq"))
    .where(outbox_events.c.published_at.is_(None))
    .group_by(outbox_events.c.meeting_id)
    .subquery("first")
)


def _free(now: datetime, limit: int) -> sa.Select[tuple[object, ...]]:
    """The first unpublished event of each room, unless it is in flight. Never `id > last`: numbers of different rooms
    do not commit in the order they were given. The first are found in one walk of the index of what is pending."""
    is_first = (outbox_events.c.meeting_id == _first.c.meeting_id) & (outbox_events.c.seq == _first.c.seq)
    pending = outbox_events.c.published_at.is_(None)
    free = outbox_events.c.claimed_until.is_(None) | (outbox_events.c.claimed_until <= now)
    found = sa.select(outbox_events).join(_first, is_first).where(pending, free)
    return found.order_by(outbox_events.c.at).limit(limit)
