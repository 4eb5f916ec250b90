"""Builds the tunnel gateway from the settings."""

import secrets
import string
import time
from typing import Final

from conference import telemetry
from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.srtp import SrtpContext
from conference.adapters.system import SystemIds
from conference.protocol.http_origin import page_origins
from conference.settings import Settings, settings
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


def build(chosen: Settings | None = None) -> tuple[TunnelWorker, tuple[str, int]]:
    """The worker, and the host and port it is to bind. Raises pydantic.ValidationError. Call it in the event loop."""
    chosen = chosen or settings()
    telemetry.configure("parley-tunnel", chosen)
    options = Options(
        signaling_url=f"ws://{chosen.signaling_host}:{chosen.signaling_port}/v1/signal",
        origins=page_origins(chosen.public_url, chosen.allowed_origins),
        sessions=chosen.tunnel_sessions,
    )
    return TunnelWorker(options, SystemIds(), Metrics(), frame_services()), (chosen.tunnel_host, chosen.tunnel_port)
