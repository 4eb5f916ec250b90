"""The REST API over the shipped memory adapters, asked without a socket. Who signs callers in is the test's choice."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.memory.limits import MemoryRateLimiter
from conference.adapters.memory.media_files import MemoryMediaFiles
from conference.adapters.memory.presence import MemoryPresence
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.signing_keys import MemorySigningKeys
from conference.adapters.turn import TurnIceServers
from conference.domain.ids import Secret
from conference.ports.tokens import CallerVerifier
from functions.app import create_app
from functions.services import ApiConfig, Services
from tests.support.webhooks import PlainSecrets, Receivers


class PlainHasher:
    """Port PasswordHasher without the work."""

    async def hash(self, password: Secret) -> Secret:
        return Secret("hashed:" + password.reveal())

    async def verify(self, password_hash: Secret, password: Secret) -> bool:
        return password_hash.reveal() == "hashed:" + password.reveal()


CONFIG = ApiConfig(
    region="local",
    signaling_url="ws://127.0.0.1:8080/v1/signal",
    oidc_issuer="http://127.0.0.1:8080/identity/tenant/v2.0",
    oidc_client_id="parley-web",
    oidc_discovery_url="",
    join_token_life=timedelta(seconds=300),
    consent_token_life=timedelta(seconds=600),
    join_early=timedelta(minutes=15),
    idle_room_s=120.0,
    retention=timedelta(days=365),
    requests_per_minute=600,
    loopback_webhooks=False,
)


def memory_services(clock: ManualClock, presence: MemoryPresence, callers: CallerVerifier) -> Services:
    """Empty stores, and everything but the sign-in."""
    ids = SequenceIds()
    stores = memory_stores(ids)
    signing_keys = MemorySigningKeys(ids)
    public_keys = OwnPublicKeys(signing_keys)
    return Services(
        config=CONFIG,
        clock=clock,
        ids=ids,
        meetings=stores.meetings,
        users=stores.users,
        recordings=stores.recordings,
        transcripts=stores.transcripts,
        audit=stores.audit,
        outbox=stores.outbox,
        queue=stores.queue,
        media_files=MemoryMediaFiles(clock),
        presence=presence,
        limiter=MemoryRateLimiter(),
        callers=callers,
        tokens=JwtTokens(issuer="http://127.0.0.1:8080", keys=public_keys, signing=signing_keys),
        signing_keys=signing_keys,
        public_keys=public_keys,
        passwords=PlainHasher(),
        ice=TurnIceServers(["turn:127.0.0.1:3478"], Secret("shared")),
        webhooks=stores.webhooks,
        webhook_sender=Receivers(),
        webhook_secrets=PlainSecrets(),
    )


class Api:
    """`client` asks."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(create_app(self)), base_url="http://api.test")

    async def services(self) -> Services:
        """Port `ServicesProvider`."""
        return self._services


@asynccontextmanager
async def api_with(clock: ManualClock, callers: CallerVerifier) -> AsyncIterator[Api]:
    api = Api(memory_services(clock, MemoryPresence(lambda: 0.0), callers))
    async with api.client:
        yield api
