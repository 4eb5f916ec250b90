"""Builds the signaling worker from the settings: the only module here that knows adapters and settings.

Adapters connect with their first command: building touches no network.
"""

import uuid
from collections.abc import Awaitable, Callable

from conference import telemetry
from conference.adapters.http_json import HttpJson
from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.public_keys import RemotePublicKeys
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.sql import open_database, sql_stores
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.turn import TurnIceServers
from conference.domain.ids import Secret
from conference.protocol.http_origin import page_origins
from conference.protocol.session import Limits
from conference.protocol.topology import Rules
from conference.settings import Settings, settings
from media_workers.signaling.metrics import Metrics
from media_workers.signaling.services import Options, Services
from media_workers.signaling.worker import SignalingWorker

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
    redis = RedisClient(connect(chosen.redis_url, cluster=chosen.redis_cluster), observe=metrics.observe_redis)
    database = open_database(chosen.sql_url)
    stores = sql_stores(database, ids)
    services = Services(
        process_id=process_id,
        clock=SystemClock(),
        ids=ids,
        tokens=_tokens(chosen, ids),
        presence=RedisPresence(redis, process_id=process_id, room_ttl_s=chosen.room_ttl_seconds),
        nodes=RedisMediaNodes(redis),
        meetings=stores.meetings,
        users=stores.users,
        ice_servers=_ice_servers(chosen),
        metrics=metrics,
        options=options_of(chosen),
    )
    address = (chosen.signaling_host, chosen.signaling_port)
    return Wiring(SignalingWorker(services), address, (redis.close, database.close))


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


def _tokens(chosen: Settings, ids: SystemIds) -> JwtTokens:
    """Verifies with the API's published keys; signs service tokens for the control link, and tunnel tokens, with the
    shared set."""
    jwks_url = chosen.jwks_url or chosen.public_url.rstrip("/") + "/.well-known/jwks.json"
    fetch = HttpJson(ca_file=chosen.ca_file, allow_http=chosen.environment != "production")
    signing = FileSigningKeys(chosen.keys_folder, ids)
    return JwtTokens(issuer=chosen.public_url, keys=RemotePublicKeys(jwks_url, fetch), signing=signing)


def _ice_servers(chosen: Settings) -> TurnIceServers:
    secret, previous = (
        Secret(value.get_secret_value()) if value else None
        for value in (chosen.turn_secret, chosen.turn_secret_previous)
    )
    return TurnIceServers(_listed(chosen.turn_urls), secret, previous=previous)


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
