"""Domain events on their way to webhooks: offered by the relay of the outbox, delivered by a timer.

In order per room and endpoint, one at a time, at least once (docs/adr/0020): whoever has the lease of a stream sends
its events one after the other, and stores after each how far it is. A failed event is tried again later and later, and
the room's newer ones wait behind it; after three days it is dead and its endpoint is paused.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from conference import telemetry
from conference.domain.errors import ParleyError, Unavailable
from conference.domain.ids import MeetingId, TenantId, WebhookId
from conference.domain.records import DomainEvent
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import (
    AttemptOutcome,
    PauseReason,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookStatus,
    next_attempt,
)
from conference.ports.webhooks import SEND_TIMEOUT_S, Offer, StreamLease, WebhookAnswer
from conference.protocol.events import encode_event
from conference.protocol.webhooks import delivery_headers
from functions.services import Services
from functions.webhooks.changing import changing, paused_for

log = logging.getLogger(__name__)
HOLD_S: Final = 60.0  # of a lease, renewed with every event: more than a store and a receiver together may take
RUN_S: Final = 20.0  # of one run of the timer; what has been begun is finished
STREAMS: Final = 32  # under way at once in a run
PER_ENDPOINT: Final = 8  # of them to one endpoint, with those that other instances hold already
EVENTS: Final = 50  # of one lease, then the next stream has its turn
_LOOK_S: Final = 1.0  # how often a run looks for more, while it waits for receivers


class Audience:
    """Who is told of a room's events. Kept for one run of the relay: a room's tenant never changes, endpoints do."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._tenants: dict[MeetingId, TenantId | None] = {}
        self._endpoints: dict[TenantId, Sequence[WebhookEndpoint]] = {}

    async def offer(self, events: Sequence[DomainEvent]) -> None:
        """Puts the events on the streams of the endpoints that want them. Repeating it is harmless. Raises
        Unavailable."""
        self._endpoints.clear()
        offers = [
            Offer(endpoint.tenant_id, endpoint.id, event.meeting_id, event.seq)
            for event in events
            for endpoint in await self._of(event.meeting_id)
            if endpoint.wants(event.type)
        ]
        if offers:
            await self._services.webhooks.offer(offers, self._services.clock.now())

    async def _of(self, meeting_id: MeetingId) -> Sequence[WebhookEndpoint]:
        if meeting_id not in self._tenants:
            meeting = await self._services.meetings.get(meeting_id)
            self._tenants[meeting_id] = meeting.tenant_id if meeting else None
        tenant_id = self._tenants[meeting_id]
        if tenant_id is None:
            return ()
        if tenant_id not in self._endpoints:
            self._endpoints[tenant_id] = await self._services.webhooks.of_tenant(tenant_id)
        return self._endpoints[tenant_id]


async def deliver(services: Services) -> int:
    """One run: sends what is due, for RUN_S at most; gives the number of events delivered. Raises Unavailable where
    the store is away, once what was under way has ended."""
    run = _Run(services, services.clock.now() + timedelta(seconds=RUN_S))
    await run.go()
    return run.delivered


