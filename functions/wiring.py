"""Builds the one set of services that HTTP, timers and queue messages share (see `functions/provider.py`).

The only module here that knows settings and adapters; importing it pulls in SQLAlchemy, redis and the rest. Adapters
connect with their first command: building touches no network. SDKs of services that not every installation uses are
imported by name, where a setting asks for them: they take a third of a second each.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from importlib import import_module
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from conference import telemetry
from conference.adapters.argon2 import Argon2Hasher
from conference.adapters.credentials import ProcessCredential
from conference.adapters.entra import EntraCallerVerifier
from conference.adapters.files import FilesMediaFiles
from conference.adapters.files.links import Links
from conference.adapters.http_json import HttpJson
from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.key_ring import FileKeyRing
from conference.adapters.oidc import OidcCallerVerifier
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.limits import RedisRateLimiter
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.redis.wiring import open_redis
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.stores import open_chosen_stores
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.turn import TurnIceServers
from conference.adapters.webhook_http import HttpWebhookSender
from conference.adapters.webhook_secrets import SealedWebhookSecrets
from conference.domain.ids import Secret
from conference.domain.meetings import MediaProvider as ProviderName
from conference.ports.clock import Ids
from conference.ports.keys import KeyRing
from conference.ports.media_provider import MediaProvider, OwnMedia
from conference.ports.notifier import Notifier, Silent
from conference.ports.tokens import CallerVerifier, SigningKeys
from conference.settings import Settings, settings
from functions.services import ApiConfig, Services

if TYPE_CHECKING:
    from conference.adapters.acs.wiring import Acs
    from conference.adapters.azure.wiring import AzureAdapters
    from conference.adapters.livekit import LiveKitRooms

Close = Callable[[], Awaitable[None]]
SERVICE_NAME = "parley-functions"


class Wiring:
    """The services, and how to close what they hold."""

    def __init__(self, services: Services, closers: tuple[Close, ...]) -> None:
        self.services = services
        self._closers = closers

    async def close(self) -> None:
        """In reverse order of building."""
        for close in reversed(self._closers):
            await close()


async def build(chosen: Settings | None = None) -> Wiring:
    """The services of these settings (default: the process's). Raises pydantic.ValidationError, ValueError."""
    chosen = chosen or settings()
    telemetry.configure(SERVICE_NAME, chosen)
    logging.getLogger().addFilter(_wanted)
    ids, clock = SystemIds(), SystemClock()
    credential = ProcessCredential(chosen)
    azure = _azure(chosen, credential)
    queue = azure.event_queue() if azure and chosen.queues == "azure" else None
    opened = open_chosen_stores(ids, chosen, credential, queue)
    stores = opened.stores
    redis, close_redis = open_redis(chosen, credential)
    signing_keys, ring = _keys(chosen, azure, ids)
    public_keys = OwnPublicKeys(signing_keys)
    passwords = Argon2Hasher()
    sender = HttpWebhookSender(ca_file=chosen.ca_file, loopback=_loopback_webhooks(chosen))
    providers, notifier, close_providers = _services_elsewhere(chosen, credential)

    async def close_passwords() -> None:
        passwords.close()

    services = Services(
        config=_config(chosen),
        clock=clock,
        ids=ids,
        meetings=stores.meetings,
        users=stores.users,
        recordings=stores.recordings,
        transcripts=stores.transcripts,
        audit=stores.audit,
        outbox=stores.outbox,
        queue=stores.queue,
        media_files=azure.media_files() if azure and chosen.media_files == "azure" else _media_folder(chosen, clock),
        presence=RedisPresence(RedisClient(redis), process_id="functions", room_ttl_s=chosen.room_ttl_seconds),
        limiter=RedisRateLimiter(redis),
        callers=_callers(chosen),
        tokens=JwtTokens(issuer=chosen.public_url, keys=public_keys, signing=signing_keys),
        signing_keys=signing_keys,
        public_keys=public_keys,
        passwords=passwords,
        ice=_ice_servers(chosen),
        webhooks=stores.webhooks,
        webhook_sender=sender,
        webhook_secrets=SealedWebhookSecrets(ring),
        providers=providers,
        notifier=notifier,
    )
    cloud = (azure.aclose,) if azure else ()
    closers = (credential.aclose, *cloud, opened.close, close_redis, close_passwords, sender.close, *close_providers)
    return Wiring(services, closers)


def _wanted(record: logging.LogRecord) -> bool:
    """AsgiFunctionApp logs every answer, tokens and all, at DEBUG on the root logger: never let that out. The Cosmos DB
    client tells there, at INFO, of every reading of the change feed."""
    return record.module not in ("_http_asgi", "change_feed_state")


def _config(chosen: Settings) -> ApiConfig:
    return ApiConfig(
        region=chosen.region,
        signaling_url=chosen.websocket_url,
        oidc_issuer=chosen.oidc_issuer,
        oidc_client_id=chosen.oidc_client_id,
        # On one machine the setting names the loopback port, which is no address for a browser.
        oidc_discovery_url=chosen.oidc_discovery_url if chosen.oidc_provider == "entra" else "",
        join_token_life=timedelta(seconds=chosen.join_token_seconds),
        consent_token_life=timedelta(seconds=chosen.consent_token_seconds),
        join_early=timedelta(minutes=chosen.join_early_minutes),
        idle_room_s=float(chosen.room_ttl_seconds),
        retention=timedelta(days=chosen.retention_days),
        requests_per_minute=chosen.rate_limit_per_minute,
        loopback_webhooks=_loopback_webhooks(chosen),
        public_url=chosen.public_url,
        media_provider=ProviderName(chosen.media_provider),
    )


def _azure(chosen: Settings, credential: ProcessCredential) -> "AzureAdapters | None":
    if "azure" not in (chosen.queues, chosen.media_files) and not chosen.keyvault_url:
        return None
    made = import_module("conference.adapters.azure.wiring").AzureAdapters(chosen, credential)
    return cast("AzureAdapters", made)


def _keys(chosen: Settings, azure: "AzureAdapters | None", ids: Ids) -> tuple[SigningKeys, KeyRing]:
    """What signs tokens, and what seals other secrets: the vault where there is one, else files."""
    if azure and chosen.keyvault_url:
        return azure.signing_keys(ids), azure.key_ring()
    return FileSigningKeys(chosen.keys_folder, ids), FileKeyRing(chosen.keys_folder / "ring")


def _media_folder(chosen: Settings, clock: SystemClock) -> FilesMediaFiles:
    folder = chosen.media_folder
    return FilesMediaFiles(folder, clock, Links.of(folder, chosen.public_url))


def _services_elsewhere(
    chosen: Settings, credential: ProcessCredential
) -> tuple[dict[ProviderName, MediaProvider], Notifier, tuple[Close, ...]]:
    """The media providers that are set up, and e-mail."""
    providers: dict[ProviderName, MediaProvider] = {ProviderName.PARLEY: OwnMedia()}
    notifier: Notifier = Silent()
    closers: tuple[Close, ...] = ()
    if chosen.livekit_url and chosen.livekit_secret:
        secret = Secret(chosen.livekit_secret.get_secret_value())
        made = import_module("conference.adapters.livekit")
        livekit = cast(
            "LiveKitRooms",
            made.LiveKitRooms(chosen.livekit_url, chosen.livekit_key, secret, ca_file=chosen.ca_file),
        )
        providers[ProviderName.LIVEKIT], closers = livekit, (livekit.close,)
    if chosen.acs_endpoint:
        acs = cast("Acs", import_module("conference.adapters.acs.wiring").build(chosen, credential.token))
        providers[ProviderName.ACS], notifier = acs.rooms, acs.email or notifier
        closers = (*closers, *acs.closers)
    return providers, notifier, closers


def _loopback_webhooks(chosen: Settings) -> bool:
    return chosen.environment != "production"


def _callers(chosen: Settings) -> CallerVerifier:
    """Raises ValueError where the settings of Entra ID do not fit together."""
    fetch_json = HttpJson(ca_file=chosen.ca_file)
    tenants = frozenset(_listed(chosen.oidc_tenants))
    skew = timedelta(seconds=chosen.clock_skew_seconds)
    if chosen.oidc_provider == "entra":
        return EntraCallerVerifier(
            issuer=chosen.oidc_issuer,
            audiences=frozenset(_listed(chosen.oidc_audience)),
            fetch_json=fetch_json,
            discovery_url=chosen.oidc_discovery_url,
            tenants=tenants,
            clients=frozenset(_listed(chosen.oidc_clients)),
            scope=chosen.oidc_scope,
            admin_role=chosen.admin_role,
            admin_groups=frozenset(_listed(chosen.admin_groups)),
            skew=skew,
        )
    return OidcCallerVerifier(
        issuer=chosen.oidc_issuer,
        audience=chosen.oidc_audience,
        fetch_json=fetch_json,
        discovery_url=chosen.oidc_discovery_url,
        tenants=tenants,
        admin_role=chosen.admin_role,
        skew=skew,
    )


def _ice_servers(chosen: Settings) -> TurnIceServers:
    secret, previous = _secret(chosen.turn_secret), _secret(chosen.turn_secret_previous)
    return TurnIceServers(_listed(chosen.turn_urls), secret, previous=previous)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value else None
