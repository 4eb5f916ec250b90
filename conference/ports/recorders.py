"""Recorders: who writes a room's media down. They register themselves; a room may find none registered."""

from typing import Literal, Protocol

from conference.domain.ids import MeetingId

RecorderOrder = Literal["start", "stop"]


class Recorders(Protocol):
    async def order(self, room_id: MeetingId, order: RecorderOrder) -> bool:
        """Hands the order to a registered recorder; repeating one is harmless. False where none is registered."""
        ...


class NoRecorders:
    """The recorders of an installation that has none."""

    async def order(self, room_id: MeetingId, order: RecorderOrder) -> bool:
        return False