class _Run:
    def __init__(self, services: Services, until: datetime) -> None:
        self._services = services
        self._until = until
        self._running: set[asyncio.Task[None]] = set()
        self.delivered = 0

    async def go(self) -> None:
        away: Unavailable | None = None
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    leases = await self._claim()
                except Unavailable as error:
                    away = error  # not raised here: that would break off what is under way
                    break
                for lease in leases:
                    task = group.create_task(self._carry(lease))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
                if not self._running:
                    break
                await asyncio.wait(self._running, timeout=_LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        if away is not None:
            raise away

    async def _claim(self) -> Sequence[StreamLease]:
        now, free = self._services.clock.now(), STREAMS - len(self._running)
        if free <= 0 or now >= self._until:
            return ()
        return await self._services.webhooks.claim(now, limit=free, per_endpoint=PER_ENDPOINT, hold_s=HOLD_S)

    async def _carry(self, lease: StreamLease) -> None:
        """One stream's turn. What goes wrong here concerns no other: the lease ends by itself, and the next run looks
        again."""
        ids = {"webhookId": lease.endpoint_id, "meetingId": lease.meeting_id}
        with telemetry.span("webhook deliver", attributes={"parley.webhook.id": lease.endpoint_id}):
            try:
                delivered = await Turn(self._services, lease).take(self._until)
                self.delivered += delivered  # not in one line: the sum would be read before the turn
            except ParleyError as error:
                log.warning("a webhook's turn failed", extra={**ids, "error": type(error).__name__})
            except Exception:
                log.exception("a webhook's turn failed", extra=ids)


@dataclass
class Turn:
    """The sending of one room's events to one endpoint, under one lease. `standing` is how far the stream is."""

    services: Services
    lease: StreamLease
    delivered: int = 0
    held_until: datetime = field(init=False)
    standing: Settlement = field(init=False)

    def __post_init__(self) -> None:
        lease = self.lease
        self.standing = Settlement(
            lease.next_seq, None, attempts=lease.attempts, failing_since=lease.failing_since, dead=lease.dead
        )
        self.held_until = lease.held_until

    async def take(self, until: datetime) -> int:
        """Sends until nothing is left, an event fails, or the time is over; gives the number delivered. Raises
        Unavailable."""
        lease, services = self.lease, self.services
        found = await services.outbox.events(lease.meeting_id, since=lease.next_seq, limit=EVENTS)
        following = lease.last_seq + 1 if len(found) < EVENTS else found[-1].seq + 1
        for event in found:
            if event.seq > lease.last_seq or services.clock.now() >= until:
                following = event.seq
                break
            endpoint = await services.webhooks.get(lease.tenant_id, lease.endpoint_id)
            if endpoint is None:  # its streams go with it; where they went one by one and not all, this one rests
                await services.webhooks.settle(lease, replace(self.standing, due_at=None, held_until=None))
                return self.delivered
            if endpoint.status is WebhookStatus.PAUSED:
                await self._park(self.standing)
                return self.delivered
            if not endpoint.wants(event.type):
                self.standing = Settlement(event.seq + 1, None)  # without the failures of the one passed over
            elif not await self._sent(endpoint, event):
                return self.delivered
        given_back = replace(self.standing, next_seq=following, due_at=services.clock.now(), held_until=None)
        await services.webhooks.settle(lease, given_back)
        return self.delivered

    async def _sent(self, endpoint: WebhookEndpoint, event: DomainEvent) -> bool:
        """Sends the event and settles. True where it was taken and the lease is still ours."""
        if self.services.clock.now() + timedelta(seconds=SEND_TIMEOUT_S) > self.held_until:
            return False  # this process stood still: somebody else may be sending by the time that we are done
        attempts = self.standing.attempts + 1
        answer, attempt = await self._attempt(endpoint, event, attempts)
        now = self.services.clock.now()
        if answer.is_success:
            self.delivered += 1
            self.held_until = now + timedelta(seconds=HOLD_S)
            self.standing = Settlement(event.seq + 1, now, held_until=self.held_until)
            return await self.services.webhooks.settle(self.lease, self.standing, attempt)
        since = self.standing.failing_since or attempt.at
        again = next_attempt(now, failing_since=since, attempts=attempts, seed=f"{endpoint.id}/{event.id}")
        failed = Settlement(event.seq, again, attempts=attempts, failing_since=since)
        if again is not None:
            await self.services.webhooks.settle(self.lease, failed, attempt)
        else:
            await self._give_up(endpoint.id, failed, attempt)
        return False

    async def _attempt(
        self, endpoint: WebhookEndpoint, event: DomainEvent, number: int
    ) -> tuple[WebhookAnswer, WebhookAttempt]:
        services, began = self.services, self.services.clock.now()
        body = encode_event(event).encode()
        secrets = [
            await services.webhook_secrets.open(secret.sealed, endpoint.id) for secret in endpoint.valid_secrets(began)
        ]
        headers = delivery_headers(event, body, webhook_id=endpoint.id, attempt=number, secrets=secrets, now=began)
        answer = await services.webhook_sender.send(endpoint.url, body, headers)
        took = services.clock.now() - began
        outcome = AttemptOutcome.DELIVERED if answer.is_success else AttemptOutcome.FAILED
        return answer, WebhookAttempt(
            id=services.ids.new(),
            endpoint_id=endpoint.id,
            meeting_id=event.meeting_id,
            seq=event.seq,
            event_id=event.id,
            event_type=event.type,
            at=began,
            attempt=number,
            outcome=outcome,
            status=answer.status,
            error=answer.error,
            duration_ms=max(0, round(took.total_seconds() * 1000)),
        )

    async def _give_up(self, endpoint_id: WebhookId, failed: Settlement, attempt: WebhookAttempt) -> None:
        """The endpoint is paused first: the other way round, a crash in between would leave a stream that nobody
        wakes."""
        now = self.services.clock.now()
        await changing(
            self.services,
            self.lease.tenant_id,
            endpoint_id,
            lambda endpoint: paused_for(endpoint, PauseReason.DEAD_EVENT, now),
        )
        log.warning("a webhook is paused", extra={"webhookId": endpoint_id, "meetingId": self.lease.meeting_id})
        await self._park(replace(failed, dead=True), replace(attempt, outcome=AttemptOutcome.DEAD))

    async def _park(self, settlement: Settlement, attempt: WebhookAttempt | None = None) -> None:
        """Puts the stream of a paused endpoint aside, until it is resumed. Who resumes wakes what is parked; if that
        came between our look and our parking, we do it."""
        parked = replace(settlement, due_at=None, held_until=None)
        if not await self.services.webhooks.settle(self.lease, parked, attempt):
            return
        endpoint = await self.services.webhooks.get(self.lease.tenant_id, self.lease.endpoint_id)
        if endpoint is not None and endpoint.status is WebhookStatus.ACTIVE:
            await self.services.webhooks.wake(endpoint.id, self.services.clock.now())
