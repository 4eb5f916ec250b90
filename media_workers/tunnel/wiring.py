"""Builds the tunnel gateway from the settings."""

from conference import telemetry
from conference.adapters.system import SystemIds
from conference.settings import Settings, settings
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.worker import Options, TunnelWorker


def build(chosen: Settings | None = None) -> tuple[TunnelWorker, tuple[str, int]]:
    """The worker, and the host and port it is to bind. Raises pydantic.ValidationError. Call it in the event loop."""
    chosen = chosen or settings()
    telemetry.configure("parley-tunnel", chosen)
    listed = [chosen.public_url, *chosen.allowed_origins.split(",")]
    options = Options(
        signaling_url=f"ws://{chosen.signaling_host}:{chosen.signaling_port}/v1/signal",
        origins=frozenset(origin.strip().lower().rstrip("/") for origin in listed if origin.strip()),
        sessions=chosen.tunnel_sessions,
    )
    return TunnelWorker(options, SystemIds(), Metrics()), (chosen.tunnel_host, chosen.tunnel_port)
