"""The ring of a room's latest events."""

import pytest

from conference.protocol.frames import Outgoing
from conference.protocol.replay import Kept, Replay

pytestmark = pytest.mark.protocol


def kept(seq: int) -> Kept:
    return Kept(seq, None, Outgoing("StateChanged", b"{}", seq=seq))


def seqs(replay: Replay, after: int) -> list[int] | None:
    found = replay.after(after)
    return None if found is None else [k.seq for k in found]


def test_events_after_a_seq_come_in_order() -> None:
    replay = Replay(limit=4)
    replay.reset(10)
    for seq in (11, 12, 14):
        replay.keep(kept(seq))
    assert seqs(replay, 10) == [11, 12, 14]
    assert seqs(replay, 12) == [14]
    assert seqs(replay, 99) == []
    assert seqs(replay, 9) is None


def test_what_fell_out_of_the_ring_cannot_be_replayed() -> None:
    replay = Replay(limit=2)
    for seq in range(1, 6):
        replay.keep(kept(seq))
    assert seqs(replay, 2) is None
    assert seqs(replay, 3) == [4, 5]
    replay.reset(2_000)
    assert seqs(replay, 5) is None
    assert seqs(replay, 2_000) == []


def test_an_event_published_again_is_recognised_by_its_id() -> None:
    replay = Replay(limit=2)
    assert not replay.seen("")
    assert not replay.seen("")
    assert not replay.seen("a")
    assert replay.seen("a")
    replay.seen("b")
    replay.seen("c")
    assert not replay.seen("a")  # bounded
