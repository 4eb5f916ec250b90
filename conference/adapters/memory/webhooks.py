"""Port `WebhookStore` in memory."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.webhook_streams import Settlement, Stream, new_stream
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint
from conference.ports.clock import Ids
from conference.ports.webhooks import AttemptPage, Offer, StreamLease


class MemoryWebhookStore:
    """`exists` says whether there is a meeting: without one there is no stream."""

    def __init__(self, ids: Ids, exists: Callable[[MeetingId], bool]) -> None:
        self._ids = ids
        self._exists = exists
        self._endpoints: dict[WebhookId, tuple[WebhookEndpoint, str]] = {}  # with the fingerprint
        self._streams: dict[tuple[WebhookId, MeetingId], Stream] = {}
        self._attempts: list[WebhookAttempt] = []

    def forget(self, meeting_id: MeetingId) -> None:
        """The meeting was deleted."""
        self._streams = {key: stream for key, stream in self._streams.items() if key[1] != meeting_id}

    # --- endpoints ---

    async def create(self, endpoint: WebhookEndpoint, *, fingerprint: str, most: int) -> WebhookEndpoint | Refused:
        known = self._endpoints.get(endpoint.id)
        if known:
            return known[0] if known[1] == fingerprint else Refused("idempotency-conflict")
        if len(await self.of_tenant(endpoint.tenant_id)) >= most:
            return Refused("too-many-webhooks")
        self._endpoints[endpoint.id] = endpoint, fingerprint
        return endpoint

    async def get(self, tenant_id: TenantId, endpoint_id: WebhookId) -> WebhookEndpoint | None:
        known = self._endpoints.get(endpoint_id)
        return known[0] if known and known[0].tenant_id == tenant_id else None

    async def of_tenant(self, tenant_id: TenantId) -> Sequence[WebhookEndpoint]:
        found = [endpoint for endpoint, _ in self._endpoints.values() if endpoint.tenant_id == tenant_id]
        return sorted(found, key=lambda endpoint: (endpoint.created_at, endpoint.id))

    async def change(self, endpoint: WebhookEndpoint) -> WebhookEndpoint | Refused:
        stored = await self.get(endpoint.tenant_id, endpoint.id)
        if stored is None:
            return Refused("not-found")
        if stored.version != endpoint.version:
            return Refused("precondition-failed")
        changed = replace(endpoint, version=endpoint.version + 1)
        self._endpoints[endpoint.id] = changed, self._endpoints[endpoint.id][1]
        return changed

    async def delete(self, tenant_id: TenantId, endpoint_id: WebhookId) -> bool:
        if await self.get(tenant_id, endpoint_id) is None:
            return False
        del self._endpoints[endpoint_id]
        self._streams = {key: stream for key, stream in self._streams.items() if key[0] != endpoint_id}
        self._attempts = [attempt for attempt in self._attempts if attempt.endpoint_id != endpoint_id]
        return True

    # --- streams ---

    async def offer(self, offers: Sequence[Offer], now: datetime) -> None:
        for offer in offers:
            key = offer.endpoint_id, offer.meeting_id
            if await self._may_stream(offer.tenant_id, *key):
                stream = self._streams.get(key) or new_stream(offer.seq, offer.seq, now)
                self._streams[key] = stream.offered(offer.seq, now)

    async def _may_stream(self, tenant_id: TenantId, endpoint_id: WebhookId, meeting_id: MeetingId) -> bool:
        return await self.get(tenant_id, endpoint_id) is not None and self._exists(meeting_id)

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        held = Counter(key[0] for key, stream in self._streams.items() if stream.is_held(now))
        due = [item for item in self._streams.items() if item[1].is_due(now) and not item[1].is_held(now)]
        leases: list[StreamLease] = []
        for key, stream in sorted(due, key=lambda item: (item[1].due_at, item[0])):
            if len(leases) < limit and held[key[0]] < per_endpoint:
                held[key[0]] += 1
                leases.append(self._lease(key, stream, now + timedelta(seconds=hold_s)))
        return leases

    def _lease(self, key: tuple[WebhookId, MeetingId], stream: Stream, until: datetime) -> StreamLease:
        token = self._ids.new()
        self._streams[key] = stream.claimed(token, until)
        return StreamLease(
            token=token,
            held_until=until,
            tenant_id=self._endpoints[key[0]][0].tenant_id,
            endpoint_id=key[0],
            meeting_id=key[1],
            next_seq=stream.next_seq,
            last_seq=stream.last_seq,
            attempts=stream.attempts,
            failing_since=stream.failing_since,
            dead=stream.dead,
        )

    async def settle(self, lease: StreamLease, settlement: Settlement, attempt: WebhookAttempt | None = None) -> bool:
        key = lease.endpoint_id, lease.meeting_id
        stream = self._streams.get(key)
        if stream is None or stream.token != lease.token:
            return False
        self._streams[key] = stream.settled(settlement)
        if attempt is not None:
            self._attempts.append(attempt)
        return True

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
        if await self._may_stream(tenant_id, endpoint_id, meeting_id):
            key = endpoint_id, meeting_id
            stream = self._streams.get(key) or new_stream(from_seq, last_seq, now)
            self._streams[key] = stream.rewound(from_seq, last_seq, now)

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        for key, stream in self._streams.items():
            if key[0] == endpoint_id:
                self._streams[key] = stream.woken(now, skip_dead=skip_dead)

    # --- the log ---

    async def attempts(
        self, endpoint_id: WebhookId, *, meeting_id: MeetingId | None = None, cursor: str | None, limit: int
    ) -> AttemptPage:
        after = decode_cursor(cursor) if cursor is not None else None
        found = [
            attempt
            for attempt in self._attempts
            if attempt.endpoint_id == endpoint_id
            and (meeting_id is None or attempt.meeting_id == meeting_id)
            and (after is None or (attempt.at, attempt.id) < after)
        ]
        page = sorted(found, key=lambda attempt: (attempt.at, attempt.id), reverse=True)[:limit]
        more = len(found) > limit
        return AttemptPage(page, encode_cursor(page[-1].at, page[-1].id) if more else None)

    async def prune(self, before: datetime, *, limit: int = 1_000) -> int:
        old = sorted((attempt for attempt in self._attempts if attempt.at < before), key=lambda each: each.at)[:limit]
        pruned = {attempt.id for attempt in old}
        self._attempts = [attempt for attempt in self._attempts if attempt.id not in pruned]
        return len(old)
