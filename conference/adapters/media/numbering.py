"""Outgoing numbers for incoming ones: they follow one another without a hole where something is left out on purpose.

What is missing keeps its place, because it may still come; what was dropped when it was the newest closes up. Used for
sequence numbers and for VP8 picture ids, both unrolled to full length.
"""

from typing import Final

MAX_STEPS: Final = 512  # drops that are remembered for packets that come late


class Renumbering:
    """`highest_in` and `highest_out` are the newest number on either side."""

    __slots__ = ("_steps", "highest_in", "highest_out")

    def __init__(self, highest_out: int) -> None:
        self.highest_in = -1
        self.highest_out = highest_out
        self._steps: list[tuple[int, int]] = []  # (first incoming number, offset from there on), ascending

    def begin(self, number: int, out: int) -> None:
        """From `number` on, which becomes `out`, a new mapping holds; what came before is gone."""
        self._steps = [(number, out - number)]
        self.highest_in = number - 1
        self.highest_out = out - 1

    def map(self, number: int) -> int | None:
        """The outgoing number; None where its place is gone."""
        for start, offset in reversed(self._steps):
            if number >= start:
                return number + offset
        return None

    def forwarded(self, number: int, out: int) -> bool:
        """Notes what went out; True where it is the newest."""
        self.highest_in = max(self.highest_in, number)
        if out <= self.highest_out:
            return False
        self.highest_out = out
        return True

    def drop(self, number: int) -> bool:
        """Leaves out the newest number: those after it close up. False for a late one, whose place is taken already."""
        if number <= self.highest_in or not self._steps:
            return False
        offset = self._steps[-1][1] - 1
        if self._steps[-1][0] == number:  # nothing went out since the last drop
            self._steps.pop()
        self._steps.append((number + 1, offset))
        if len(self._steps) > MAX_STEPS:
            del self._steps[0]
        self.highest_in = number
        return True
