"""Prometheus metrics of the signaling worker, in a registry of their own (names in docs/operations.md)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest


class Metrics:
    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.connections = Gauge("parley_signaling_connections", "Open WebSocket connections.", registry=registry)
        self.rooms = Gauge("parley_signaling_rooms", "Rooms with a person on this process.", registry=registry)
        self.messages = Counter(
            "parley_signaling_messages", "Messages by direction and type.", ["direction", "type"], registry=registry
        )
        self.redis = Histogram(
            "parley_redis_seconds",
            "Time of a presence command.",
            ["command"],
            buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 2.5),
            registry=registry,
        )
        self.token_refusals = Counter(
            "parley_token_refusals", "Join tokens and resume secrets refused.", ["reason"], registry=registry
        )
        self.closes = Counter(
            "parley_signaling_closes", "Connections closed by this side.", ["code"], registry=registry
        )
        self.dropped = Counter(
            "parley_signaling_dropped", "What a bounded queue had no place for.", ["queue"], registry=registry
        )
        self.resumes = Counter("parley_signaling_resumes", "Connections taken up again.", ["kind"], registry=registry)
        self.store_retries = Counter(
            "parley_signaling_store_retries", "Store writes to be repeated.", registry=registry
        )
        self.stats_reports = Counter("parley_signaling_stats_reports", "Stats messages of clients.", registry=registry)
        self.switches = Counter(
            "parley_topology_switches", "Switches between mesh and SFU.", ["to", "reason"], registry=registry
        )
        self.sfu_links = Gauge("parley_signaling_sfu_links", "Control links that are up.", registry=registry)
        ProcessCollector(registry=registry)  # process_cpu_seconds_total, process_resident_memory_bytes

    def observe_redis(self, command: str, seconds: float) -> None:
        self.redis.labels(command).observe(seconds)

    def text(self) -> bytes:
        """The exposition of now."""
        return generate_latest(self.registry)
