"""Mesh or SFU: one room's topology as a state machine without I/O (specification G.1).

What the directory says of the room goes in (`observe`), and what its people report (`link_report`); `poll` gives what
is to be done. Every signaling process runs one for each of its rooms. They need not agree: the directory takes a switch
only from the epoch that it was decided on, so that one of them wins and the others observe it.

A pair of people is ready when each has reported the other: they decode each other by the room's topology. Times are
seconds of one monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final, Literal, TypeAlias

from conference.domain.ids import UserId
from conference.domain.meetings import TopologyMode

Topology = Literal["mesh", "sfu"]
Reason = Literal["setting", "size", "capability", "recording", "captions", "live", "loss", "unreachable", "calm"]
MAX_REMINDERS: Final = 8
_ASK_AGAIN_S: Final = 1.0  # a switch that nobody has made yet: the directory may be away
_FORGIVEN_S: Final = 300.0  # a mesh that held for so long starts again without strikes
_MAX_STRIKES: Final = 4
_STRIKES: Final = frozenset({"loss", "unreachable"})


@dataclass(frozen=True, slots=True)
class Rules:
    """`limit` people may talk peer to peer; 0 turns the mesh off. A loss of more than `loss` (0 to 1) for `loss_s` ends
    it, and so does a pair that is not ready within `deadline_s`. After `calm_s` without a reason the room goes back,
    after each switch for loss or for want of a way twice as late."""

    limit: int = 5
    loss: float = 0.05
    loss_s: float = 5.0
    calm_s: float = 60.0
    deadline_s: float = 15.0


@dataclass(frozen=True, slots=True)
class Person:
    """`ready_peers` are those whom the person decodes by the topology of `ready_epoch`."""

    can_mesh: bool
    ready_epoch: int = 0
    ready_peers: frozenset[UserId] = frozenset()


@dataclass(frozen=True, slots=True)
class Seen:
    """The room as the directory has it. `triggers` are what keeps it on the SFU: recording, captions, live."""

    topology: Topology
    epoch: int
    people: Mapping[UserId, Person]
    triggers: frozenset[str] = frozenset()


# --- outputs ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Switch:
    """Make the room `to`, if its epoch still is `epoch`."""

    to: Topology
    epoch: int
    reason: Reason


@dataclass(frozen=True, slots=True)
class Remind:
    """These missed the deadline: tell them again."""

    people: frozenset[UserId]


@dataclass(frozen=True, slots=True)
class Complete:
    """Every pair is ready: what the former topology used may go."""

    topology: Topology
    epoch: int


Output: TypeAlias = Switch | Remind | Complete


def first_topology(mode: TopologyMode, can_mesh: bool, rules: Rules) -> Topology:
    """What a room begins with when its first person enters."""
    return "mesh" if mode is not TopologyMode.SFU and can_mesh and rules.limit > 0 else "sfu"


def reason_for_sfu(seen: Seen, mode: TopologyMode, rules: Rules) -> Reason | None:
    """Why these people cannot be a mesh, whatever their links are like."""
    if mode is TopologyMode.SFU:
        return "setting"
    if len(seen.people) > rules.limit:
        return "size"
    if not all(person.can_mesh for person in seen.people.values()):
        return "capability"
    for trigger in ("recording", "captions", "live"):
        if trigger in seen.triggers:
            return trigger
    return None


@dataclass(slots=True)
class TopologyMachine:
    """See the module. A machine that has observed nothing yet does nothing."""

    rules: Rules
    mode: TopologyMode
    _seen: Seen | None = None
    _since: dict[UserId, float] = field(default_factory=dict)  # when each person was seen first
    _switched_at: float = 0.0
    _left_mesh: int = 0  # the epoch of the last switch to the SFU: its people come from a mesh
    _calm_since: float | None = None
    _asked_at: float | None = None
    _completed: frozenset[UserId] | None = None  # the people for whom Complete was given
    _reminders: int = 0
    _strikes: int = 0
    _lossy: dict[tuple[UserId, UserId], float] = field(default_factory=dict)  # since when, by who reports whom

    @property
    def epoch(self) -> int:
        """The newest that was observed; 0 before the first."""
        return self._seen.epoch if self._seen is not None else 0

    # --- inputs ---
    def observe(self, seen: Seen, now: float) -> None:
        """What the directory says. A reading that is older than the newest epoch is ignored."""
        before = self._seen
        if before is not None and seen.epoch < before.epoch:
            return
        if before is None or seen.epoch > before.epoch:
            self._switched_at = now
            self._calm_since = self._asked_at = None
            self._completed = None
            self._reminders = 0
            self._lossy.clear()
        self._seen = seen
        self._since = {user: self._since.get(user, now) for user in seen.people}
        self._lossy = {pair: at for pair, at in self._lossy.items() if set(pair) <= self._since.keys()}
        if self._completed is not None and not self._since.keys() <= self._completed:
            self._completed = None

    def switched(self, epoch: int, reason: Reason) -> None:
        """Why the room came to `epoch`, as whoever decided it has told; before that epoch is observed."""
        self._left_mesh = epoch if reason != "calm" else self._left_mesh
        if reason in _STRIKES:
            self._strikes = min(_MAX_STRIKES, self._strikes + 1)

    def link_report(self, reporter: UserId, losses: Mapping[UserId, float], now: float) -> None:
        """The lost fraction (0 to 1) of what the reporter is sent by each peer, every two seconds or so."""
        for peer, loss in losses.items():
            pair = (reporter, peer)
            if loss <= self.rules.loss or not set(pair) <= self._since.keys():
                self._lossy.pop(pair, None)
            else:
                self._lossy.setdefault(pair, now)

    # --- outputs ---
    def poll(self, now: float) -> list[Output]:
        """What is to be done now; call it after each input and at `next_at`."""
        seen = self._seen
        if seen is None or not seen.people:
            return []
        return self._mesh(seen, now) if seen.topology == "mesh" else self._sfu(seen, now)

    @property
    def next_at(self) -> float | None:
        """When `poll` may have something new without an input; None where never."""
        seen = self._seen
        if seen is None or not seen.people:
            return None
        if self._asked_at is not None:
            return self._asked_at + _ASK_AGAIN_S
        if seen.topology == "mesh":
            lossy = [at + self.rules.loss_s for at in self._lossy.values()]
            return min([*lossy, *(self._deadline(*pair) for pair in self._unready(seen))], default=None)
        times = [self._calm_since + self._patience] if self._calm_since is not None else []
        if self._late(seen):
            times.append(self._reminder_at)
        return min(times, default=None)

    def _mesh(self, seen: Seen, now: float) -> list[Output]:
        if now - self._switched_at >= _FORGIVEN_S:
            self._strikes = 0
        unready = self._unready(seen)
        reason = reason_for_sfu(seen, self.mode, self.rules) or self._broken(unready, now)
        if reason is not None:
            return self._ask(Switch("sfu", seen.epoch, reason), now)
        self._asked_at = None
        return [] if unready else self._complete(seen)

    def _broken(self, unready: list[tuple[UserId, UserId]], now: float) -> Reason | None:
        if self.mode is not TopologyMode.MESH and any(now >= at + self.rules.loss_s for at in self._lossy.values()):
            return "loss"
        return "unreachable" if any(now >= self._deadline(*pair) for pair in unready) else None

    def _sfu(self, seen: Seen, now: float) -> list[Output]:
        if reason_for_sfu(seen, self.mode, self.rules) is not None:
            self._calm_since = self._asked_at = None
        else:
            self._calm_since = now if self._calm_since is None else self._calm_since
            if now >= self._calm_since + self._patience:
                return self._ask(Switch("mesh", seen.epoch, "calm"), now)
        late = self._late(seen)
        if late and now >= self._reminder_at:
            self._reminders += 1
            return [Remind(late)]
        return [] if self._unready(seen) else self._complete(seen)

    def _ask(self, switch: Switch, now: float) -> list[Output]:
        if self._asked_at is not None and now < self._asked_at + _ASK_AGAIN_S:
            return []
        self._asked_at = now
        return [switch]

    def _complete(self, seen: Seen) -> list[Output]:
        if self._completed is not None:
            return []
        self._completed = frozenset(seen.people)
        return [Complete(seen.topology, seen.epoch)]

    @property
    def _patience(self) -> float:
        return float(self.rules.calm_s * 2**self._strikes)

    @property
    def _reminder_at(self) -> float:
        return self._switched_at + self.rules.deadline_s * (self._reminders + 1)

    def _deadline(self, one: UserId, other: UserId) -> float:
        return max(self._switched_at, self._since[one], self._since[other]) + self.rules.deadline_s

    def _late(self, seen: Seen) -> frozenset[UserId]:
        """Who came from a mesh and has not reported anything of the SFU yet."""
        if self._left_mesh != seen.epoch or self._reminders >= MAX_REMINDERS:
            return frozenset()
        return frozenset(
            user for user, person in seen.people.items() if person.can_mesh and person.ready_epoch < seen.epoch
        )

    def _unready(self, seen: Seen) -> list[tuple[UserId, UserId]]:
        """Pairs of which one has not reported the other. A room larger than a mesh may be is none's concern."""
        if len(seen.people) > self.rules.limit + 1:
            return []

        def decodes(one: UserId, other: UserId) -> bool:
            person = seen.people[one]
            return person.ready_epoch == seen.epoch and other in person.ready_peers

        pairs = combinations(sorted(seen.people), 2)
        return [(one, other) for one, other in pairs if not (decodes(one, other) and decodes(other, one))]
