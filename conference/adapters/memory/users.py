"""Port `UserStore` in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from conference.domain.ids import UserId
from conference.domain.meetings import User


class MemoryUserStore:
    def __init__(self) -> None:
        self._users: dict[UserId, User] = {}

    async def upsert(self, user: User) -> User:
        known = self._users.get(user.id)
        stored = replace(user, created_at=known.created_at) if known else user
        self._users[user.id] = stored
        return stored

    async def get(self, user_id: UserId) -> User | None:
        return self._users.get(user_id)

    async def names(self, user_ids: Sequence[UserId]) -> Mapping[UserId, str]:
        return {id: self._users[id].display_name for id in user_ids if id in self._users}
