"""What the engine's snapshot becomes at /metrics: sums and distributions, no ids."""

import pytest

from conference.ports.forwarding import EngineSnapshot, LayerStats, SubscriberStats, TrackStats, WorkerStats
from media_workers.sfu.metrics import media_metrics

pytestmark = pytest.mark.unit


def layer(rid: str, rate: int) -> LayerStats:
    return LayerStats(rid, rate, 30, 0.0, 0.0, 1, 0, 0, 0)


def subscriber(estimate: int | None, paused: dict[str, int]) -> SubscriberStats:
    return SubscriberStats("secret-transport", estimate, 1_000, 0.0, None, 1, 0, paused)


SNAPSHOT = EngineSnapshot(
    (
        TrackStats("secret-track", "VP8", 1, 3, (layer("q", 100), layer("f", 900))),
        TrackStats("secret-other", "VP8", 1, 4, (layer("", 50),)),
    ),
    (subscriber(150_000, {"bandwidth": 2}), subscriber(9_000_000, {"hidden": 1}), subscriber(None, {})),
    (WorkerStats(0, 1.5, 4, 7, 1), WorkerStats(1, 0.5, 2, 0, 2)),
)


def test_single_tracks_and_subscribers_are_added_up() -> None:
    samples = [sample for metric in media_metrics(SNAPSHOT) for sample in metric.samples]
    values = {(sample.name, *sample.labels.values()): sample.value for sample in samples}
    assert values["parley_sfu_layer_bps", "0"] == 150
    assert values["parley_sfu_layer_bps", "1"] == 900
    assert values["parley_sfu_paused_videos", "bandwidth"] == 2
    assert values["parley_sfu_paused_videos", "last-n"] == 0
    assert values["parley_sfu_estimate_bps_bucket", "200000.0"] == 1
    assert values["parley_sfu_estimate_bps_bucket", "+Inf"] == 2
    assert values["parley_sfu_worker_cpu_seconds_total", "0"] == 1.5
    assert values["parley_sfu_worker_pipe_dropped_total",] == 3
    assert values["parley_sfu_key_frame_requests",] == 7


def test_no_label_names_a_track_or_a_person() -> None:
    for metric in media_metrics(SNAPSHOT):
        for sample in metric.samples:
            assert set(sample.labels) <= {"worker", "reason", "place", "le"}
