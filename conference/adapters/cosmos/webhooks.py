"""Port `WebhookStore` in Cosmos DB.

Endpoints share their tenant's partition. An endpoint's streams and attempts share another one, so how far a stream is
and the entry of the log are one batch. A stream is changed under its ETag: whoever has claimed it first has it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import MOST_OPERATIONS, Document, Operation, Raced
from conference.adapters.cosmos.containers import WEBHOOK_STREAMS, WEBHOOKS
from conference.adapters.cosmos.documents import MEETING, item_id, moment
from conference.adapters.cosmos.operations import create, delete
from conference.adapters.cosmos.operations import replace as replace_item
from conference.adapters.cosmos.rooms import Rooms
from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.webhook_streams import Settlement, Stream, new_stream
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint
from conference.ports.webhooks import AttemptPage, Offer, StreamLease

_AT_ONCE = 16
_CANDIDATES = 1_000  # streams that one claim looks at


class CosmosWebhookStore:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._database = rooms.database
        self._endpoints = rooms.database.items(WEBHOOKS)
        self._items = rooms.database.items(WEBHOOK_STREAMS)
        self._gate = asyncio.Semaphore(_AT_ONCE)

    # --- endpoints ---

    async def create(self, endpoint: WebhookEndpoint, *, fingerprint: str, most: int) -> WebhookEndpoint | Refused:
        async def attempt() -> WebhookEndpoint | Refused:
            known = await self._endpoints.read(endpoint.tenant_id, endpoint.id)
            if known is not None:
                same = known["fingerprint"] == fingerprint
                return documents.webhook(known) if same else Refused("idempotency-conflict")
            if len(await self.of_tenant(endpoint.tenant_id)) >= most:
                return Refused("too-many-webhooks")
            await self._endpoints.create(documents.webhook_document(endpoint, fingerprint))
            return endpoint

        return await self._database.settle(attempt)

    async def get(self, tenant_id: TenantId, endpoint_id: WebhookId) -> WebhookEndpoint | None:
        found = await self._endpoints.read(tenant_id, endpoint_id)
        return documents.webhook(found) if found else None

    async def of_tenant(self, tenant_id: TenantId) -> Sequence[WebhookEndpoint]:
        found = await self._endpoints.query("SELECT * FROM c", key=tenant_id)
        return sorted(map(documents.webhook, found), key=lambda endpoint: (endpoint.created_at, endpoint.id))

    async def change(self, endpoint: WebhookEndpoint) -> WebhookEndpoint | Refused:
        changed = replace(endpoint, version=endpoint.version + 1)

        async def attempt() -> WebhookEndpoint | Refused:
            known = await self._endpoints.read(endpoint.tenant_id, endpoint.id)
            if known is None:
                return Refused("not-found")
            if known["version"] != endpoint.version:
                return Refused("precondition-failed")
            await self._endpoints.replace(documents.webhook_document(changed, known["fingerprint"]), known["_etag"])
            return changed

        return await self._database.settle(attempt)

    async def delete(self, tenant_id: TenantId, endpoint_id: WebhookId) -> bool:
        """What is the endpoint's goes before it, so what was interrupted can be repeated, and once more after it: an
        event may have been offered meanwhile."""
        if await self._endpoints.read(tenant_id, endpoint_id) is None:
            return False
        await self._empty(endpoint_id)
        gone = await self._endpoints.delete(tenant_id, endpoint_id)
        await self._empty(endpoint_id)
        return gone

    async def _empty(self, endpoint_id: WebhookId) -> None:
        async def attempt() -> None:
            while ids := await self._items.query("SELECT VALUE c.id FROM c", key=endpoint_id, limit=MOST_OPERATIONS):
                await self._items.batch(endpoint_id, [delete(id) for id in ids])

        await self._database.settle(attempt)

    # --- streams ---

    async def offer(self, offers: Sequence[Offer], now: datetime) -> None:
        by_stream: dict[tuple[TenantId, WebhookId, MeetingId], list[int]] = {}
        for offer in offers:
            by_stream.setdefault((offer.tenant_id, offer.endpoint_id, offer.meeting_id), []).append(offer.seq)

        async def one(key: tuple[TenantId, WebhookId, MeetingId], numbers: list[int]) -> None:
            def offered(stream: Stream | None) -> Stream:
                stream = stream or new_stream(numbers[0], numbers[0], now)
                return stream.offered(max(numbers), now)

            async with self._gate:
                await self._change_stream(*key, offered)

        await asyncio.gather(*(one(key, numbers) for key, numbers in by_stream.items()))

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
        def rewound(stream: Stream | None) -> Stream:
            return (stream or new_stream(from_seq, last_seq, now)).rewound(from_seq, last_seq, now)

        await self._change_stream(tenant_id, endpoint_id, meeting_id, rewound)

    async def _change_stream(
        self,
        tenant_id: TenantId,
        endpoint_id: WebhookId,
        meeting_id: MeetingId,
        change: Callable[[Stream | None], Stream],
    ) -> None:
        """Nothing where the endpoint or the meeting is gone."""

        async def attempt() -> None:
            known = await self._items.read(endpoint_id, item_id("stream", meeting_id))
            if await self._endpoints.read(tenant_id, endpoint_id) is None:
                return
            if await self._rooms.items.read(meeting_id, MEETING) is None:
                return
            before = documents.webhook_stream(known) if known else None
            after = change(before)
            document = documents.webhook_stream_document(after, tenant_id, endpoint_id, meeting_id)
            if known is None:
                await self._items.create(document)
            elif after != before:
                await self._items.replace(document, known["_etag"])

        await self._database.settle(attempt)

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        text = "SELECT * FROM c WHERE c.kind = 'stream' AND c.dueAt <= @now ORDER BY c.dueAt"
        found = await self._items.query(text, {"now": moment(now)}, limit=_CANDIDATES)
        due = [(documents.webhook_stream(document), document) for document in found]
        held = Counter(document["endpointId"] for stream, document in due if stream.is_held(now))
        chosen: list[tuple[Stream, Document]] = []
        for stream, document in due:
            endpoint_id = document["endpointId"]
            if len(chosen) < limit and not stream.is_held(now) and held[endpoint_id] < per_endpoint:
                held[endpoint_id] += 1
                chosen.append((stream, document))
        until = now + timedelta(seconds=hold_s)
        claims = (self._claim(stream, document, until) for stream, document in chosen)
        answers = await asyncio.gather(*claims, return_exceptions=True)
        leases = [answer for answer in answers if isinstance(answer, StreamLease)]
        failed = next((answer for answer in answers if isinstance(answer, BaseException)), None)
        if failed is not None and not leases:  # else what was claimed is used
            raise failed
        return leases

    async def _claim(self, stream: Stream, document: Document, until: datetime) -> StreamLease | None:
        """None where somebody else was first."""
        token = self._rooms.ids.new()
        names = TenantId(document["tenantId"]), WebhookId(document["endpointId"]), MeetingId(document["meetingId"])
        claimed = documents.webhook_stream_document(stream.claimed(token, until), *names)
        async with self._gate:
            try:
                await self._items.replace(claimed, document["_etag"])
            except Raced:
                return None
        return StreamLease(
            token,
            until,
            *names,
            next_seq=stream.next_seq,
            last_seq=stream.last_seq,
            attempts=stream.attempts,
            failing_since=stream.failing_since,
            dead=stream.dead,
        )

    async def settle(self, lease: StreamLease, settlement: Settlement, attempt: WebhookAttempt | None = None) -> bool:
        entry = documents.webhook_attempt_document(attempt) if attempt is not None else None
        tries = 0

        async def settling() -> bool:
            nonlocal tries
            tries += 1
            if tries > 1 and entry is not None and await self._items.read(lease.endpoint_id, entry["id"]):
                return True  # it was written, and its answer lost
            known = await self._items.read(lease.endpoint_id, item_id("stream", lease.meeting_id))
            stream = documents.webhook_stream(known) if known else None
            if known is None or stream is None or stream.token != lease.token:
                return False
            names = lease.tenant_id, lease.endpoint_id, lease.meeting_id
            settled = documents.webhook_stream_document(stream.settled(settlement), *names)
            operations: list[Operation] = [replace_item(settled, known["_etag"])]
            if entry is not None:
                operations.append(create(entry))
            await self._items.batch(lease.endpoint_id, operations)
            return True

        return await self._database.settle(settling)

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        text = "SELECT VALUE c.id FROM c WHERE c.kind = 'stream' AND c.nextSeq <= c.lastSeq"

        async def one(id: str) -> None:
            async def attempt() -> None:
                known = await self._items.read(endpoint_id, id)
                if known is None:
                    return
                before = documents.webhook_stream(known)
                after = before.woken(now, skip_dead=skip_dead)
                if after != before:
                    names = TenantId(known["tenantId"]), endpoint_id, MeetingId(known["meetingId"])
                    await self._items.replace(documents.webhook_stream_document(after, *names), known["_etag"])

            async with self._gate:
                await self._database.settle(attempt)

        await asyncio.gather(*(one(id) for id in await self._items.query(text, key=endpoint_id)))

    # --- the log ---

    async def attempts(
        self, endpoint_id: WebhookId, *, meeting_id: MeetingId | None = None, cursor: str | None, limit: int
    ) -> AttemptPage:
        conditions, given = ["c.kind = 'attempt'"], dict[str, Any]()
        if meeting_id is not None:
            conditions.append("c.meetingId = @meeting")
            given["meeting"] = meeting_id
        if cursor is not None:
            at, id = decode_cursor(cursor)
            conditions.append("(c.at < @at OR (c.at = @at AND c.id < @id))")
            given |= {"at": moment(at), "id": item_id("attempt", id)}
        text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.at DESC, c.id DESC"  # noqa: S608
        found = await self._items.query(text, given, key=endpoint_id, limit=limit + 1)
        page = [documents.webhook_attempt(document) for document in found]
        more, page = len(page) > limit, page[:limit]
        return AttemptPage(page, encode_cursor(page[-1].at, page[-1].id) if more else None)

    async def prune(self, before: datetime, *, limit: int = 1_000) -> int:
        text = "SELECT c.id, c.endpointId FROM c WHERE c.kind = 'attempt' AND c.at < @before ORDER BY c.at"

        async def one(row: Document) -> bool:
            async with self._gate:
                return await self._items.delete(row["endpointId"], row["id"])

        found = await self._items.query(text, {"before": moment(before)}, limit=limit)
        return sum(await asyncio.gather(*map(one, found)))
