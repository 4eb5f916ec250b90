"""Prometheus metrics of the SFU worker, read from the node when they are scraped. Labels carry no ids: what single
tracks and subscribers do is added up.
"""

from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from conference.ports.forwarding import EngineSnapshot, WorkerStats
from media_workers.sfu.core import Core

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


# Upper bounds of the estimates of links, in bits per second.
ESTIMATE_BUCKETS: Final = (50e3, 100e3, 200e3, 400e3, 800e3, 1.5e6, 3e6, 6e6, 12e6)


def _distribution(name: str, text: str, values: Sequence[float], bounds: Sequence[float]) -> Metric:
    """A histogram of what is there now (not of what has been)."""
    family = HistogramMetricFamily(name, text)
    buckets = [(str(bound), float(sum(value <= bound for value in values))) for bound in bounds]
    family.add_metric([], [*buckets, ("+Inf", float(len(values)))], sum(values))
    return family


def _labelled(family: GaugeMetricFamily | CounterMetricFamily, values: dict[str, float]) -> Metric:
    for label, value in sorted(values.items()):
        family.add_metric([label], value)
    return family


def media_metrics(snapshot: EngineSnapshot) -> Iterable[Metric]:
    """What the engine's tracks, subscribers and workers do now."""
    estimates = [s.estimate_bps for s in snapshot.subscribers if s.estimate_bps is not None]
    text = "Estimated bandwidth towards the subscribers of now."
    yield _distribution("parley_sfu_estimate_bps", text, estimates, ESTIMATE_BUCKETS)
    paused: Tally[str] = Tally({"hidden": 0, "last-n": 0, "bandwidth": 0})
    for subscriber in snapshot.subscribers:
        paused.update(subscriber.paused)
    family = GaugeMetricFamily("parley_sfu_paused_videos", "Videos that are held back, by reason.", labels=["reason"])
    yield _labelled(family, {reason: float(count) for reason, count in paused.items()})
    layers: Tally[str] = Tally()
    for track in snapshot.tracks:
        layers.update({str(place): layer.bitrate_bps for place, layer in enumerate(track.layers)})
    text = "What publishers send, by the place of the layer among those of its track."
    yield _labelled(GaugeMetricFamily("parley_sfu_layer_bps", text, labels=["place"]), dict(layers))
    sent = sum(subscriber.sent_bps for subscriber in snapshot.subscribers)
    yield GaugeMetricFamily("parley_sfu_sent_bps", "What is sent to subscribers.", sent)
    requests = sum(track.key_frame_requests for track in snapshot.tracks)
    yield GaugeMetricFamily("parley_sfu_key_frame_requests", "Key frames asked of the tracks of now.", requests)
    yield from _worker_metrics(snapshot.workers)


def _worker_metrics(workers: Sequence[WorkerStats]) -> Iterable[Metric]:
    cpu = CounterMetricFamily("parley_sfu_worker_cpu_seconds_total", "CPU time, by packet worker.", labels=["worker"])
    yield _labelled(cpu, {str(one.worker): one.cpu_s for one in workers})
    held = GaugeMetricFamily("parley_sfu_worker_transports", "Transports, by packet worker.", labels=["worker"])
    yield _labelled(held, {str(one.worker): one.transports for one in workers})
    queued = sum(one.queued for one in workers)
    yield GaugeMetricFamily("parley_sfu_queued_packets", "Packets that wait in pacers.", queued)
    dropped = sum(one.pipe_dropped for one in workers)
    text = "Packets that found no place between two packet workers."
    yield CounterMetricFamily("parley_sfu_worker_pipe_dropped_total", text, dropped)


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
            (
                "parley_sfu_refused_tracks_total",
                "Tracks that a subscriber cannot decode.",
                core.counters.refused_tracks,
            ),
            ("parley_sfu_data_messages_total", "Messages taken from data channels.", core.counters.data_messages),
            ("parley_sfu_data_refused_total", "Data channel messages that were ignored.", core.counters.data_refused),
        ):
            yield CounterMetricFamily(name, text, value)
        dropped = CounterMetricFamily("parley_sfu_dropped_total", "Packets dropped, by reason.", labels=["reason"])
        for reason, count in sorted(stats.dropped.items()):
            dropped.add_metric([reason], count)
        yield dropped
        yield from media_metrics(core.engine.snapshot())


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
