"""Port `MediaProvider` in memory, with a switch for its absence: for tests of what stands above it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, Secret, UserId
from conference.domain.meetings import Role
from conference.ports.media_provider import ProviderAccess, RoomPlan


@dataclass(slots=True)
class MemoryRoom:
    """A room, who is on its roster, and from when it may be entered."""

    meeting_id: MeetingId
    opens: datetime
    roster: dict[str, Role] = field(default_factory=dict)


class MemoryMediaProvider:
    """While `away` is set, every call raises Unavailable and does nothing."""

    def __init__(self, token_life: timedelta = timedelta(hours=1)) -> None:
        self.rooms: dict[str, MemoryRoom] = {}
        self.identities: set[str] = set()
        self.tokens: dict[str, str] = {}  # the valid ones, and whose they are
        self.away = False
        self._token_life = token_life
        self._made = 0

    @property
    def token_life(self) -> timedelta:
        return self._token_life

    async def new_identity(self, user_id: UserId) -> str:
        self._check()
        self._made += 1
        identity = f"memory:{self._made}"
        self.identities.add(identity)
        return identity

    async def drop_identity(self, identity: str) -> None:
        self._check()
        self.identities.discard(identity)
        self._void(identity)

    async def open_room(self, plan: RoomPlan, roster: Mapping[str, Role]) -> str | None:
        self._check()
        room_id = f"room-{plan.meeting_id}"
        self.rooms.setdefault(room_id, MemoryRoom(plan.meeting_id, plan.opens, dict(roster)))
        return room_id

    async def admit(self, plan: RoomPlan, room_id: str, identity: str, role: Role, *, now: datetime) -> ProviderAccess:
        self._check()
        room = self._room(room_id)
        room.roster[identity] = role
        room.opens = min(room.opens, now)
        self._made += 1
        token = f"token-{self._made}"
        self.tokens[token] = identity
        return ProviderAccess(room_id, identity, "memory://rooms", Secret(token), now + self._token_life)

    async def change_role(self, room_id: str, identity: str, role: Role) -> None:
        self._check()
        room = self.rooms.get(room_id)
        if room is not None and identity in room.roster:
            room.roster[identity] = role

    async def revoke(self, room_id: str, identity: str, *, now: datetime) -> None:
        self._check()
        room = self.rooms.get(room_id)
        if room is not None:
            room.roster.pop(identity, None)
        self._void(identity)

    async def close_room(self, room_id: str) -> None:
        self._check()
        self.rooms.pop(room_id, None)

    def _void(self, identity: str) -> None:
        self.tokens = {token: owner for token, owner in self.tokens.items() if owner != identity}

    def _room(self, room_id: str) -> MemoryRoom:
        room = self.rooms.get(room_id)
        if room is None:
            raise Unavailable("the room", retryable=False, after_s=None)
        return room

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the media provider", after_s=7.0)
