"""Builds the one set of services that HTTP, timers and queue messages share (see `functions/provider.py`).

The only module here that knows settings and adapters; importing it pulls in SQLAlchemy, redis and the rest. Adapters
connect with their first command: building touches no network.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from conference import telemetry
from conference.adapters.argon2 import Argon2Hasher
from conference.adapters.http_json import HttpJson
from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.oidc import OidcCallerVerifier
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.limits import RedisRateLimiter
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.stores import CosmosAccount, open_stores
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.turn import TurnIceServers
from conference.domain.ids import Secret
from conference.settings import Settings, settings
from functions.services import ApiConfig, Services

if TYPE_CHECKING:
    from azure.core.credentials_async import AsyncTokenCredential

SERVICE_NAME = "parley-functions"


class Wiring:
    """The services, and how to close what they hold."""

    def __init__(self, services: Services, closers: tuple[Callable[[], Awaitable[None]], ...]) -> None:
        self.services = services
        self._closers = closers

    async def close(self) -> None:
        """In reverse order of building."""
        for close in reversed(self._closers):
            await close()


async def build(chosen: Settings | None = None, credential: "AsyncTokenCredential | None" = None) -> Wiring:
    """The services of these settings (default: the process's). `credential` enters Azure's services.

    Raises pydantic.ValidationError, ValueError."""
    chosen = chosen or settings()
    telemetry.configure(SERVICE_NAME, chosen)
    logging.getLogger().addFilter(_no_answers)
    ids = SystemIds()
    opened = open_stores(ids, sql_url=chosen.sql_url, cosmos=_cosmos(chosen, credential))
    stores = opened.stores
    redis = connect(chosen.redis_url, cluster=chosen.redis_cluster)
    signing_keys = FileSigningKeys(chosen.keys_folder, ids)
    public_keys = OwnPublicKeys(signing_keys)
    passwords = Argon2Hasher()

    async def close_passwords() -> None:
        passwords.close()

    services = Services(
        config=_config(chosen),
        clock=SystemClock(),
        ids=ids,
        meetings=stores.meetings,
        users=stores.users,
        recordings=stores.recordings,
        transcripts=stores.transcripts,
        audit=stores.audit,
        outbox=stores.outbox,
        queue=stores.queue,
        presence=RedisPresence(RedisClient(redis), process_id="functions", room_ttl_s=chosen.room_ttl_seconds),
        limiter=RedisRateLimiter(redis),
        callers=_callers(chosen),
        tokens=JwtTokens(issuer=chosen.public_url, keys=public_keys, signing=signing_keys),
        signing_keys=signing_keys,
        public_keys=public_keys,
        passwords=passwords,
        ice=_ice_servers(chosen),
    )
    return Wiring(services, (opened.close, redis.aclose, close_passwords))


def _no_answers(record: logging.LogRecord) -> bool:
    """AsgiFunctionApp logs every answer, tokens and all, at DEBUG on the root logger: never let that out. Nor the
    Cosmos DB client's remark at each reading of a change feed."""
    return record.module not in ("_http_asgi", "change_feed_state")


def _config(chosen: Settings) -> ApiConfig:
    return ApiConfig(
        region=chosen.region,
        signaling_url=chosen.websocket_url,
        oidc_issuer=chosen.oidc_issuer,
        oidc_client_id=chosen.oidc_client_id,
        join_token_life=timedelta(seconds=chosen.join_token_seconds),
        consent_token_life=timedelta(seconds=chosen.consent_token_seconds),
        join_early=timedelta(minutes=chosen.join_early_minutes),
        idle_room_s=float(chosen.room_ttl_seconds),
        retention=timedelta(days=chosen.retention_days),
        requests_per_minute=chosen.rate_limit_per_minute,
    )


def _cosmos(chosen: Settings, credential: "AsyncTokenCredential | None") -> CosmosAccount | None:
    if not chosen.uses_cosmos:
        return None
    return CosmosAccount(chosen.cosmos_endpoint, chosen.cosmos_database, _secret(chosen.cosmos_key), credential)


def _callers(chosen: Settings) -> OidcCallerVerifier:
    return OidcCallerVerifier(
        issuer=chosen.oidc_issuer,
        audience=chosen.oidc_audience,
        fetch_json=HttpJson(ca_file=chosen.ca_file),
        discovery_url=chosen.oidc_discovery_url,
        tenants=frozenset(_listed(chosen.oidc_tenants)),
        admin_role=chosen.admin_role,
        skew=timedelta(seconds=chosen.clock_skew_seconds),
    )


def _ice_servers(chosen: Settings) -> TurnIceServers:
    secret, previous = _secret(chosen.turn_secret), _secret(chosen.turn_secret_previous)
    return TurnIceServers(_listed(chosen.turn_urls), secret, previous=previous)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value else None
