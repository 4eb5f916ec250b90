"""Admission of handshakes and of data channel messages."""

import pytest

from media_workers.sfu.admission import MAX_WAITING, HandshakeQueue
from media_workers.sfu.transports import DATA_BURST, DataGate

pytestmark = pytest.mark.unit


def test_handshakes_begin_at_a_bounded_rate_in_order() -> None:
    queue = HandshakeQueue(0.0, rate=10, burst=2)
    for name in "abcde":
        queue.ask(name)
    assert queue.admit(0.0) == ["a", "b"]
    assert queue.admit(0.05) == []
    assert queue.admit(0.1) == ["c"]


def test_a_full_queue_drops_the_oldest_which_may_ask_again() -> None:
    queue = HandshakeQueue(0.0, rate=1, burst=1)
    for number in range(MAX_WAITING + 3):
        queue.ask(str(number))
    assert (len(queue), queue.dropped) == (MAX_WAITING, 3)
    assert queue.admit(0.0) == ["3"]
    queue.ask("0")
    assert queue.dropped == 3


def test_asking_twice_waits_once_and_the_gone_are_forgotten() -> None:
    queue = HandshakeQueue(0.0)
    queue.ask("a")
    queue.ask("a")
    queue.ask("b")
    queue.forget("b")
    assert queue.admit(0.0) == ["a"]


@pytest.mark.parametrize(
    "text", ["", "[1]", "null", "{", b"\xff\xfe", '{"a":' + '"' + "x" * 16_384 + '"}', "[" * 10_000]
)
def test_what_is_no_small_json_object_is_ignored(text: str | bytes) -> None:
    assert DataGate(0.0).admit(text, 0.0) is None


def test_messages_beyond_the_rate_are_ignored_until_time_has_passed() -> None:
    gate = DataGate(0.0)
    admitted = [gate.admit('{"n": 1}', 0.0) for _ in range(200)]
    assert sum(message is not None for message in admitted) == DATA_BURST
    assert gate.admit(b'{"n": 2}', 1.0) == {"n": 2}
