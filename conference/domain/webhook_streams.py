"""A stream: one room's events on their way to one endpoint. How far it is, when it is due, and who has its lease.

A store keeps a stream as one item, and these are the changes of it; SQL says the same of a row by its statements.
"""

from dataclasses import dataclass, replace
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a lease's holder says of its stream. While there is an event left (`next_seq` up to the last one known), the
    stream is due at `due_at`, or parked where that is None; with none left it is idle.

    `held_until` keeps the lease that long, None gives it back. `dead`: the event `next_seq` was given up."""

    next_seq: int
    due_at: datetime | None
    held_until: datetime | None = None
    attempts: int = 0
    failing_since: datetime | None = None
    dead: bool = False


@dataclass(frozen=True, slots=True)
class Stream:
    """`due_at` is empty of one that is idle or parked; `token` is the lease's, which holds until `held_until`."""

    next_seq: int
    last_seq: int
    due_at: datetime | None
    token: str | None = None
    held_until: datetime | None = None
    attempts: int = 0
    failing_since: datetime | None = None
    dead: bool = False

    def is_held(self, now: datetime) -> bool:
        return self.held_until is not None and self.held_until > now

    def is_due(self, now: datetime) -> bool:
        return self.due_at is not None and self.due_at <= now

    def offered(self, seq: int, now: datetime) -> "Stream":
        """The event `seq` is there: due now if the stream was idle or parked."""
        last_seq = max(self.last_seq, seq)
        return replace(self, last_seq=last_seq, due_at=(self.due_at or now) if self.next_seq <= last_seq else None)

    def claimed(self, token: str, until: datetime) -> "Stream":
        return replace(self, token=token, held_until=until)

    def settled(self, settlement: Settlement) -> "Stream":
        """As the lease's holder says."""
        left = settlement.next_seq <= self.last_seq
        return replace(
            self,
            next_seq=settlement.next_seq,
            due_at=settlement.due_at if left else None,
            held_until=settlement.held_until,
            token=self.token if settlement.held_until else None,
            attempts=settlement.attempts,
            failing_since=settlement.failing_since,
            dead=settlement.dead,
        )

    def rewound(self, from_seq: int, last_seq: int, now: datetime) -> "Stream":
        """A replay: the lease is void, but its time still counts."""
        return replace(self, last_seq=max(self.last_seq, last_seq), token=None)._beginning(from_seq, now)

    def woken(self, now: datetime, *, skip_dead: bool) -> "Stream":
        """Tried at once, or passing over the event that was given up; the same where nothing is left, or it is held."""
        if self.next_seq > self.last_seq or self.is_held(now):
            return self
        return self._beginning(self.next_seq + (self.dead and skip_dead), now)

    def _beginning(self, next_seq: int, now: datetime) -> "Stream":
        due_at = now if next_seq <= self.last_seq else None
        return replace(self, next_seq=next_seq, due_at=due_at, attempts=0, failing_since=None, dead=False)


def new_stream(from_seq: int, last_seq: int, now: datetime) -> Stream:
    return Stream(from_seq, last_seq, now if from_seq <= last_seq else None)
