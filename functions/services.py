"""What a use case may ask for: the ports, and the few settings that shape an answer.

`wiring.py` builds one `Services` for HTTP, timers and queues alike; tests build one of the shipped memory adapters.
Nothing here knows an adapter.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from conference.ports.clock import Clock, Ids
from conference.ports.limits import RateLimiter
from conference.ports.meetings import MeetingStore
from conference.ports.presence import Presence
from conference.ports.recorders import NoRecorders, Recorders
from conference.ports.records import AuditLog, EventQueue, Outbox, RecordingStore, TranscriptStore, UserStore
from conference.ports.tokens import CallerVerifier, IceServers, PasswordHasher, PublicKeys, SigningKeys, Tokens
from conference.ports.webhooks import WebhookSecrets, WebhookSender, WebhookStore

VERSION = "0.1.0"


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """Settings that answers depend on; `conference.settings` describes each."""

    region: str
    signaling_url: str
    oidc_issuer: str
    oidc_client_id: str
    join_token_life: timedelta
    consent_token_life: timedelta
    join_early: timedelta
    idle_room_s: float
    retention: timedelta
    requests_per_minute: int
    loopback_webhooks: bool


@dataclass(frozen=True, slots=True)
class Services:
    """Every port that the Functions app uses."""

    config: ApiConfig
    clock: Clock
    ids: Ids
    meetings: MeetingStore
    users: UserStore
    recordings: RecordingStore
    transcripts: TranscriptStore
    audit: AuditLog
    outbox: Outbox
    queue: EventQueue
    presence: Presence
    limiter: RateLimiter
    callers: CallerVerifier
    tokens: Tokens
    signing_keys: SigningKeys
    public_keys: PublicKeys
    passwords: PasswordHasher
    ice: IceServers
    webhooks: WebhookStore
    webhook_sender: WebhookSender
    webhook_secrets: WebhookSecrets
    recorders: Recorders = field(default_factory=NoRecorders)


class ServicesProvider(Protocol):
    """Gives the one Services object; the first call builds it."""

    async def services(self) -> Services:
        """Raises Unavailable where a store cannot be opened yet; the next call tries again."""
        ...
