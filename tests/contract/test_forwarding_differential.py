"""Both engines behind the port against each other: given the same recorded input, commands, clock and seed they emit
the same decrypted RTP and the same RTCP decisions.

First numbers, time stamp bases and the engine's own SSRC are random in each and mapped away. Estimates, allocation by
them, pacing and batching are excluded: no recording has transport-wide feedback or REMB. Allowed are the tolerances
that `tests.support.comparing` names: the native engine visits senders and transports in ten shares of 200 ms, where the
reference engine visits all at once. Idle ones in the recordings bring those that matter into one share.
"""

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.comparing import differences
from tests.support.engine import has_native
from tests.support.recording import NativeDriver, Recording, ReferenceDriver, play
from tests.support.studio import MOVES, Move, record

needs_native = pytest.mark.skipif(not has_native(), reason="the native wheel is not installed")
pytestmark = [pytest.mark.contract, needs_native]

SEEDS = range(12)
MEDIA = ("frames", "frames", "frames", "frame", "sound", "repair", "clock")  # what a call mostly consists of

# Who is among the last N is the allocation's choice: between equals each engine has an order of its own.
ANY = tuple(name for name in MOVES if name != "last_n")

START: list[Move] = [
    ("frames", 7, 0, 0),
    ("sound", 3, 0, 0),
    ("frame", 1, 8, 0),
    ("clock", 0, 0, 0),
    ("clock", 2, 0, 0),
]


def check(recording: Recording) -> None:
    found = differences(recording, play(ReferenceDriver(7), recording), play(NativeDriver(7), recording))
    assert not found, "\n".join(found)


def watched(moves: list[Move], frames: int = 12) -> list[Move]:
    """Moves in the middle of a call that goes on after them for some pictures."""
    calm: list[Move] = [("frames", 7 if at == 5 else 0, at % 4, 0) for at in range(frames)]
    sound: list[Move] = [("sound", at, 0, 0) for at in range(4)]
    return [*START, *calm, *moves, *sound, *calm]


SCENES: dict[str, list[Move]] = {
    "a calm call": [],
    "loss that RTX repairs": [("frames", 0, 0, 9), ("frames", 0, 1, 9), ("wait", 4, 0, 0)]
    + [("repair", a, b, 0) for a in (0, 2, 4) for b in (0, 1)],
    "loss that nothing repairs": [("frames", 0, 0, 13), ("wait", 9, 4, 0)],
    "reordering and duplicates": [("frames", 0, at % 4, fate) for at, fate in enumerate((7, 10, 11, 12, 7, 11))],
    "repairs of what came already": [("repair", 0, 1, 1), ("repair", 2, 3, 1), ("repair", 1, 0, 1)],
    "padding alone": [("padding", 0, 0, 0), ("padding", 1, 1, 0), ("padding", 2, 0, 0)],
    "a jump of numbers": [("jump", 2, 0, 0), ("frames", 4, 0, 0), ("jump", 0, 0, 0)],
    "NACKs of a subscriber": [("nack", at, 0, 5) for at in range(5)] + [("wait", 4, 1, 0), ("nack", 0, 1, 3)],
    "PLI and FIR of subscribers": [("pli", 0, 0, 0), ("wait", 9, 5, 0), ("pli", 1, 1, 0), ("pli", 2, 0, 0)],
    "reports both ways": [("wait", 9, 9, 0), ("clock", 0, 1, 0), ("clock", 1, 0, 0), ("report", 0, 30, 4)],
    "temporal layers left out and taken back": [
        ("pin", 0, 2, 0),
        *[("frames", 0, at, 0) for at in range(8)],
        ("pin", 0, 2, 2),
        *[("frames", 0, at, 0) for at in range(8)],
    ],
    "simulcast layers selected": [
        ("pin", 0, 0, 3),
        ("frames", 1, 0, 0),
        ("frames", 0, 2, 0),
        ("pin", 0, 1, 3),
        ("frames", 2, 0, 0),
    ],
    "a strict pin": [("pin", 0, 4 + 2, 3), ("frames", 7, 0, 0)],
    "mute and unmute": [
        ("mute", 0, 1, 0),
        ("frames", 0, 0, 0),
        ("sound", 1, 0, 0),
        ("mute", 0, 0, 0),
        ("frames", 7, 0, 0),
    ],
    "pause and resume": [("pause", 0, 1, 0), ("frames", 0, 0, 0), ("pause", 0, 0, 0), ("frames", 7, 0, 0)],
    "out of sight and back": [("show", 0, 0, 0), ("frames", 0, 0, 0), ("show", 0, 1, 0), ("frames", 7, 0, 0)],
    "the last N": [
        ("last_n", 1, 1, 0),
        ("frames", 7, 0, 0),
        ("frame", 1, 8, 0),
        ("last_n", 1, 8, 0),
        ("frames", 7, 0, 0),
    ],
    "a sender that leaves and comes back": [
        ("leave", 0, 0, 0),
        ("frames", 0, 0, 0),
        ("leave", 0, 1, 0),
        ("frames", 7, 0, 0),
    ],
    "a track that ends": [("end", 1, 0, 0), ("frames", 0, 0, 0), ("end", 2, 0, 0)],
    "a renegotiation": [("update", 0, 0, 0), ("frames", 0, 0, 0), ("update", 1, 0, 0), ("update", 2, 0, 0)],
    "peers that move to another address": [("check", 0, 1, 1), ("check", 1, 2, 1), ("check", 1, 3, 3)],
}


@pytest.mark.parametrize("scene", SCENES)
def test_both_engines_emit_the_same_of_a_scripted_call(scene: str) -> None:
    check(record(watched(SCENES[scene])))


def random_moves(seed: int, count: int) -> list[Move]:
    chance = random.Random(seed)
    found: list[Move] = list(START)
    for _ in range(count):
        name = chance.choice(MEDIA) if chance.random() < 0.8 else chance.choice(ANY)
        if name == "end" and chance.random() < 0.8:
            continue
        found.append((name, chance.randrange(8), chance.randrange(10), chance.randrange(16)))
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_both_engines_emit_the_same_of_a_random_call(seed: int) -> None:
    check(record(random_moves(seed, 150)))


MOVE = st.tuples(st.sampled_from(ANY), st.integers(0, 7), st.integers(0, 9), st.integers(0, 15))


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(MOVE, max_size=25))
def test_both_engines_emit_the_same_of_any_short_call(moves: list[Move]) -> None:
    check(record([*START, *moves]))
