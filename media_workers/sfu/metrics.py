"""Prometheus metrics of the SFU worker, read from the node when they are scraped. Labels carry no ids."""

from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from media_workers.sfu.core import Core

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class _NodeCollector(Collector):
    def __init__(self, core: Core) -> None:
        self._core = core

    def collect(self) -> Iterable[Metric]:
        core, stats = self._core, self._core.engine.stats()
        sessions = core.sessions.values()
        publishers = sum(1 for s in sessions if s.tracks)
        subscribers = sum(1 for s in sessions if s.senders)
        yield GaugeMetricFamily("parley_sfu_publishers", "Participants that publish a track.", publishers)
        yield GaugeMetricFamily("parley_sfu_subscribers", "Participants that receive a track.", subscribers)
        yield GaugeMetricFamily("parley_sfu_rooms", "Rooms with a session on this node.", len(core.rooms))
        yield GaugeMetricFamily("parley_sfu_transports", "ICE transports.", stats.transports)
        yield GaugeMetricFamily("parley_sfu_tracks", "Published tracks.", stats.tracks)
        for name, text, value in (
            ("parley_sfu_forwarded_bytes_total", "RTP bytes sent to subscribers, before SRTP.", stats.forwarded_bytes),
            ("parley_sfu_forwarded_packets_total", "RTP packets sent to subscribers.", stats.forwarded_packets),
            ("parley_sfu_received_bytes_total", "SRTP bytes received from publishers.", stats.received_bytes),
            ("parley_sfu_received_packets_total", "SRTP packets received from publishers.", stats.received_packets),
            ("parley_sfu_retransmitted_packets_total", "Packets sent again by RTX.", stats.retransmitted_packets),
            ("parley_sfu_data_messages_total", "Messages taken from data channels.", core.counters.data_messages),
            ("parley_sfu_data_refused_total", "Data channel messages that were ignored.", core.counters.data_refused),
        ):
            yield CounterMetricFamily(name, text, value)
        dropped = CounterMetricFamily("parley_sfu_dropped_total", "Packets dropped, by reason.", labels=["reason"])
        for reason, count in sorted(stats.dropped.items()):
            dropped.add_metric([reason], count)
        yield dropped


class Metrics:
    """The registry of one worker."""

    def __init__(self, core: Core) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_NodeCollector(core))
        ProcessCollector(registry=self._registry)  # CPU seconds and resident memory
        self._errors = Counter(
            "parley_sfu_control_errors_total",
            "Control messages answered with an error.",
            ["code"],
            registry=self._registry,
        )

    def count_error(self, code: str) -> None:
        self._errors.labels(code=code).inc()

    def render(self) -> bytes:
        return generate_latest(self._registry)
