"""Port `WebhookStore` in memory."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint
from conference.ports.clock import Ids
from conference.ports.webhooks import AttemptPage, Offer, Settlement, StreamLease


@dataclass(slots=True)
class _Stream:
    next_seq: int
    last_seq: int
    due_at: datetime | None
    token: str | None = None
    held_until: datetime | None = None
    attempts: int = 0
    failing_since: datetime | None = None
    dead: bool = False

    def is_held(self, now: datetime) -> bool:
        return self.held_until is not None and self.held_until > now

    def is_due(self, now: datetime) -> bool:
        return self.due_at is not None and self.due_at <= now

    def begin(self, next_seq: int, now: datetime) -> None:
        """Goes on with `next_seq`, as if it had never failed."""
        self.next_seq, self.due_at = next_seq, now if next_seq <= self.last_seq else None
        self.attempts, self.failing_since, self.dead = 0, None, False


class MemoryWebhookStore:
    """`exists` says whether there is a meeting: without one there is no stream."""

    def __init__(self, ids: Ids, exists: Callable[[MeetingId], bool]) -> None:
        self._ids = ids
        self._exists = exists
        self._endpoints: dict[WebhookId, tuple[WebhookEndpoint, str]] = {}  # with the fingerprint
        self._streams: dict[tuple[WebhookId, MeetingId], _Stream] = {}
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
            if offer.endpoint_id in self._endpoints and self._exists(offer.meeting_id):
                key = offer.endpoint_id, offer.meeting_id
                stream = self._streams.setdefault(key, _Stream(offer.seq, offer.seq, now))
                stream.last_seq = max(stream.last_seq, offer.seq)
                if stream.next_seq <= stream.last_seq and stream.due_at is None:
                    stream.due_at = now

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        held = Counter(key[0] for key, stream in self._streams.items() if stream.is_held(now))
        due = [item for item in self._streams.items() if item[1].is_due(now) and not item[1].is_held(now)]
        leases: list[StreamLease] = []
        for key, stream in sorted(due, key=lambda item: (item[1].due_at, item[0])):
            if len(leases) < limit and held[key[0]] < per_endpoint:
                held[key[0]] += 1
                leases.append(self._lease(key, stream, now + timedelta(seconds=hold_s)))
        return leases

    def _lease(self, key: tuple[WebhookId, MeetingId], stream: _Stream, until: datetime) -> StreamLease:
        stream.token, stream.held_until = self._ids.new(), until
        return StreamLease(
            token=stream.token,
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
        stream = self._streams.get((lease.endpoint_id, lease.meeting_id))
        if stream is None or stream.token != lease.token:
            return False
        stream.next_seq = settlement.next_seq
        stream.due_at = settlement.due_at if settlement.next_seq <= stream.last_seq else None
        stream.held_until = settlement.held_until
        stream.token = lease.token if settlement.held_until else None
        stream.attempts, stream.failing_since = settlement.attempts, settlement.failing_since
        stream.dead = settlement.dead
        if attempt is not None:
            self._attempts.append(attempt)
        return True

    async def rewind(
        self, endpoint_id: WebhookId, meeting_id: MeetingId, *, from_seq: int, last_seq: int, now: datetime
    ) -> None:
        if endpoint_id not in self._endpoints or not self._exists(meeting_id):
            return
        stream = self._streams.setdefault((endpoint_id, meeting_id), _Stream(from_seq, last_seq, now))
        stream.last_seq, stream.token = max(stream.last_seq, last_seq), None
        stream.begin(from_seq, now)

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        for (of_endpoint, _), stream in self._streams.items():
            left = stream.next_seq <= stream.last_seq
            if of_endpoint == endpoint_id and left and not stream.is_held(now):
                stream.begin(stream.next_seq + (stream.dead and skip_dead), now)

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
