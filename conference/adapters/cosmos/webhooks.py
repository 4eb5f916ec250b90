"""Port `WebhookStore` in Cosmos DB.

Endpoints share their tenant's partition. A stream lies with its log in a partition of its own, so how far it is and the
entry of the log are one batch. It is changed under its ETag: whoever has claimed it first has it. A write whose answer
was lost is looked for before it is made again.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.client import MOST_OPERATIONS, Document, Operation, Raced
from conference.adapters.cosmos.documents import MEETING, STREAM, item_id, moment
from conference.adapters.cosmos.gate import Gate
from conference.adapters.cosmos.operations import create, delete
from conference.adapters.cosmos.operations import replace as replace_item
from conference.adapters.cosmos.rooms import Rooms
from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.webhook_streams import Settlement, Stream, new_stream
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint
from conference.ports.webhooks import AttemptPage, Offer, StreamLease

_A_LOOK = 1_000  # items of an endpoint that is deleted
_LOOKS = 5  # for them while somebody waits
_LOOKS_OF_A_RUN = 100  # of the timer

log = logging.getLogger(__name__)
Place = tuple[WebhookId, MeetingId]  # a stream's partition


class CosmosWebhookStore:
    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._settle = rooms.database.settle
        self._endpoints = rooms.webhooks
        self._items = rooms.streams
        self._gate = Gate()

    # --- endpoints ---

    async def create(self, endpoint: WebhookEndpoint, *, fingerprint: str, most: int) -> WebhookEndpoint | Refused:
        async def attempt() -> WebhookEndpoint | Refused:
            known = await self._endpoints.read(endpoint.tenant_id, endpoint.id)
            if known is not None and _is_deleted(known):
                await self._finish(known)
                known = None
            if known is not None:
                same = known["fingerprint"] == fingerprint
                return documents.webhook(known) if same else Refused("idempotency-conflict")
            if len(await self.of_tenant(endpoint.tenant_id)) >= most:
                return Refused("too-many-webhooks")
            await self._endpoints.create(documents.webhook_document(endpoint, fingerprint))
            return endpoint

        return await self._settle(attempt)

    async def get(self, tenant_id: TenantId, endpoint_id: WebhookId) -> WebhookEndpoint | None:
        found = await self._endpoint(tenant_id, endpoint_id)
        return documents.webhook(found) if found else None

    async def _endpoint(self, tenant_id: TenantId, endpoint_id: WebhookId) -> Document | None:
        """None where there is none, or one that is being deleted."""
        found = await self._endpoints.read(tenant_id, endpoint_id)
        return None if found is None or _is_deleted(found) else found

    async def of_tenant(self, tenant_id: TenantId) -> Sequence[WebhookEndpoint]:
        found = await self._endpoints.query("SELECT * FROM c WHERE NOT IS_DEFINED(c.deleted)", key=tenant_id)
        return sorted(map(documents.webhook, found), key=lambda endpoint: (endpoint.created_at, endpoint.id))

    async def change(self, endpoint: WebhookEndpoint) -> WebhookEndpoint | Refused:
        changed = replace(endpoint, version=endpoint.version + 1)
        is_again = False

        async def attempt() -> WebhookEndpoint | Refused:
            nonlocal is_again
            known = await self._endpoint(endpoint.tenant_id, endpoint.id)
            if known is None:
                return Refused("not-found")
            if is_again and documents.webhook(known) == changed:
                return changed  # written before, and the answer was lost
            if known["version"] != endpoint.version:
                return Refused("precondition-failed")
            is_again = True
            await self._endpoints.replace(documents.webhook_document(changed, known["fingerprint"]), known["_etag"])
            return changed

        return await self._settle(attempt)

    async def delete(self, tenant_id: TenantId, endpoint_id: WebhookId) -> bool:
        """First it is marked, so nothing is offered to it any more; what is left then, the timer takes away. Of two at
        once both may have deleted it: the client asks again by itself, and does not say."""

        async def attempt() -> Document | None:
            known = await self._endpoints.read(tenant_id, endpoint_id)
            if known is None or _is_deleted(known):
                return known
            return await self._endpoints.replace(documents.deleted_webhook_document(known), known["_etag"])

        marked = await self._settle(attempt)
        if marked is None:
            return False
        try:
            await self._finish(marked, _LOOKS)
        except Unavailable:
            log.warning("what a webhook leaves is left to the timer", extra={"webhookId": endpoint_id})
        return True

    async def _finish(self, marked: Document, looks: int | None = None) -> None:
        """Deletes what is left of an endpoint, as much as so many looks find, and at last itself. Raises
        Unavailable."""
        tenant_id, endpoint_id = TenantId(marked["tenantId"]), WebhookId(marked["id"])
        done = 0
        while found := await self._items.query("SELECT VALUE c.meetingId FROM c", key=(endpoint_id,), limit=_A_LOOK):
            if done == looks:
                return
            done += 1
            places = ((endpoint_id, meeting_id) for meeting_id in dict.fromkeys(found))
            await self._gate.all(partial(self._empty_room, place) for place in places)
        await self._settle(lambda: self._endpoints.delete(tenant_id, endpoint_id))

    async def _empty_room(self, place: Place) -> None:
        async def attempt() -> None:
            while ids := await self._items.query("SELECT VALUE c.id FROM c", key=place, limit=MOST_OPERATIONS):
                await self._items.batch(place, [delete(id) for id in ids])

        await self._settle(attempt)

    # --- streams ---

    async def offer(self, offers: Sequence[Offer], now: datetime) -> None:
        numbers: dict[tuple[TenantId, Place], list[int]] = {}
        for offer in offers:
            place = offer.endpoint_id, offer.meeting_id
            numbers.setdefault((offer.tenant_id, place), []).append(offer.seq)
        await self._gate.all(
            partial(self._offer, tenant_id, place, seqs, now) for (tenant_id, place), seqs in numbers.items()
        )

    async def _offer(self, tenant_id: TenantId, place: Place, seqs: Sequence[int], now: datetime) -> None:
        def offered(stream: Stream | None) -> Stream:
            return (stream or new_stream(seqs[0], seqs[0], now)).offered(max(seqs), now)

        await self._change_stream(tenant_id, place, offered)

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

        await self._change_stream(tenant_id, (endpoint_id, meeting_id), rewound)

    async def _change_stream(
        self, tenant_id: TenantId, place: Place, change: Callable[[Stream | None], Stream]
    ) -> None:
        """Whoever deletes an endpoint or a meeting deletes its streams, so only one that begins has to look for them:
        before, and again when it is there."""

        async def attempt() -> None:
            known = await self._items.read(place, STREAM)
            if known is not None:
                await self._replace(known, change)
            elif await self._may_begin(tenant_id, place):
                await self._items.create(documents.webhook_stream_document(change(None), tenant_id, *place))
                if not await self._may_begin(tenant_id, place):
                    await self._items.delete(place, STREAM)

        await self._settle(attempt)

    async def _replace(self, known: Document, change: Callable[[Stream], Stream]) -> None:
        """Raises Raced, Unavailable."""
        before = documents.webhook_stream(known)
        after = change(before)
        if after != before:
            await self._items.replace(documents.changed_webhook_stream(known, after), known["_etag"])

    async def _may_begin(self, tenant_id: TenantId, place: Place) -> bool:
        endpoint_id, meeting_id = place
        endpoint, meeting = await asyncio.gather(
            self._endpoint(tenant_id, endpoint_id), self._rooms.items.read(meeting_id, MEETING)
        )
        return endpoint is not None and meeting is not None

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        chosen = await self._choose(now, limit, per_endpoint) if limit > 0 else []
        until = now + timedelta(seconds=hold_s)
        return await self._gate.what_succeeds(partial(self._claim, document, until) for document in chosen)

    async def _choose(self, now: datetime, limit: int, per_endpoint: int) -> list[Document]:
        """What waits for an endpoint that has its share, however much, hides nobody: the next look leaves it out. Each
        look but the last finds another one of those, of which there are as many as leases are held and chosen."""
        held: Counter[str] | None = None
        full: set[str] = set()
        chosen: dict[str, Document] = {}
        while True:
            found = await self._due(now, limit, full)
            if held is None:
                held = await self._held(now) if found else Counter()
            for document in found:
                endpoint_id = document["endpointId"]
                if document["_rid"] in chosen or len(chosen) == limit:
                    continue
                if held[endpoint_id] < per_endpoint:
                    held[endpoint_id] += 1
                    chosen[document["_rid"]] = document
                else:
                    full.add(endpoint_id)
            if len(found) < limit or len(chosen) == limit:
                return list(chosen.values())

    async def _due(self, now: datetime, limit: int, full: set[str]) -> list[Document]:
        text = (
            "SELECT * FROM c WHERE c.dueAt <= @now AND (NOT IS_DEFINED(c.heldUntil) OR c.heldUntil <= @now)"
            " AND NOT ARRAY_CONTAINS(@full, c.endpointId) ORDER BY c.dueAt"
        )
        return await self._items.query(text, {"now": moment(now), "full": sorted(full)}, limit=limit)

    async def _held(self, now: datetime) -> Counter[str]:
        text = "SELECT VALUE c.endpointId FROM c WHERE c.heldUntil > @now"
        return Counter(await self._items.query(text, {"now": moment(now)}))

    async def _claim(self, document: Document, until: datetime) -> StreamLease | None:
        """None where somebody else was first."""
        token, stream = self._rooms.ids.new(), documents.webhook_stream(document)
        place = WebhookId(document["endpointId"]), MeetingId(document["meetingId"])
        claimed = documents.changed_webhook_stream(document, stream.claimed(token, until))
        try:
            await self._items.replace(claimed, document["_etag"])
        except (Raced, Unavailable) as error:
            known = await self._items.read(place, STREAM)  # ours it is where only the answer was lost
            if known is None or known.get("token") != token:
                if isinstance(error, Unavailable):
                    raise
                return None
        return StreamLease(
            token,
            until,
            TenantId(document["tenantId"]),
            *place,
            next_seq=stream.next_seq,
            last_seq=stream.last_seq,
            attempts=stream.attempts,
            failing_since=stream.failing_since,
            dead=stream.dead,
        )

    async def settle(self, lease: StreamLease, settlement: Settlement, attempt: WebhookAttempt | None = None) -> bool:
        place = lease.endpoint_id, lease.meeting_id
        entry = documents.webhook_attempt_document(attempt) if attempt is not None else None
        is_again = False

        async def settling() -> bool:
            nonlocal is_again
            known = await self._items.read(place, STREAM)
            if known is None:
                return False
            if is_again and await self._is_settled(known, lease, entry):
                return True
            stream = documents.webhook_stream(known)
            if stream.token != lease.token:
                return False
            is_again = True
            settled = documents.changed_webhook_stream(known, stream.settled(settlement))
            if settlement.held_until is None:
                settled["released"] = lease.token
            operations: list[Operation] = [replace_item(settled, known["_etag"])]
            if entry is not None:
                operations.append(create(entry))
            await self._items.batch(place, operations)
            return True

        return await self._settle(settling)

    async def _is_settled(self, known: Document, lease: StreamLease, entry: Document | None) -> bool:
        """Whether an earlier try was done, and only its answer lost."""
        if known.get("released") == lease.token:
            return True
        place = lease.endpoint_id, lease.meeting_id
        return entry is not None and await self._items.read(place, entry["id"]) is not None

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        text = "SELECT VALUE c.meetingId FROM c WHERE c.kind = 'stream' AND c.nextSeq <= c.lastSeq"
        waiting = await self._items.query(text, key=(endpoint_id,))
        await self._gate.all(partial(self._wake, (endpoint_id, meeting_id), now, skip_dead) for meeting_id in waiting)

    async def _wake(self, place: Place, now: datetime, skip_dead: bool) -> None:
        async def attempt() -> None:
            known = await self._items.read(place, STREAM)
            if known is not None:
                await self._replace(known, lambda stream: stream.woken(now, skip_dead=skip_dead))

        await self._settle(attempt)

    # --- the log ---

    async def attempts(
        self, endpoint_id: WebhookId, *, meeting_id: MeetingId | None = None, cursor: str | None, limit: int
    ) -> AttemptPage:
        conditions, given = ["c.kind = 'attempt'"], dict[str, Any]()
        if cursor is not None:
            at, id = decode_cursor(cursor)
            conditions.append("(c.at < @at OR (c.at = @at AND c.id < @id))")
            given |= {"at": moment(at), "id": item_id("attempt", id)}
        text = f"SELECT * FROM c WHERE {' AND '.join(conditions)} ORDER BY c.at DESC, c.id DESC"  # noqa: S608
        key = (endpoint_id,) if meeting_id is None else (endpoint_id, meeting_id)
        found = await self._items.query(text, given, key=key, limit=limit + 1)
        page = [documents.webhook_attempt(document) for document in found]
        more, page = len(page) > limit, page[:limit]
        return AttemptPage(page, encode_cursor(page[-1].at, page[-1].id) if more else None)

    async def prune(self, before: datetime, *, limit: int = 1_000) -> int:
        """Of those that have not expired by themselves. On the way it goes on with deletions that were left half
        done."""
        for marked in await self._endpoints.query("SELECT * FROM c WHERE c.deleted = true"):
            await self._finish(marked, _LOOKS_OF_A_RUN)
        text = "SELECT c.id, c.endpointId, c.meetingId FROM c WHERE c.kind = 'attempt' AND c.at < @before ORDER BY c.at"
        found = await self._items.query(text, {"before": moment(before)}, limit=limit)
        return sum(await self._gate.all(partial(self._forget, row) for row in found))

    async def _forget(self, row: Document) -> bool:
        return await self._items.delete((row["endpointId"], row["meetingId"]), row["id"])


def _is_deleted(endpoint: Document) -> bool:
    return "deleted" in endpoint
