"""MediaProvider: who carries the media of a meeting. Parley itself, or a service that it books rooms with.

Adapters: `OwnMedia` here (nothing to do), `acs` (Azure Communication Services), `livekit`, and `memory`; one contract
suite runs against all. The store is the truth of who may be in a meeting; a provider is told. Every method may be
repeated and then does nothing more, so that an interrupted caller tries again. All raise Unavailable where the provider
does not answer, and where it refuses what it is asked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from conference.domain.ids import MeetingId, Redacted, Secret, UserId
from conference.domain.meetings import Meeting, Role


@dataclass(frozen=True, slots=True, repr=False)
class RoomPlan(Redacted):
    """The room that a meeting needs. `opens`: from when others than the host may enter."""

    meeting_id: MeetingId
    created_at: datetime
    opens: datetime
    max_participants: int

    @classmethod
    def of(cls, meeting: Meeting, early: timedelta) -> "RoomPlan":
        """The plan of a meeting whose doors open `early` before its time."""
        opens = meeting.created_at
        # Added to now and not taken from the schedule, which may be the first moment of the calendar.
        if meeting.scheduled_time is not None and opens + early < meeting.scheduled_time:
            opens = meeting.scheduled_time - early
        return cls(meeting.id, meeting.created_at, opens, meeting.settings.max_participants)


@dataclass(frozen=True, slots=True, repr=False)
class ProviderAccess(Redacted):
    """What a client needs to enter the provider's room: `endpoint` is the service's address for the client."""

    room_id: str
    identity: str
    endpoint: str
    token: Secret
    expires_at: datetime


class MediaProvider(Protocol):
    @property
    def token_life(self) -> timedelta:
        """How long an access lasts; who holds one holds a place."""
        ...

    async def new_identity(self, user_id: UserId) -> str:
        """A name for the user at the provider, for one meeting."""
        ...

    async def drop_identity(self, identity: str) -> None:
        """Forgets the name; what was issued to it is void."""
        ...

    async def open_room(self, plan: RoomPlan, roster: Mapping[str, Role]) -> str | None:
        """Makes the meeting's room with these identities on its roster and gives its id; of one plan there is one room.
        None where the meeting needs none."""
        ...

    async def admit(self, plan: RoomPlan, room_id: str, identity: str, role: Role, *, now: datetime) -> ProviderAccess:
        """Puts the identity on the roster with that role, and issues an access. Who is admitted before the room opens
        is the host: then it opens now."""
        ...

    async def change_role(self, room_id: str, identity: str, role: Role) -> None:
        """Changes what an identity that was admitted may do."""
        ...

    async def revoke(self, room_id: str, identity: str, *, now: datetime) -> None:
        """Takes the identity off the roster and voids what was issued to it until now."""
        ...

    async def close_room(self, room_id: str) -> None:
        """Ends the call in the room and deletes it; one that is gone is closed."""
        ...


class OwnMedia:
    """Parley's own servers carry the media: there is no room to book, and the join token is the access."""

    token_life = timedelta(0)

    async def new_identity(self, user_id: UserId) -> str:
        return user_id

    async def drop_identity(self, identity: str) -> None:
        return None

    async def open_room(self, plan: RoomPlan, roster: Mapping[str, Role]) -> str | None:
        return None

    async def admit(self, plan: RoomPlan, room_id: str, identity: str, role: Role, *, now: datetime) -> ProviderAccess:
        raise LookupError("no meeting of our own has a provider's room")

    async def change_role(self, room_id: str, identity: str, role: Role) -> None:
        return None

    async def revoke(self, room_id: str, identity: str, *, now: datetime) -> None:
        return None

    async def close_room(self, room_id: str) -> None:
        return None
