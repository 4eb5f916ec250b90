"""Builds the tunnel gateway from the settings."""

import secrets
import string
import time
from typing import Final

from conference import telemetry
from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.srtp import SrtpContext
from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.presence import RedisPresence
from conference.adapters.redis.wiring import open_redis
from conference.adapters.system import SystemClock, SystemIds
from conference.adapters.worker_tokens import worker_tokens
from conference.protocol.http_origin import page_origins
from conference.settings import Settings, settings
from media_workers.tunnel.admission import Admission
from media_workers.tunnel.frames.path import Services
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.worker import Options, TunnelWorker

_LETTERS: Final = string.ascii_letters + string.digits


def frame_services() -> Services:
    """For the gateway as a WebRTC client, with cryptographic randomness."""
    return Services(
        dtls=AiortcEndpoints(),
        srtp=SrtpContext,
        clock=time.monotonic,
        token=lambda length: "".join(secrets.choice(_LETTERS) for _ in range(length)),
        number=lambda: secrets.randbits(32),
        new_id=SystemIds().new,
    )


def build(chosen: Settings | None = None) -> tuple[TunnelWorker, tuple[str, int], RedisClient]:
    """The worker, the host and port it is to bind, and the client to close after it. Raises pydantic.ValidationError,
    ValueError. Call it in the event loop."""
    chosen = chosen or settings()
    telemetry.configure("parley-tunnel", chosen)
    options = Options(
        signaling_url=f"ws://{chosen.signaling_host}:{chosen.signaling_port}/v1/signal",
        origins=page_origins(chosen.public_url, chosen.allowed_origins),
        sessions=chosen.tunnel_sessions,
    )
    metrics = Metrics()
    server, close_redis = open_redis(chosen)
    redis = RedisClient(server, close=close_redis)
    admission = Admission(worker_tokens(chosen), RedisPresence(redis), SystemClock(), metrics)
    worker = TunnelWorker(options, SystemIds(), metrics, frame_services(), admission)
    return worker, (chosen.tunnel_host, chosen.tunnel_port), redis
