"""Port `WebhookStore` in SQL. A stream's row is its lease: claimed with SKIP LOCKED, changed by its token only."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.adapters.sql import rows
from conference.adapters.sql.engine import Database
from conference.adapters.sql.statements import insert, insert_for, insert_new
from conference.adapters.sql.tables import meetings, webhook_attempts, webhook_endpoints, webhook_streams
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint
from conference.ports.clock import Ids
from conference.ports.webhooks import AttemptPage, Offer, StreamLease

_streams: Final = webhook_streams.c
_fresh: Final[dict[str, Any]] = {"attempts": 0, "failing_since": None, "dead": False}
_then_due: Final = sa.bindparam("then_due", type_=_streams.due_at.type)
_SETTLING: Final = (
    sa.update(webhook_streams)
    .where(
        _streams.endpoint_id == sa.bindparam("of_endpoint"),
        _streams.meeting_id == sa.bindparam("of_meeting"),
        _streams.token == sa.bindparam("ours"),
    )
    .values(
        next_seq=sa.bindparam("then"),
        due_at=sa.case((_streams.last_seq >= sa.bindparam("then"), _then_due)),
        **{name: sa.bindparam(name) for name in ("held_until", "token", "attempts", "failing_since", "dead")},
    )
)


class SqlWebhookStore:
    """`ids` name leases."""

    def __init__(self, database: Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids

    # --- endpoints ---

    async def create(self, endpoint: WebhookEndpoint, *, fingerprint: str, most: int) -> WebhookEndpoint | Refused:
        values = rows.webhook_endpoint_values(endpoint) | {"fingerprint": fingerprint}
        counted = sa.select(sa.func.count()).where(webhook_endpoints.c.tenant_id == endpoint.tenant_id)
        same = sa.select(webhook_endpoints).where(webhook_endpoints.c.id == endpoint.id)

        def work(connection: sa.Connection) -> WebhookEndpoint | Refused:
            known = connection.execute(same).first()
            if known is None:
                if connection.execute(counted).scalar_one() >= most:
                    return Refused("too-many-webhooks")
                if insert_new(connection, webhook_endpoints, **values):
                    return endpoint
                known = connection.execute(same).one()  # the same request, at the same time
            return rows.webhook_endpoint(known) if known.fingerprint == fingerprint else Refused("idempotency-conflict")

        return await self._database.write(work)

    async def get(self, tenant_id: TenantId, endpoint_id: WebhookId) -> WebhookEndpoint | None:
        def work(connection: sa.Connection) -> WebhookEndpoint | None:
            row = connection.execute(sa.select(webhook_endpoints).where(*_named(tenant_id, endpoint_id))).first()
            return rows.webhook_endpoint(row) if row else None

        return await self._database.read(work)

    async def of_tenant(self, tenant_id: TenantId) -> Sequence[WebhookEndpoint]:
        columns = webhook_endpoints.c
        found = sa.select(webhook_endpoints).where(columns.tenant_id == tenant_id)
        in_order = found.order_by(columns.created_at, columns.id)
        return await self._database.read(lambda c: [rows.webhook_endpoint(row) for row in c.execute(in_order)])

    async def change(self, endpoint: WebhookEndpoint) -> WebhookEndpoint | Refused:
        named = _named(endpoint.tenant_id, endpoint.id)
        values = rows.webhook_endpoint_values(endpoint) | {"version": endpoint.version + 1}

        def work(connection: sa.Connection) -> WebhookEndpoint | Refused:
            as_read = webhook_endpoints.c.version == endpoint.version
            changing = sa.update(webhook_endpoints).where(*named, as_read).values(**values).returning(webhook_endpoints)
            row = connection.execute(changing).first()
            if row is not None:
                return rows.webhook_endpoint(row)
            there = connection.execute(sa.select(webhook_endpoints.c.id).where(*named)).first()
            return Refused("precondition-failed" if there else "not-found")

        return await self._database.write(work)

    async def delete(self, tenant_id: TenantId, endpoint_id: WebhookId) -> bool:
        deleting = sa.delete(webhook_endpoints).where(*_named(tenant_id, endpoint_id))
        return await self._database.write(lambda c: c.execute(deleting).rowcount == 1)

    # --- streams ---

    async def offer(self, offers: Sequence[Offer], now: datetime) -> None:
        def work(connection: sa.Connection) -> None:
            endpoints = _there(connection, webhook_endpoints.c.id, {offer.endpoint_id for offer in offers})
            rooms = _there(connection, meetings.c.id, {offer.meeting_id for offer in offers})
            streams = [
                _new_stream(offer.endpoint_id, offer.meeting_id, offer.seq, offer.seq, now)
                for offer in offers
                if offer.endpoint_id in endpoints and offer.meeting_id in rooms
            ]
            if streams:
                connection.execute(_offering(connection.dialect.name), streams)

        if offers:
            await self._database.write(work)

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        until = now + timedelta(seconds=hold_s)

        def work(connection: sa.Connection) -> list[StreamLease]:
            # The condition is said again of the row itself: PostgreSQL looks at it anew when it has the lock.
            found = _free(now, limit, per_endpoint).with_for_update(skip_locked=True, of=webhook_streams)
            return [self._lease(connection, row, until) for row in connection.execute(found).all()]

        # A look without a lock first: most often there is nothing to do, and a writer's place is precious on SQLite.
        if not await self._database.read(lambda c: c.execute(_free(now, 1, per_endpoint)).first()):
            return []
        return await self._database.write(work)

    def _lease(self, connection: sa.Connection, row: sa.Row[Any], until: datetime) -> StreamLease:
        token = self._ids.new()
        one = (_streams.endpoint_id == row.endpoint_id, _streams.meeting_id == row.meeting_id)
        connection.execute(sa.update(webhook_streams).where(*one).values(token=token, held_until=until))
        return StreamLease(
            token,
            until,
            TenantId(row.tenant_id),
            WebhookId(row.endpoint_id),
            MeetingId(row.meeting_id),
            row.next_seq,
            row.last_seq,
            row.attempts,
            row.failing_since,
            row.dead,
        )

    async def settle(self, lease: StreamLease, settlement: Settlement, attempt: WebhookAttempt | None = None) -> bool:
        values = {
            "of_endpoint": lease.endpoint_id,
            "of_meeting": lease.meeting_id,
            "ours": lease.token,
            "then": settlement.next_seq,
            "then_due": settlement.due_at,
            "held_until": settlement.held_until,
            "token": lease.token if settlement.held_until else None,
            "attempts": settlement.attempts,
            "failing_since": settlement.failing_since,
            "dead": settlement.dead,
        }

        def work(connection: sa.Connection) -> bool:
            if connection.execute(_SETTLING, values).rowcount == 0:
                return False
            if attempt is not None:
                connection.execute(webhook_attempts.insert(), rows.values(attempt))
            return True

        return await self._database.write(work)

    async def rewind(
        self,
        tenant_id: TenantId,
        endpoint_id: WebhookId,
        meeting_id: MeetingId,
        *,
        from_seq: int,
        last_seq: int,
        now: datetime,
    ) -> None:
        def work(connection: sa.Connection) -> None:
            if not _there(connection, webhook_endpoints.c.id, {endpoint_id}):
                return
            if not _there(connection, meetings.c.id, {meeting_id}):
                return
            new = insert(connection, webhook_streams)
            last = _larger(_streams.last_seq, new.excluded.last_seq)
            due_at = _due_if(last >= from_seq, now)
            values = {"next_seq": from_seq, "last_seq": last, "due_at": due_at, "token": None, **_fresh}
            rewinding = new.on_conflict_do_update(index_elements=["endpoint_id", "meeting_id"], set_=values)
            connection.execute(rewinding, _new_stream(endpoint_id, meeting_id, from_seq, last_seq, now))

        await self._database.write(work)

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        free = _streams.held_until.is_(None) | (_streams.held_until <= now)
        following = _streams.next_seq + 1 if skip_dead else _streams.next_seq
        next_seq = sa.case((_streams.dead, following), else_=_streams.next_seq)
        waiting = (_streams.endpoint_id == endpoint_id, _streams.next_seq <= _streams.last_seq, free)
        waking = (
            sa.update(webhook_streams)
            .where(*waiting)
            .values(next_seq=next_seq, due_at=_due_if(next_seq <= _streams.last_seq, now), **_fresh)
        )
        await self._database.write(lambda c: c.execute(waking))

    # --- the log ---

    async def attempts(
        self, endpoint_id: WebhookId, *, meeting_id: MeetingId | None = None, cursor: str | None, limit: int
    ) -> AttemptPage:
        columns = webhook_attempts.c
        found = sa.select(webhook_attempts).where(columns.endpoint_id == endpoint_id)
        if meeting_id is not None:
            found = found.where(columns.meeting_id == meeting_id)
        if cursor is not None:
            at, id = decode_cursor(cursor)
            found = found.where((columns.at < at) | ((columns.at == at) & (columns.id < id)))
        newest = found.order_by(columns.at.desc(), columns.id.desc()).limit(limit + 1)
        page = await self._database.read(lambda c: [rows.webhook_attempt(row) for row in c.execute(newest)])
        more = len(page) > limit
        page = page[:limit]
        return AttemptPage(page, encode_cursor(page[-1].at, page[-1].id) if more else None)

    async def prune(self, before: datetime, *, limit: int = 1_000) -> int:
        columns = webhook_attempts.c
        oldest = sa.select(columns.id).where(columns.at < before).order_by(columns.at).limit(limit)
        return await self._database.write(
            lambda c: c.execute(sa.delete(webhook_attempts).where(columns.id.in_(oldest))).rowcount
        )


def _named(tenant_id: TenantId, endpoint_id: WebhookId) -> tuple[sa.ColumnElement[bool], ...]:
    return webhook_endpoints.c.id == endpoint_id, webhook_endpoints.c.tenant_id == tenant_id


def _there(connection: sa.Connection, column: sa.Column[str], ids: set[Any]) -> set[str]:
    """Those of the ids that exist, locked against deletion until the transaction is over."""
    named = sa.select(column).where(column.in_(sorted(ids))).order_by(column)
    return set(connection.execute(named.with_for_update(read=True, key_share=True)).scalars())


@cache
def _offering(dialect: str) -> Any:
    """Made once: building it costs as much as running it."""
    new = insert_for(dialect, webhook_streams)
    last = _larger(_streams.last_seq, new.excluded.last_seq)
    due = sa.case((_streams.next_seq <= last, sa.func.coalesce(_streams.due_at, new.excluded.due_at)))
    keys = ["endpoint_id", "meeting_id"]
    return new.on_conflict_do_update(index_elements=keys, set_={"last_seq": last, "due_at": due})


def _new_stream(
    endpoint_id: WebhookId, meeting_id: MeetingId, next_seq: int, last_seq: int, now: datetime
) -> dict[str, Any]:
    names = {"endpoint_id": endpoint_id, "meeting_id": meeting_id}
    due_at = now if next_seq <= last_seq else None
    return {**names, "next_seq": next_seq, "last_seq": last_seq, "due_at": due_at, **_fresh}


def _larger(one: sa.ColumnElement[int], other: sa.ColumnElement[int]) -> sa.ColumnElement[int]:
    return sa.case((one >= other, one), else_=other)


def _due_if(has_events: sa.ColumnElement[bool], at: datetime) -> sa.ColumnElement[datetime]:
    return sa.case((has_events, sa.literal(at, _streams.due_at.type)))


def _free(now: datetime, limit: int, per_endpoint: int) -> sa.Select[Any]:
    """Streams that are due and not held, the longest due first. Those of an endpoint have places, held ones first, and
    only the first `per_endpoint` places count: one slow receiver does not take the time of all."""
    due = _streams.due_at <= now
    held = sa.func.coalesce(_streams.held_until > now, sa.false())
    in_order = (sa.case((held, 0), else_=1), _streams.due_at, _streams.meeting_id)
    place = sa.func.row_number().over(partition_by=_streams.endpoint_id, order_by=in_order).label("place")
    placed = sa.select(_streams.endpoint_id, _streams.meeting_id, place).where(due).subquery("placed")
    is_placed = (_streams.endpoint_id == placed.c.endpoint_id) & (_streams.meeting_id == placed.c.meeting_id)
    found = sa.select(webhook_streams, webhook_endpoints.c.tenant_id).join(placed, is_placed)
    found = found.join(webhook_endpoints, webhook_endpoints.c.id == _streams.endpoint_id)
    found = found.where(due, ~held, placed.c.place <= per_endpoint)
    return found.order_by(_streams.due_at, _streams.endpoint_id, _streams.meeting_id).limit(limit)
