"""Port `EventQueue` in SQL: Azure Storage Queue's rules over one table. Poison queues are the host's business."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa

from conference.adapters.sql.engine import Database
from conference.adapters.sql.statements import insert_new
from conference.adapters.sql.tables import queue_messages
from conference.ports.clock import Ids
from conference.ports.records import QueueMessage


class SqlEventQueue:
    """`ids` name pop receipts, and messages that come without an id."""

    def __init__(self, database: Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids

    async def send(self, queue: str, body: str, *, now: datetime, delay_s: float = 0.0, message_id: str = "") -> None:
        row = {
            "queue": queue,
            "id": message_id or self._ids.new(),
            "body": body,
            "inserted_at": now,
            "visible_at": now + timedelta(seconds=delay_s),
            "dequeue_count": 0,
            "pop_receipt": "",
        }
        await self._database.write(lambda c: insert_new(c, queue_messages, **row))

    async def receive(
        self, queue: str, *, now: datetime, limit: int = 16, visibility_s: float = 30.0
    ) -> Sequence[QueueMessage]:
        visible = (
            sa.select(queue_messages)
            .where(queue_messages.c.queue == queue, queue_messages.c.visible_at <= now)
            .order_by(queue_messages.c.number)
        )
        until = now + timedelta(seconds=visibility_s)

        def work(connection: sa.Connection) -> list[QueueMessage]:
            found = connection.execute(visible.limit(limit).with_for_update(skip_locked=True)).all()
            return self._take(connection, found, until)

        # A look without a lock first: an idle queue is polled often, and a writer's place is precious on SQLite.
        if not await self._database.read(lambda c: c.execute(visible.limit(1)).first()):
            return []
        return await self._database.write(work)

    def _take(
        self, connection: sa.Connection, found: Sequence[sa.Row[tuple[object, ...]]], until: datetime
    ) -> list[QueueMessage]:
        receipt = self._ids.new()  # one for the batch: it is compared together with the message's id
        taken = queue_messages.c.number.in_([row.number for row in found])
        count = queue_messages.c.dequeue_count + 1
        changed = {"visible_at": until, "pop_receipt": receipt, "dequeue_count": count}
        connection.execute(sa.update(queue_messages).where(taken).values(**changed))
        return [QueueMessage(row.id, receipt, row.body, row.dequeue_count + 1, row.inserted_at) for row in found]

    async def delete(self, queue: str, message: QueueMessage) -> bool:
        ours = (
            queue_messages.c.queue == queue,
            queue_messages.c.id == message.id,
            queue_messages.c.pop_receipt == message.pop_receipt,
        )
        return await self._database.write(lambda c: c.execute(sa.delete(queue_messages).where(*ours)).rowcount == 1)

    async def length(self, queue: str) -> int:
        counted = sa.select(sa.func.count()).select_from(queue_messages).where(queue_messages.c.queue == queue)
        return await self._database.read(lambda c: c.execute(counted).scalar_one())
