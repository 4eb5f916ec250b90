"""What the benches of a call compute from what pages note, and whom they put first."""

import os
import subprocess
import sys

import pytest

from tests.bench.onsets import matched
from tests.bench.process_tree import descendants
from tests.bench.tunnel_delay import Heard

pytestmark = pytest.mark.unit


def test_each_beep_is_matched_with_the_next_that_is_heard() -> None:
    assert matched([1_000.0, 2_000.0, 3_000.0], [500.0, 1_060.0, 2_070.0, 3_055.0]) == [60.0, 70.0, 55.0]


def test_a_beep_that_was_lost_counts_for_nothing() -> None:
    assert matched([1_000.0, 2_000.0], [2_080.0]) == [80.0]
    assert matched([1_000.0], []) == []


def test_what_is_added_is_that_of_the_worse_direction() -> None:
    udp = Heard([50.0] * 20, [60.0] * 20, [], [])
    tunnel = Heard([70.0] * 19 + [900.0], [60.0] * 18 + [95.0] * 2, [], [])
    assert tunnel.added_to(udp) == 20.0
    assert tunnel.added_to(udp, 95) == 35.0
    assert udp.added_to(udp) == 0.0


def test_lips_are_behind_the_voice_by_the_difference_of_their_delays() -> None:
    heard = Heard([100.0, 110.0, 120.0], [80.0], [90.0, 100.0, 95.0], [120.0])
    assert heard.lip_sync == (-15.0, 40.0)


def test_descendants_are_those_that_a_process_started_and_that_these_started() -> None:
    script = "import subprocess, sys; c = subprocess.Popen(['sleep', '30']); print(c.pid, flush=True); c.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            assert {os.getpid(), child.pid, grandchild} <= descendants(os.getpid())
            assert descendants(child.pid) == {child.pid, grandchild}
        finally:
            os.kill(grandchild, 9)
