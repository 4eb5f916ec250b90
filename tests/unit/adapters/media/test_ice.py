"""The ICE-lite agent: who may send, where to send, how long consent lasts."""

import pytest

from conference.adapters.media.ice import MAX_PAIRS, STALE_S, Address, IceAgent
from conference.protocol import stun

pytestmark = pytest.mark.unit

PWD = "p" * 24
HOME, AWAY = ("192.0.2.1", 1_000), ("192.0.2.9", 2_000)


def check(
    agent: IceAgent,
    address: Address,
    now: float,
    *,
    ufrag: str = "ours",
    pwd: str = PWD,
    nominate: bool = True,
    priority: int = 1,
) -> bytes | None:
    request = stun.binding_request(b"t" * 12, f"{ufrag}:theirs", pwd, priority=priority, use_candidate=nominate)
    return agent.answer(stun.parse(request), address, now)


def test_a_good_check_is_answered_and_its_pair_selected_when_nominated() -> None:
    agent = IceAgent("ours", PWD)
    assert check(agent, HOME, 0, nominate=False) is not None
    assert agent.selected is None
    answer = check(agent, HOME, 1)
    assert answer is not None
    assert stun.has_integrity(stun.parse(answer), PWD)
    assert agent.selected == HOME


def test_before_nomination_the_pair_checked_last_is_sent_to() -> None:
    assert IceAgent("ours", PWD).destination is None
    agent = IceAgent("ours", PWD)
    check(agent, HOME, 0, nominate=False)
    check(agent, AWAY, 1, nominate=False, ufrag="other")
    assert agent.destination == HOME, "a forged check names no destination"
    check(agent, AWAY, 2, nominate=False)
    assert agent.destination == AWAY
    check(agent, HOME, 3)
    assert agent.destination == HOME
    agent.forget()
    assert agent.destination is None


@pytest.mark.parametrize(("ufrag", "pwd"), [("other", PWD), ("ours", "x" * 24)])
def test_a_forged_check_is_ignored(ufrag: str, pwd: str) -> None:
    agent = IceAgent("ours", PWD)
    assert check(agent, HOME, 0, ufrag=ufrag, pwd=pwd) is None
    assert not agent.pairs


def test_a_check_without_integrity_is_ignored() -> None:
    agent = IceAgent("ours", PWD)
    bare = b"\0\1\0\x08" + stun.binding_request(b"t" * 12, "x", PWD)[4:20] + b"\0\x06\0\x04ours"
    assert agent.answer(stun.parse(bare), HOME, 0) is None


def test_the_nominated_pair_of_highest_priority_is_used_while_it_lives() -> None:
    agent = IceAgent("ours", PWD)
    check(agent, HOME, 0, priority=9)
    check(agent, AWAY, 0, priority=5)
    assert agent.selected == HOME
    check(agent, AWAY, STALE_S + 1, priority=5)
    assert agent.selected == AWAY, "the better pair went silent: the network changed"


def test_a_restart_takes_the_new_credentials_and_then_drops_the_old() -> None:
    agent = IceAgent("ours", PWD)
    check(agent, HOME, 0)
    agent.restart("fresh", "f" * 24)
    assert check(agent, HOME, 1) is not None, "the old ones are good until the new are used"
    assert check(agent, AWAY, 2, ufrag="fresh", pwd="f" * 24) is not None
    assert check(agent, HOME, 3) is None
    assert agent.ufrags == ("fresh",)


def test_a_controlled_peer_is_told_of_the_role_conflict() -> None:
    agent = IceAgent("ours", PWD)
    request = stun.encode(1, b"t" * 12, [(0x0006, b"ours:x"), (0x8029, bytes(8))], PWD.encode())
    answer = agent.answer(stun.parse(request), HOME, 0)
    assert answer is not None
    assert stun.parse(answer).type == stun.BINDING_ERROR
    assert not agent.pairs


def test_pairs_are_bounded_and_expire_with_consent() -> None:
    agent = IceAgent("ours", PWD)
    for number in range(MAX_PAIRS + 4):
        check(agent, ("192.0.2.1", 1_000 + number), number)
    assert len(agent.pairs) == MAX_PAIRS
    agent.expire(200.0)
    assert (agent.pairs, agent.selected) == ({}, None)
