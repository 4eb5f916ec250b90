"""Webhooks: the endpoints of a tenant, where they may be, and when a failed delivery is tried again.

An endpoint is told of its tenant's rooms. Each pair of endpoint and room is a stream of its own, in order, with one
event in flight; an endpoint that refuses an event for GIVE_UP_AFTER is paused, and nothing after that event is sent.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from conference.domain.addresses import is_special, unmapped
from conference.domain.ids import EventId, MeetingId, Redacted, TenantId, WebhookId
from conference.domain.records import EventType

MAX_URL: Final = 2_048  # characters
MAX_ENDPOINTS: Final = 20  # of a tenant
MAX_SECRETS: Final = 2  # valid at a time
PREVIOUS_SECRET_LIFE: Final = timedelta(hours=24)
GIVE_UP_AFTER: Final = timedelta(days=3)  # from the first failure of an event
FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 3_600.0

_PRINTABLE: Final = re.compile(r"[\x21-\x7e]+")
_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")
_NUMBER: Final = re.compile(r"(.*\.)?(0[xX][0-9a-fA-F]*|[0-9]+)\.?")  # what is in truth an IPv4 address, as `127.1`
_PORTS: Final = {"https": 443, "http": 80}


class WebhookStatus(StrEnum):
    ACTIVE = "active"
    PAUSED = "paused"


class PauseReason(StrEnum):
    ADMIN = "admin"
    DEAD_EVENT = "dead-event"  # an event was refused for GIVE_UP_AFTER


class AttemptOutcome(StrEnum):
    DELIVERED = "delivered"
    FAILED = "failed"  # to be tried again
    DEAD = "dead"  # the last try


@dataclass(frozen=True, slots=True, repr=False)
class SealedSecret(Redacted):
    """A signing secret as it is stored: sealed. `id` names the request that made it; `expires_at` of a former one."""

    id: str
    sealed: str
    created_at: datetime
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, repr=False)
class WebhookEndpoint(Redacted):
    """Where a tenant's events go. `events` are the types it wants, empty for every type; `secrets` the newest first."""

    id: WebhookId
    tenant_id: TenantId
    url: str
    events: tuple[EventType, ...]
    description: str
    secrets: tuple[SealedSecret, ...]
    created_at: datetime
    status: WebhookStatus = WebhookStatus.ACTIVE
    pause_reason: PauseReason | None = None
    paused_at: datetime | None = None
    version: int = 1

    def wants(self, type: EventType) -> bool:
        return not self.events or type in self.events

    def valid_secrets(self, now: datetime) -> tuple[SealedSecret, ...]:
        """Those that a delivery is signed with."""
        return tuple(secret for secret in self.secrets if secret.expires_at is None or now < secret.expires_at)

    def previous_secret_expires_at(self, now: datetime) -> datetime | None:
        """Until when deliveries are signed with the former secret too; None where they are not."""
        former = self.valid_secrets(now)[1:]
        return former[0].expires_at if former else None


@dataclass(frozen=True, slots=True, repr=False)
class WebhookAttempt(Redacted):
    """One try to deliver an event: `status` is the HTTP status where one came, else `error` says what went wrong."""

    id: str
    endpoint_id: WebhookId
    meeting_id: MeetingId
    seq: int
    event_id: EventId
    event_type: EventType
    at: datetime
    attempt: int
    outcome: AttemptOutcome
    status: int | None
    error: str | None
    duration_ms: int


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """An address taken apart. `host` is an ASCII name or an IP address without brackets; `target` path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


def parse_url(text: str, *, loopback: bool) -> WebhookUrl:
    """An address that a webhook may have: https, and where `loopback` is allowed also http to this machine.

    A name is judged once it is resolved, at each delivery; an IP address here too. Raises ValueError with a sentence.
    """
    if len(text) > MAX_URL or not _PRINTABLE.fullmatch(text) or "\\" in text:
        raise ValueError(f"The url has at most {MAX_URL} visible ASCII characters.")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("The url cannot be read.") from None
    scheme, host = parts.scheme, parts.hostname or ""
    if "[" in parts.netloc and ":" not in host:  # RFC 3986 3.2.2: a version of IP that is yet to come
        raise ValueError("The url cannot be read.")
    if scheme not in _PORTS or "@" in parts.netloc or "#" in text or port == 0:
        raise ValueError("The url is https, without user name and fragment.")
    on_this_machine = loopback and _leads_here(host)
    if _is_inside(host) and not on_this_machine:
        raise ValueError("The url has to lead to a host on the public internet.")
    if scheme == "http" and not on_this_machine:
        raise ValueError("The url is https.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return WebhookUrl(scheme, host, port or _PORTS[scheme], target)


def _leads_here(host: str) -> bool:
    """Whether a name or an address names this machine by itself, also in a notation that
    `addresses.is_loopback` does not take."""
    if _is_localhost(host):
        return True
    try:
        return unmapped(ip_address(host)).is_loopback
    except ValueError:
        return False


def _is_localhost(host: str) -> bool:
    return host.rstrip(".") == "localhost" or host.rstrip(".").endswith(".localhost")  # RFC 6761 6.3


def _is_inside(host: str) -> bool:
    """Whether the host is no name and no address on the public internet. An IPv6 zone names an interface of ours."""
    try:
        return "%" in host or is_special(ip_address(host))
    except ValueError:
        is_name = _NAME.fullmatch(host) and not _NUMBER.fullmatch(host) and len(host) <= 253
        return not is_name or _is_localhost(host)


def retry_delay_s(attempts: int, seed: str) -> float:
    """Seconds to wait after so many failed attempts: doubling from FIRST_RETRY_S to LONGEST_RETRY_S, less up to a half
    by jitter. `seed` names the event and its endpoint: the jitter is theirs, and the same on every instance."""
    whole = min(FIRST_RETRY_S * 2.0 ** min(attempts - 1, 60), LONGEST_RETRY_S)
    digest = hashlib.sha256(f"{seed}/{attempts}".encode()).digest()
    return whole * (1.0 - 0.5 * int.from_bytes(digest[:4], "big") / 2**32)


def next_attempt(now: datetime, *, failing_since: datetime, attempts: int, seed: str) -> datetime | None:
    """When an event that has failed is tried again, the last time when GIVE_UP_AFTER is over; None then: it is dead."""
    last = failing_since + GIVE_UP_AFTER
    if now >= last:
        return None
    return min(now + timedelta(seconds=retry_delay_s(attempts, seed)), last)
