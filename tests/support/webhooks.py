"""Endpoints of a tenant and receivers of webhooks, as the tests need them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from conference.domain.ids import EventId, Secret, TenantId, WebhookId
from conference.domain.records import DomainEvent, EventType
from conference.domain.webhooks import AttemptOutcome, SealedSecret, WebhookAttempt, WebhookEndpoint
from conference.ports.webhooks import StreamLease, WebhookAnswer
from conference.protocol.events import decode_event
from tests.support.meetings import TENANT, uuid_of

OK = WebhookAnswer(200)
DOWN = WebhookAnswer(None, "connect-failed")


def webhook_id(number: int) -> WebhookId:
    return WebhookId(uuid_of(0xEEEE, number))


def an_endpoint(now: datetime, number: int = 1, *, tenant_id: TenantId = TENANT, **fields: Any) -> WebhookEndpoint:
    """An endpoint that wants every event."""
    chosen: dict[str, Any] = {
        "url": f"https://hooks.example.com/{number}",
        "events": (),
        "description": "",
        "secrets": (SealedSecret(f"request-{number}", f"sealed:{webhook_id(number)}:first", now),),
        **fields,
    }
    return WebhookEndpoint(id=webhook_id(number), tenant_id=tenant_id, created_at=now, **chosen)


def an_attempt(lease: StreamLease, at: datetime, number: int = 1, **fields: Any) -> WebhookAttempt:
    """A delivery of the lease's next event; `number` tells it from others."""
    attempt = WebhookAttempt(
        id=uuid_of(0xFFFF, number),
        endpoint_id=lease.endpoint_id,
        meeting_id=lease.meeting_id,
        seq=lease.next_seq,
        event_id=EventId(uuid_of(0xCCCC, number)),
        event_type=EventType.ROOM_CREATED,
        at=at,
        attempt=1,
        outcome=AttemptOutcome.DELIVERED,
        status=200,
        error=None,
        duration_ms=12,
    )
    return replace(attempt, **fields)


class PlainSecrets:
    """Port WebhookSecrets without a key: what is sealed says so."""

    def __init__(self) -> None:
        self._made = 0

    def new(self) -> Secret:
        self._made += 1
        return Secret(f"whsec_{self._made}")

    async def seal(self, secret: Secret, endpoint_id: WebhookId) -> str:
        return f"sealed:{endpoint_id}:{secret.reveal()}"

    async def open(self, sealed: str, endpoint_id: WebhookId) -> Secret:
        prefix = f"sealed:{endpoint_id}:"
        assert sealed.startswith(prefix)
        return Secret(sealed.removeprefix(prefix))


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a receiver saw."""

    url: str
    event: DomainEvent
    body: bytes
    headers: Mapping[str, str]


@dataclass
class Receivers:
    """Port WebhookSender: every receiver there is. `answer` is asked for each delivery; `deliveries` holds all of
    them, `taken` those that were answered by success. Counts how many of one endpoint and room were under way at
    once, which must never be two."""

    answer: Callable[[str, DomainEvent], WebhookAnswer] = lambda url, event: OK
    pause: Callable[[], Awaitable[None]] | None = None
    deliveries: list[Delivery] = field(default_factory=list)
    taken: list[Delivery] = field(default_factory=list)
    at_once: Counter[Any] = field(default_factory=Counter)
    most_at_once: Counter[Any] = field(default_factory=Counter)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        delivery = Delivery(url, decode_event(body), body, dict(headers))
        self.deliveries.append(delivery)
        for key in ((url, delivery.event.meeting_id), url):
            self.at_once[key] += 1
            self.most_at_once[key] = max(self.most_at_once[key], self.at_once[key])
        try:
            await (self.pause() if self.pause else asyncio.sleep(0))
            answer = self.answer(url, delivery.event)
        finally:
            for key in ((url, delivery.event.meeting_id), url):
                self.at_once[key] -= 1
        if answer.is_success:
            self.taken.append(delivery)
        return answer

    def numbers(self, url: str | None = None) -> Mapping[str, Sequence[int]]:
        """The numbers that were taken, by room."""
        by_room: dict[str, list[int]] = defaultdict(list)
        for delivery in self.taken:
            if url is None or delivery.url == url:
                by_room[delivery.event.meeting_id].append(delivery.event.seq)
        return by_room
