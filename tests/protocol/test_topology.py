"""The topology machine: by example, and by hypothesis for every order of joins, leaves, losses and late clients."""

from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from conference.domain.ids import UserId
from conference.domain.meetings import TopologyMode
from conference.protocol.topology import (
    Complete,
    Output,
    Person,
    Remind,
    Rules,
    Seen,
    Switch,
    Topology,
    TopologyMachine,
    first_topology,
    reason_for_sfu,
)

pytestmark = pytest.mark.protocol

RULES: Final = Rules(limit=5, loss_s=5.0, calm_s=60.0, deadline_s=15.0)
NAMES: Final = tuple(UserId(name) for name in "abcdefgh")


def ready(names: tuple[UserId, ...], epoch: int) -> dict[UserId, Person]:
    """People who all decode each other."""
    return {name: Person(True, epoch, frozenset(names) - {name}) for name in names}


def machine(mode: TopologyMode = TopologyMode.AUTO) -> TopologyMachine:
    return TopologyMachine(RULES, mode)


def seen(count: int, *, topology: Topology = "mesh", epoch: int = 1, **changes: Any) -> Seen:
    return replace(Seen(topology, epoch, ready(NAMES[:count], epoch)), **changes)


def test_five_stay_a_mesh_and_the_sixth_moves_the_room() -> None:
    room = machine()
    room.observe(seen(5), 0)
    assert room.poll(0) == [Complete("mesh", 1)]
    room.observe(seen(6), 1)
    assert room.poll(1) == [Switch("sfu", 1, "size")]


@pytest.mark.parametrize(
    ("mode", "changes", "reason"),
    [
        (TopologyMode.SFU, {}, "setting"),
        (TopologyMode.AUTO, {"triggers": frozenset({"recording"})}, "recording"),
        (TopologyMode.AUTO, {"triggers": frozenset({"captions"})}, "captions"),
        (TopologyMode.MESH, {"triggers": frozenset({"live"})}, "live"),
        (TopologyMode.MESH, {"people": {**ready(NAMES[:2], 1), NAMES[2]: Person(False)}}, "capability"),
    ],
)
def test_what_moves_a_room_to_the_sfu(mode: TopologyMode, changes: dict[str, Any], reason: str) -> None:
    room = machine(mode)
    room.observe(seen(2, **changes), 0)
    assert room.poll(0) == [Switch("sfu", 1, reason)]  # type: ignore[arg-type]


def test_loss_counts_after_five_seconds_without_a_good_report_in_between() -> None:
    room = machine()
    room.observe(seen(3), 0)
    room.link_report(NAMES[0], {NAMES[1]: 0.06}, 1)
    room.link_report(NAMES[0], {NAMES[1]: 0.05}, 3)  # not more than five percent
    room.link_report(NAMES[0], {NAMES[1]: 0.2}, 4)
    assert room.next_at == 9
    assert room.poll(8.9) == [Complete("mesh", 1)]
    assert room.poll(9) == [Switch("sfu", 1, "loss")]


def test_who_wants_a_mesh_has_it_with_losses_too() -> None:
    room = machine(TopologyMode.MESH)
    room.observe(seen(3), 0)
    room.link_report(NAMES[0], {NAMES[1]: 0.5}, 1)
    assert room.poll(20) == [Complete("mesh", 1)]


def test_the_loss_of_somebody_who_left_is_forgotten() -> None:
    room = machine()
    room.observe(seen(3), 0)
    room.link_report(NAMES[0], {NAMES[2]: 0.5}, 1)
    room.observe(seen(2), 2)
    room.link_report(NAMES[0], {NAMES[2]: 0.5}, 3)
    assert room.poll(20) == [Complete("mesh", 1)]


def test_a_pair_without_a_way_moves_the_room_after_the_deadline() -> None:
    room = machine()
    people = ready(NAMES[:3], 1)
    people[NAMES[1]] = Person(True, 1, frozenset({NAMES[0]}))  # does not decode the third
    room.observe(seen(3, people=people), 10)
    assert room.poll(10) == []
    assert room.next_at == 25
    assert room.poll(25) == [Switch("sfu", 1, "unreachable")]


def test_a_newcomer_has_a_deadline_of_their_own() -> None:
    room = machine()
    room.observe(seen(2), 0)
    room.poll(0)
    room.observe(seen(3, people={**ready(NAMES[:2], 1), NAMES[2]: Person(True)}), 100)
    assert room.poll(114) == []
    assert room.poll(115) == [Switch("sfu", 1, "unreachable")]


def test_back_to_the_mesh_after_a_minute_of_calm_and_later_after_each_strike() -> None:
    room = machine()
    room.observe(seen(2), 0)
    room.switched(2, "loss")
    room.observe(seen(2, topology="sfu", epoch=2), 10)
    room.poll(10)
    assert room.next_at == 130
    assert room.poll(129) == []
    assert room.poll(130) == [Switch("mesh", 2, "calm")]
    calm = machine()
    calm.observe(seen(2, topology="sfu"), 0)
    calm.poll(0)
    calm.observe(seen(2, topology="sfu", triggers=frozenset({"captions"})), 50)
    calm.poll(50)
    calm.observe(seen(2, topology="sfu"), 55)
    calm.poll(55)
    assert calm.poll(114) == []
    assert calm.poll(115) == [Switch("mesh", 1, "calm")]


def test_whoever_has_not_come_to_the_sfu_is_reminded_and_not_for_ever() -> None:
    room = machine()
    room.observe(seen(6), 0)
    people = {**ready(NAMES[:5], 2), NAMES[5]: Person(True, 1)}
    room.switched(2, "size")
    room.observe(seen(6, topology="sfu", epoch=2, people=people), 0)
    assert room.poll(14) == []
    reminders = [now for now in range(15, 1_000) if room.poll(now) == [Remind(frozenset({NAMES[5]}))]]
    assert reminders == [15 * n for n in range(1, 9)]


