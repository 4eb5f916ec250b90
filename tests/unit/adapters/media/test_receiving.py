"""The publisher's side: duplicates, losses, key frame throttling, reports, arrival feedback."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.media.receiving import Stream
from conference.ports.forwarding import TrackCodec
from conference.protocol.feedback import (
    HISTORY,
    MAX_ASKED,
    MAX_GAP,
    MAX_MISSING,
    NACK_DELAY_S,
    NACK_RETRY_S,
    NACK_TRIES,
    ArrivalLog,
    KeyFrameThrottle,
    LossTracker,
)
from conference.protocol.rtcp import SenderReport

pytestmark = pytest.mark.unit

CODEC = TrackCodec("VP8", 96, 90_000, 97, has_nack=True)


def stream() -> Stream:
    return Stream(1, "", 0, CODEC)


def receive(target: Stream, sequence: int, now: float = 0.0) -> int | None:
    return target.receive(sequence & 0xFFFF, 0, now, has_nack=True)


def test_a_key_frame_request_is_deferred_never_dropped() -> None:
    throttle = KeyFrameThrottle()
    throttle.request(0.0)
    assert throttle.take(0.0)
    throttle.request(0.1)
    throttle.request(0.2)
    assert not throttle.take(0.4)
    assert throttle.take(0.5)
    assert not throttle.take(9.0)


def test_a_new_subscribers_request_may_pass_after_200_ms() -> None:
    throttle = KeyFrameThrottle()
    throttle.request(0.0)
    throttle.take(0.0)
    throttle.request(0.05, urgent=True)
    assert not throttle.take(0.1)
    assert throttle.take(0.2)


def test_a_key_frame_answers_what_was_waiting() -> None:
    throttle = KeyFrameThrottle()
    throttle.request(0.0)
    throttle.fulfilled()
    assert not throttle.take(1.0)


def test_duplicates_and_the_too_late_are_dropped_across_the_wrap() -> None:
    target = stream()
    first = receive(target, 65_530)
    assert first is not None
    assert receive(target, 65_530) is None
    assert receive(target, 2) == first + 8
    assert receive(target, 65_531) == first + 1
    for number in range(3, HISTORY + 10):
        receive(target, number)
    assert receive(target, 65_532) is None


@given(st.lists(st.integers(-60, 60), min_size=1, max_size=300))
def test_each_number_passes_once(steps: list[int]) -> None:
    target, at, passed = stream(), 30_000, []
    for step in steps:
        at += step
        number = receive(target, at)
        if number is not None:
            passed.append(number)
    assert len(passed) == len(set(passed))


def test_a_gap_is_asked_for_again_until_it_is_given_up() -> None:
    target = stream()
    receive(target, 10)
    receive(target, 13)
    assert target.losses.due(0.0) == []
    now, asked = NACK_DELAY_S, 0
    while not target.losses.gave_up:
        asked += bool(target.losses.due(now))
        now += NACK_RETRY_S
    assert asked == NACK_TRIES


def test_what_arrives_is_not_asked_for() -> None:
    target = stream()
    receive(target, 10)
    receive(target, 13)
    receive(target, 11)
    assert [number & 0xFFFF for number in target.losses.due(1.0)] == [12]


def test_a_great_jump_asks_for_a_new_start_instead() -> None:
    losses = LossTracker()
    losses.gap(0, 1_000, 0.0)
    assert losses.due(1.0) == []
    assert losses.gave_up


def test_a_report_counts_what_was_lost_since_the_last_one() -> None:
    target = stream()
    for number in (0, 1, 2, 3, 5, 6, 7, 9):
        receive(target, number)
    block, fraction = target.report(1.0)
    assert (block.lost, block.fraction_lost, fraction) == (2, int(0.2 * 256), 0.2)
    assert block.highest_sequence == 9
    receive(target, 10)
    assert target.report(2.0)[1] == 0.0


def test_a_report_names_the_last_sender_report() -> None:
    target = stream()
    receive(target, 0)
    target.sr, target.sr_arrival = SenderReport(1, 0x1122_3344_5566_7788, 0, 0, 0), 1.0
    block, _ = target.report(1.5)
    assert (block.last_sr, block.delay) == (0x3344_5566, 32_768)


def test_regular_arrival_is_no_jitter_and_irregular_is() -> None:
    even, uneven = stream(), stream()
    for number in range(50):
        even.receive(number, number * 3_000, number / 30, has_nack=True)
        uneven.receive(number, number * 3_000, number / 30 + (number % 2) * 0.02, has_nack=True)
    assert even.report(2.0)[0].jitter <= 1
    assert uneven.report(2.0)[0].jitter > 1_000


def test_feedback_covers_gaps_between_two_calls() -> None:
    log = ArrivalLog()
    log.add(65_534, 1.0)
    assert len(log.feedback(1)) == 1
    log.add(1, 1.1)
    (packet,) = log.feedback(1)
    assert int.from_bytes(packet[12:14], "big") == 65_535, "begins where the last one ended"
    assert int.from_bytes(packet[14:16], "big") == 3
    assert packet[19] == 1, "the feedback count"
    assert log.feedback(1) == []


def reported(packet: bytes) -> tuple[int, int]:
    """(base number, count) of a feedback packet."""
    return int.from_bytes(packet[12:14], "big"), int.from_bytes(packet[14:16], "big")


def test_a_late_number_does_not_tell_again_as_lost_what_was_told_as_received() -> None:
    log = ArrivalLog()
    for number in (65_530, 65_531, 65_534, 65_535):
        log.add(number, 1.0)
    assert [reported(p) for p in log.feedback(1)] == [(65_530, 6)]
    for number in (65_532, 65_533, 0, 1):
        log.add(number, 1.1)
    assert [reported(p) for p in log.feedback(1)] == [(65_532, 2), (0, 2)]
    log.add(2, 1.2)
    assert [reported(p) for p in log.feedback(1)] == [(2, 1)]


def test_jumps_without_end_are_not_remembered_without_end() -> None:
    losses, at = LossTracker(), 0
    for _ in range(100):
        losses.gap(at, at + MAX_GAP, 0.0)
        at += MAX_GAP + 1
        assert len(losses._missing) <= MAX_MISSING
    assert losses.gave_up


def test_more_losses_than_fit_one_request_go_into_the_next() -> None:
    losses = LossTracker()
    losses.gap(0, 200, 0.0)
    losses.gap(300, 500, 0.0)
    first, second = losses.due(1.0), losses.due(1.01)
    assert (len(first), len(second)) == (MAX_ASKED, 400 - MAX_ASKED)
    assert not set(first) & set(second)


def test_higher_layers_are_asked_for_key_frames_half_as_often() -> None:
    for place, interval in ((0, 0.5), (1, 1.0)):
        throttle = Stream(1, "h", place, CODEC).key_frames
        throttle.request(0.0)
        throttle.take(0.0)
        throttle.request(0.1)
        assert not throttle.take(interval - 0.01)
        assert throttle.take(interval)
