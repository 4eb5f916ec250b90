"""Prometheus metrics of the tunnel gateway, in a registry of their own (names in docs/operations.md)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector, generate_latest

from conference.protocol.tunnel.frame import FrameType


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.sessions = Gauge("parley_tunnel_sessions", "Sessions that are open.", registry=registry)
        self.wires = Counter("parley_tunnel_wires", "Wires that were attached, by kind.", ["kind"], registry=registry)
        self.bytes = Counter("parley_tunnel_bytes", "Bytes of frames, by direction.", ["direction"], registry=registry)
        self.dropped = Counter("parley_tunnel_dropped", "Frames that died, by type.", ["type"], registry=registry)
        self.refused = Counter("parley_tunnel_refused", "What was refused, by code.", ["code"], registry=registry)
        self.ends = Counter("parley_tunnel_ends", "Sessions that ended, by code.", ["code"], registry=registry)
        self.token_refusals = Counter("parley_token_refusals", "Tunnel tokens refused.", ["reason"], registry=registry)
        ProcessCollector(registry=registry)

    def died(self, type_: FrameType, count: int = 1) -> None:
        self.dropped.labels(type_.name.lower()).inc(count)

    def text(self) -> bytes:
        """The exposition of now."""
        return generate_latest(self.registry)
