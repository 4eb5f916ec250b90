"""Webhooks: what is stored of them, how their secrets are kept, and how a delivery is sent.

Each pair of endpoint and room is a *stream* (`conference/domain/webhook_streams.py`): two numbers, the next event to
send and the last one known, and a lease. The events themselves stay in the outbox, so a replay is a smaller number. A
store needs no transaction over two partitions: endpoints belong to their tenant's, a stream and its attempts to one of
their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from conference.domain.errors import Refused
from conference.domain.ids import MeetingId, Secret, TenantId, WebhookId
from conference.domain.webhook_streams import Settlement
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint


@dataclass(frozen=True, slots=True)
class Offer:
    """The room's event `seq` is there for the endpoint."""

    tenant_id: TenantId
    endpoint_id: WebhookId
    meeting_id: MeetingId
    seq: int


SEND_TIMEOUT_S: Final = 10.0  # of one delivery as a whole: less than a lease holds


@dataclass(frozen=True, slots=True)
class StreamLease:
    """The right to send one room's events to one endpoint, until `held_until`. `token` proves it; `attempts` counts
    the failed tries of the event `next_seq`, the first of them at `failing_since`; `dead` says that it was given up."""

    token: str
    held_until: datetime
    tenant_id: TenantId
    endpoint_id: WebhookId
    meeting_id: MeetingId
    next_seq: int
    last_seq: int
    attempts: int
    failing_since: datetime | None
    dead: bool


@dataclass(frozen=True, slots=True)
class AttemptPage:
    items: Sequence[WebhookAttempt]
    next_cursor: str | None


class WebhookStore(Protocol):
    """Endpoints, streams and the log of attempts. Raises Unavailable."""

    # --- endpoints ---

    async def create(self, endpoint: WebhookEndpoint, *, fingerprint: str, most: int) -> WebhookEndpoint | Refused:
        """Found under the same id: the stored one when the fingerprint of the request is the same (a retry). Refused:
        idempotency-conflict, too-many-webhooks (the tenant has `most`; two at once may both be the last)."""
        ...

    async def get(self, tenant_id: TenantId, endpoint_id: WebhookId) -> WebhookEndpoint | None: ...

    async def of_tenant(self, tenant_id: TenantId) -> Sequence[WebhookEndpoint]:
        """In order of creation."""
        ...

    async def change(self, endpoint: WebhookEndpoint) -> WebhookEndpoint | Refused:
        """Stores the endpoint under the next version, where the stored version is the given one. Refused: not-found,
        precondition-failed."""
        ...

    async def delete(self, tenant_id: TenantId, endpoint_id: WebhookId) -> bool:
        """With its streams and attempts. False where there was none."""
        ...

    # --- streams ---

    async def offer(self, offers: Sequence[Offer], now: datetime) -> None:
        """A stream begins with the event that is offered, or goes on to it and is due now if it was idle or parked.
        The same or an older number again changes nothing. Nothing where the endpoint or the room is gone. Each offer
        is by itself: after a failure they are repeated."""
        ...

    async def claim(self, now: datetime, *, limit: int, per_endpoint: int, hold_s: float) -> Sequence[StreamLease]:
        """Leases of streams that are due and not held, the longest due first; of one endpoint as many as leave at most
        `per_endpoint` of its streams held (claims at the same moment count each for itself). Which are due may be
        looked up over partitions and be a little old; the lease itself is a conditional write on the one stream."""
        ...

    async def settle(self, lease: StreamLease, settlement: Settlement, attempt: WebhookAttempt | None = None) -> bool:
        """Stores the settlement and logs the attempt, together. False, and nothing, where the lease is another's by
        now."""
        ...

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
        """Replay: the stream, new or not, goes on with `from_seq` and up to `last_seq` at least. A lease that somebody
        holds is void, but its time still counts: nobody sends beside them."""
        ...

    async def wake(self, endpoint_id: WebhookId, now: datetime, *, skip_dead: bool = False) -> None:
        """Resume: every stream of the endpoint that has events left and is not held is due now, with no failed
        attempts; an event that was given up is tried again, or passed over."""
        ...

    # --- the log ---

    async def attempts(
        self, endpoint_id: WebhookId, *, meeting_id: MeetingId | None = None, cursor: str | None, limit: int
    ) -> AttemptPage:
        """Newest first. Raises ProtocolError("invalid-cursor")."""
        ...

    async def prune(self, before: datetime, *, limit: int = 1_000) -> int:
        """Timer: deletes attempts older than that; gives how many."""
        ...


class WebhookSecrets(Protocol):
    """Makes signing secrets and seals them, so that the store alone gives none away."""

    def new(self) -> Secret:
        """A fresh one, of 256 bits."""
        ...

    async def seal(self, secret: Secret, endpoint_id: WebhookId) -> str:
        """The secret for the store; opens for this endpoint only. Raises Unavailable where the key cannot be had."""
        ...

    async def open(self, sealed: str, endpoint_id: WebhookId) -> Secret:
        """Raises Unavailable (not retryable) for what was sealed under another key or for another endpoint."""
        ...


SendError = Literal[
    "address-refused",  # the address, or one that the name leads to, is not on the public internet
    "name-unresolved",
    "connect-failed",
    "tls-failed",
    "timeout",
    "closed",  # the connection ended before a status came, or what came was no HTTP
]


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """The receiver's HTTP status, or why there is none."""

    status: int | None
    error: SendError | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class WebhookSender(Protocol):
    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        """Posts once, to an address that was checked, without following redirects, within SEND_TIMEOUT_S. Raises
        nothing of the network: whatever goes wrong is an answer."""
        ...