def test_a_switch_that_nobody_makes_is_asked_for_every_second() -> None:
    room = machine()
    room.observe(seen(6), 0)
    assert [now / 2 for now in range(6) if room.poll(now / 2)] == [0, 1, 2]
    assert room.next_at == 3


def test_an_old_reading_of_the_directory_changes_nothing() -> None:
    room = machine()
    room.observe(seen(2, topology="sfu", epoch=3), 0)
    room.observe(seen(6, epoch=2), 1)
    assert room.epoch == 3
    assert room.poll(1) == [Complete("sfu", 3)]


@pytest.mark.parametrize(
    ("mode", "can_mesh", "limit", "expected"),
    [
        (TopologyMode.AUTO, True, 5, "mesh"),
        (TopologyMode.MESH, True, 1, "mesh"),
        (TopologyMode.SFU, True, 5, "sfu"),
        (TopologyMode.AUTO, False, 5, "sfu"),
        (TopologyMode.AUTO, True, 0, "sfu"),
    ],
)
def test_what_a_room_begins_with(mode: TopologyMode, can_mesh: bool, limit: int, expected: str) -> None:
    assert first_topology(mode, can_mesh, Rules(limit=limit)) == expected


@dataclass
class Client:
    """What a client has: links that play, by the machine's rules for giving one up."""

    can_mesh: bool
    ready_epoch: int = 0
    ready_peers: frozenset[UserId] = frozenset()


class Rooms(RuleBasedStateMachine):
    """A directory and two processes that look at it when they like; clients that report when they like."""

    @initialize(mode=st.sampled_from(TopologyMode))
    def begin(self, mode: TopologyMode) -> None:
        self.now = 0.0
        self.mode = mode
        self.processes = [TopologyMachine(RULES, mode), TopologyMachine(RULES, mode)]
        self.topology: Topology = first_topology(mode, True, RULES)
        self.epoch = 1
        self.people: dict[UserId, Client] = {}
        self.triggers: set[str] = set()
        self.switches: list[tuple[float, Topology, str]] = []
        self.strikes = 0

    def seen(self) -> Seen:
        people = {name: Person(c.can_mesh, c.ready_epoch, c.ready_peers) for name, c in self.people.items()}
        return Seen(self.topology, self.epoch, people, frozenset(self.triggers))

    def perform(self, outputs: list[Output]) -> None:
        """The directory's script, and what hears of it."""
        for output in outputs:
            if isinstance(output, Switch) and output.epoch == self.epoch:
                assert output.to != self.topology
                if output.to == "mesh":
                    assert reason_for_sfu(self.seen(), self.mode, RULES) is None or output.reason == "calm"
                self.topology, self.epoch = output.to, self.epoch + 1
                self.switches.append((self.now, output.to, output.reason))
                for process in self.processes:
                    process.switched(self.epoch, output.reason)
            elif isinstance(output, Complete) and output.epoch == self.epoch and output.topology == "mesh":
                for one, other in combinations(self.people, 2):
                    assert other in self.people[one].ready_peers
                    assert one in self.people[other].ready_peers

    @rule(name=st.sampled_from(NAMES), can_mesh=st.sampled_from([True, True, True, False]))
    def join(self, name: UserId, can_mesh: bool) -> None:
        self.people[name] = Client(can_mesh)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: UserId) -> None:
        self.people.pop(name, None)

    @rule(trigger=st.sampled_from(["recording", "captions", "live"]), raised=st.booleans())
    def trigger(self, trigger: str, raised: bool) -> None:
        (self.triggers.add if raised else self.triggers.discard)(trigger)

    @rule(name=st.sampled_from(NAMES), late=st.booleans(), some=st.booleans())
    def report_ready(self, name: UserId, late: bool, some: bool) -> None:
        client = self.people.get(name)
        if client is not None:
            others = sorted(self.people.keys() - {name})
            client.ready_epoch = self.epoch - 1 if late else self.epoch
            client.ready_peers = frozenset(others[::2] if some else others)

    @rule(names=st.permutations(NAMES), loss=st.sampled_from([0.0, 0.05, 0.051, 0.6]), at=st.integers(0, 1))
    def report_loss(self, names: list[UserId], loss: float, at: int) -> None:
        self.processes[at].link_report(names[0], {names[1]: loss}, self.now)

    @rule(seconds=st.sampled_from([0.1, 1, 4, 10, 30, 61]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(at=st.integers(0, 1))
    def look(self, at: int) -> None:
        process = self.processes[at]
        process.observe(self.seen(), self.now)
        self.perform(process.poll(self.now))

    @precondition(lambda self: self.people)
    @rule()
    def settle(self) -> None:
        """With time and looks alone a room ends where it belongs."""
        for _ in range(200):
            for at in (0, 1):
                self.look(at)
            self.now += 1
        if reason_for_sfu(self.seen(), self.mode, RULES) is not None:
            assert self.topology == "sfu"

    @invariant()
    def epochs_count_switches(self) -> None:
        if hasattr(self, "switches"):
            assert self.epoch == 1 + len(self.switches)

    @invariant()
    def nobody_flaps(self) -> None:
        """Between leaving the mesh and coming back lies the calm."""
        for (left, former, _), (back, to, _) in pairwise(getattr(self, "switches", [])):
            if (former, to) == ("sfu", "mesh"):
                assert back - left >= RULES.calm_s


TestRooms = Rooms.TestCase
TestRooms.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
