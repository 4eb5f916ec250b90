"""Prometheus metrics of the TURN server, read from its counts when they are asked for."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from local.turn.core import TurnCore


class TurnMetrics(Collector):
    """`registry` holds them. The success rate is made / (made + refused + auth failures)."""

    def __init__(self, core: TurnCore) -> None:
        self._core = core
        self.registry = CollectorRegistry()
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        counts = self._core.counts
        yield GaugeMetricFamily("parley_turn_allocations", "Allocations that are live.", self._core.allocations)
        counters = (
            ("parley_turn_allocations_made", "Allocate requests that succeeded.", counts.made),
            ("parley_turn_allocations_refused", "Allocate requests refused with good credentials.", counts.refused),
            ("parley_turn_auth_failures", "Requests with wrong or expired credentials.", counts.auth_failures),
            ("parley_turn_egress_bytes", "Bytes sent to peers.", counts.egress_bytes),
            ("parley_turn_ingress_bytes", "Bytes that came from peers.", counts.ingress_bytes),
            ("parley_turn_refused_peers", "Permissions and datagrams beyond the rules.", counts.refused_peers),
            ("parley_turn_malformed", "Datagrams that are neither STUN nor channel data.", counts.malformed),
        )
        for name, text, value in counters:
            yield CounterMetricFamily(name, text, value)
