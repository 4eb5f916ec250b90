"""A person in a room of the directory, for tests of what rooms are told."""

from datetime import UTC, datetime
from typing import Final

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, ParticipantId, UserId
from conference.ports.presence import Entered, Presence, Present
from tests.support.waiting import eventually

NOW: Final = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


async def enter_room(presence: Presence, room: MeetingId, *, generation: str = "g1") -> int:
    """Makes the room by entering it, as soon as the directory answers; gives the number of its last event."""
    present = Present(UserId("ann"), ParticipantId("p-ann"), "c1", "p1", "attendee", "Ann", NOW, {})
    seqs: list[int] = []

    async def entered() -> bool:
        try:
            answer = await presence.enter(
                room,
                present,
                jti=f"jti-{generation}",
                jti_ttl_s=60,
                told=lambda _: [("ParticipantJoined", "{}")],
                generation=generation,
            )
        except Unavailable:
            return False
        assert isinstance(answer, Entered)
        assert answer.room.generation == generation
        seqs.append(answer.room.seq)
        return True

    await eventually(entered)
    return seqs[-1]
