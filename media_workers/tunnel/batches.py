"""Bodies that a client posts, two at a time: taken in the order of their numbers, once each."""

import asyncio
import contextlib
from collections import OrderedDict
from typing import Final

MISSING_S: Final = 1.0
MAX_EARLY: Final = 8
MAX_WIRES: Final = 4


class Batches:
    """The numbers of one wire. A batch that does not come within a second is given up: what was in it of stream 0 is
    sent again, and media would be too old."""

    def __init__(self) -> None:
        self._next = 0
        self._waiting = 0
        self._moved = asyncio.Event()

    async def turn(self, number: int) -> bool:
        """Waits for the batch's turn. False where it has been taken already, or is too far ahead to be waited for."""
        if number < self._next or self._waiting >= MAX_EARLY or number - self._next > MAX_EARLY:
            return False
        self._waiting += 1
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MISSING_S):
                    while self._next < number:
                        self._moved.clear()
                        await self._moved.wait()
        finally:
            self._waiting -= 1
        return number >= self._next

    def done(self, number: int) -> None:
        """The batch was taken; the next one may be."""
        self._next = max(self._next, number + 1)
        self._moved.set()


class Wires:
    """The batches of the latest wires of a session, by the name that the client gave each."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Batches] = OrderedDict()

    def of(self, wire: str) -> Batches:
        batches = self._known.setdefault(wire, Batches())
        self._known.move_to_end(wire)
        while len(self._known) > MAX_WIRES:
            self._known.popitem(last=False)
        return batches
