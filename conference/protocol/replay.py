"""The latest events of a room, kept by each process that serves it.

It closes the gap between the moment a connection's snapshot was taken and the moment it hears the room, and drops what
comes twice: an event that was fanned out during an outage and published after it keeps its id.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from conference.domain.ids import UserId
from conference.protocol.frames import Outgoing


@dataclass(frozen=True, slots=True)
class Kept:
    """A numbered event; `to` addresses one user, None everybody."""

    seq: int
    to: UserId | None
    outgoing: Outgoing


class Replay:
    def __init__(self, limit: int = 512) -> None:
        self._kept: deque[Kept] = deque(maxlen=limit)
        self._ids: deque[str] = deque(maxlen=limit)
        self._known: set[str] = set()
        self.start = 0  # the seq after which everything is kept
        self.seq = 0  # of the last event

    def reset(self, seq: int) -> None:
        """A new generation, or a new beginning, at `seq`."""
        self._kept.clear()
        self.start = self.seq = seq

    def keep(self, kept: Kept) -> None:
        if len(self._kept) == self._kept.maxlen:
            self.start = self._kept[0].seq
        self._kept.append(kept)
        self.seq = kept.seq

    def seen(self, event_id: str) -> bool:
        """True where the id came before; remembers it. The empty id is never seen."""
        if not event_id:
            return False
        if event_id in self._known:
            return True
        if len(self._ids) == self._ids.maxlen:
            self._known.discard(self._ids[0])
        self._ids.append(event_id)
        self._known.add(event_id)
        return False

    def after(self, seq: int) -> Iterable[Kept] | None:
        """The events after `seq`, in order; None where some are no longer kept."""
        if seq < self.start:
            return None
        return [kept for kept in self._kept if kept.seq > seq]
