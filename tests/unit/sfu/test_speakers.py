"""Active speakers: quick to appear, slow to go, steady at the top."""

import pytest

from media_workers.sfu.speakers import SpeakerDetector

pytestmark = pytest.mark.unit

SPEECH, LOUD, QUIET, SILENCE = 30, 18, 70, 127


def run(detector: SpeakerDetector, levels: dict[str, int], *, start: float, seconds: float) -> list[list[str]]:
    """Feeds the levels five times a second; what was told, as keys."""
    told = []
    for step in range(round(seconds * 5)):
        speakers = detector.update(levels, start + step / 5)
        if speakers is not None:
            told.append([key for key, _ in speakers])
    return told


def test_nobody_speaks_in_silence() -> None:
    assert run(SpeakerDetector(), {"a": SILENCE, "b": QUIET}, start=0, seconds=3) == []


def test_a_voice_is_told_within_a_second_and_goes_after_a_pause() -> None:
    detector = SpeakerDetector()
    assert run(detector, {"a": SPEECH, "b": SILENCE}, start=0, seconds=1)[0] == ["a"]
    gone = run(detector, {"a": SILENCE, "b": SILENCE}, start=1, seconds=5)
    assert gone[-1] == []


def test_a_gap_between_words_is_no_end() -> None:
    detector = SpeakerDetector()
    run(detector, {"a": SPEECH}, start=0, seconds=2)
    assert [] not in run(detector, {"a": SILENCE}, start=2, seconds=0.6)


def test_the_order_changes_only_for_one_who_is_clearly_louder() -> None:
    detector = SpeakerDetector()
    run(detector, {"a": SPEECH, "b": SILENCE}, start=0, seconds=2)
    assert run(detector, {"a": SPEECH, "b": SPEECH - 3}, start=2, seconds=3)[-1] == ["a", "b"]
    assert run(detector, {"a": SPEECH, "b": LOUD}, start=5, seconds=3)[-1] == ["b", "a"]


def test_levels_are_between_zero_and_one() -> None:
    detector = SpeakerDetector()
    speakers = None
    for step in range(10):
        speakers = detector.update({"a": 0}, step / 2) or speakers
    assert speakers is not None
    assert 0.9 < speakers[0][1] <= 1


def test_one_who_left_is_not_told_again() -> None:
    detector = SpeakerDetector()
    run(detector, {"a": SPEECH}, start=0, seconds=1)
    detector.forget("a")
    assert run(detector, {}, start=2, seconds=1) == [[]]
