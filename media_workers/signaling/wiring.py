"""Builds the signaling worker from the settings: the only module here that knows adapters and settings.

Adapters connect with their first command: building touches no network.
"""

import uuid
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import TYPE_CHECKING, cast

from pydantic import SecretStr

from conference import telemetry
from conference.adapters.credentials import ProcessCredential
from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.redis.wiring import open_redis
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.stores import open_chosen_stores
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.turn import TurnIceServers
from conference.adapters.worker_tokens import worker_tokens
from conference.domain.ids import Secret
from conference.protocol.http_origin import page_origins
from conference.protocol.session import Limits
from conference.protocol.topology import Rules
from conference.settings import Settings, settings
from media_workers.signaling.metrics import Metrics
from media_workers.signaling.services import Options, Services
from media_workers.signaling.worker import SignalingWorker

if TYPE_CHECKING:
    from conference.adapters.azure.wiring import AzureAdapters

SERVICE_NAME = "parley-signaling"


class Wiring:
    """The worker, the host and port it is to bind, and how to close what it was built from."""

    def __init__(
        self, worker: SignalingWorker, address: tuple[str, int], closers: tuple[Callable[[], Awaitable[None]], ...]
    ) -> None:
        self.worker = worker
        self.address = address
        self._closers = closers

    async def close(self) -> None:
        for close in self._closers:
            await close()


def build(chosen: Settings | None = None) -> Wiring:
    """From these settings (default: the process's). Raises pydantic.ValidationError, ValueError. Call it inside the
    event loop."""
    chosen = chosen or settings()
    telemetry.configure(SERVICE_NAME, chosen)
    metrics, ids = Metrics(), SystemIds()
    process_id = str(uuid.uuid4())
    credential = ProcessCredential(chosen)
    server, close_redis = open_redis(chosen, credential)
    redis = RedisClient(server, observe=metrics.observe_redis)
    opened = open_chosen_stores(ids, chosen, credential)
    azure = _vault(chosen, credential)
    # For the service tokens of the control link, and for tunnel tokens.
    signing = azure.signing_keys(ids) if azure else FileSigningKeys(chosen.keys_folder, ids)
    services = Services(
        process_id=process_id,
        clock=SystemClock(),
        ids=ids,
        tokens=worker_tokens(chosen, signing),
        presence=RedisPresence(redis, process_id=process_id, room_ttl_s=chosen.room_ttl_seconds),
        nodes=RedisMediaNodes(redis),
        meetings=opened.stores.meetings,
        users=opened.stores.users,
        ice_servers=_ice_servers(chosen),
        metrics=metrics,
        options=options_of(chosen),
    )
    address = (chosen.signaling_host, chosen.signaling_port)
    closers = (close_redis, opened.close, *((azure.aclose,) if azure else ()), credential.aclose)
    return Wiring(SignalingWorker(services), address, closers)


def options_of(chosen: Settings) -> Options:
    return Options(
        region=chosen.region,
        lease_s=chosen.lease_seconds,
        resume_s=float(chosen.resume_seconds),
        tunnel_url=chosen.public_url.rstrip("/") + "/v1/tunnel/sessions",
        origins=page_origins(chosen.public_url, chosen.allowed_origins),
        debug_hooks=chosen.debug_hooks and chosen.environment != "production",
        touch_s=min(10.0, chosen.room_ttl_seconds / 3),
        topology=Rules(
            limit=chosen.mesh_limit, calm_s=chosen.mesh_calm_seconds, deadline_s=chosen.topology_deadline_seconds
        ),
        limits=Limits(
            ping_s=chosen.ping_seconds,
            silence_s=chosen.ping_seconds * 2 + 5,
            messages_per_s=chosen.message_rate,
            burst=chosen.message_burst,
        ),
    )


def _vault(chosen: Settings, credential: ProcessCredential) -> "AzureAdapters | None":
    """Imported by name: only where a vault wraps the signing keys."""
    if not chosen.keyvault_url:
        return None
    made = import_module("conference.adapters.azure.wiring").AzureAdapters(chosen, credential)
    return cast("AzureAdapters", made)


def _ice_servers(chosen: Settings) -> TurnIceServers:
    secret, previous = _secret(chosen.turn_secret), _secret(chosen.turn_secret_previous)
    return TurnIceServers(_listed(chosen.turn_urls), secret, previous=previous)


def _secret(value: SecretStr | None) -> Secret | None:
    return Secret(value.get_secret_value()) if value else None


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
