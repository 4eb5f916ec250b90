"""Connection quality: falls at once, recovers after a while, `lost` when nothing is heard."""

import pytest

from conference.protocol.messages import Quality
from media_workers.sfu.quality import QualityMeter

pytestmark = pytest.mark.unit


def feed(meter: QualityMeter, loss: float, round_trip: float | None, start: int, seconds: int) -> list[Quality]:
    changes = []
    for now in range(start, start + seconds):
        meter.report(loss, round_trip, now)
        changes.append(meter.change(now))
    return [change for change in changes if change is not None]


def test_nothing_is_told_before_the_first_report() -> None:
    assert QualityMeter(0).change(100) is None


@pytest.mark.parametrize(
    ("loss", "round_trip", "quality"),
    [(0.0, None, "excellent"), (0.0, 0.1, "excellent"), (0.03, 0.1, "good"), (0.0, 0.3, "good"), (0.2, 0.1, "poor")],
)
def test_loss_and_round_trip_make_the_quality(loss: float, round_trip: float | None, quality: Quality) -> None:
    assert feed(QualityMeter(0), loss, round_trip, 0, 5) == [quality]


def test_it_falls_fast_and_recovers_slowly() -> None:
    meter = QualityMeter(0)
    feed(meter, 0.0, 0.05, 0, 5)
    assert feed(meter, 0.3, 0.05, 5, 3)[-1] == "poor"
    assert feed(meter, 0.0, 0.05, 8, 9) == []
    assert feed(meter, 0.0, 0.05, 17, 15) == ["excellent"]


def test_silence_is_lost_until_reports_come_back() -> None:
    meter = QualityMeter(0)
    feed(meter, 0.0, 0.05, 0, 3)
    assert meter.change(20) == "lost"
    assert feed(meter, 0.0, 0.05, 21, 10) == ["excellent"]


def test_a_disconnected_transport_is_lost_at_once() -> None:
    meter = QualityMeter(0)
    feed(meter, 0.0, 0.05, 0, 3)
    meter.disconnected()
    assert meter.change(3) == "lost"


def test_layers_that_the_link_does_not_carry_count() -> None:
    meter = QualityMeter(0.0)
    meter.report(0.0, 0.05, 1.0, layers_missed=0.05)
    assert meter.change(1.0) == "excellent"
    meter.report(0.0, 0.05, 2.0, layers_missed=0.4)
    assert meter.change(2.0) == "good"
    meter.report(0.0, 0.05, 3.0, layers_missed=1.0)
    meter.report(0.0, 0.05, 4.0, layers_missed=1.0)
    assert meter.change(4.0) == "poor"
