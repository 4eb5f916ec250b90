"""Port `MeetingStore` in Cosmos DB: each method settles attempts of a function that reads, decides and writes one
batch.

The functions stand beside: `aggregate` (the meeting itself), `joining`, `stays`, `consents`, `timers`, `hosts`.
"""

from asyncio import Semaphore
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from weakref import WeakValueDictionary

from conference.adapters.cosmos import aggregate, consents, hosts, identities, joining, stays, timers
from conference.adapters.cosmos.rooms import Rooms
from conference.domain.consent import ConsentLog
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Participant, Role, Session
from conference.ports.meetings import Ended, Joined, JoinRequest, NewConsent, Page, ParticipantPage

_AT_THE_DOOR = 8


class _Lines:
    """A line a room, of writers of this process who would take each other's turn: `width` of them at once."""

    def __init__(self, rooms: Rooms, width: int) -> None:
        self._database = rooms.database
        self._width = width
        self._lines: WeakValueDictionary[MeetingId, Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def stand(self, meeting_id: MeetingId) -> AsyncIterator[None]:
        """Raises Unavailable where the wait and the block together take longer than an operation may."""
        line = self._lines.setdefault(meeting_id, Semaphore(self._width))
        async with self._database.bounded(), line:
            yield


class CosmosMeetingStore:
    """Over a database whose containers exist."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._settle = rooms.database.settle
        self._doors = _Lines(rooms, _AT_THE_DOOR)
        self._chains = _Lines(rooms, 1)

    async def create(self, meeting: Meeting, *, fingerprint: str = "") -> Meeting | Refused:
        return await self._settle(lambda: aggregate.create(self._rooms, meeting, fingerprint))

    async def get(self, meeting_id: MeetingId) -> Meeting | None:
        return await aggregate.find(self._rooms, meeting_id)

    async def of_host(
        self, host_id: UserId, *, start: datetime | None, end: datetime | None, cursor: str | None, limit: int
    ) -> Page:
        return await hosts.page(self._rooms.hosts, host_id, start, end, cursor, limit)

    async def change_settings(
        self, meeting_id: MeetingId, settings: MeetingSettings, *, expected_version: int, now: datetime
    ) -> Meeting | Refused:
        return await self._settle(
            lambda: aggregate.change_settings(self._rooms, meeting_id, settings, expected_version)
        )

    async def end(
        self, meeting_id: MeetingId, *, by: UserId, now: datetime, expected_version: int | None = None
    ) -> Ended | Refused:
        return await self._settle(lambda: aggregate.end(self._rooms, meeting_id, by, now, expected_version))

    async def session(self, session_id: SessionId) -> Session | None:
        return await aggregate.session(self._rooms, session_id)

    async def join(self, request: JoinRequest) -> Joined | Refused:
        async with self._doors.stand(request.meeting_id):
            return await self._settle(lambda: joining.join(self._rooms, request))

    async def mark_joined(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, lease_until: datetime
    ) -> Participant | None:
        return await self._settle(lambda: stays.mark_joined(self._rooms, meeting_id, participant_id, now, lease_until))

    async def mark_left(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, reason: str
    ) -> bool:
        return await self._settle(lambda: stays.mark_left(self._rooms, meeting_id, participant_id, now, reason))

    async def renew_leases(
        self, meeting_id: MeetingId, participant_ids: Collection[ParticipantId], *, now: datetime, until: datetime
    ) -> int:
        if not participant_ids:
            return 0
        return await self._settle(lambda: stays.renew_leases(self._rooms, meeting_id, participant_ids, now, until))

    async def remove(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, by: UserId, now: datetime
    ) -> Participant | Refused:
        return await self._settle(lambda: stays.remove(self._rooms, meeting_id, participant_id, by, now))

    async def set_role(
        self, meeting_id: MeetingId, participant_id: ParticipantId, role: Role, *, now: datetime
    ) -> Participant | Refused:
        return await self._settle(lambda: stays.set_role(self._rooms, meeting_id, participant_id, role))

    async def participant(self, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None:
        return await stays.find(self._rooms, meeting_id, participant_id)

    async def place_of(self, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
        return await stays.place_of(self._rooms, meeting_id, user_id, now)

    async def participants(self, meeting_id: MeetingId, *, cursor: str | None, limit: int) -> ParticipantPage:
        return await stays.page(self._rooms, meeting_id, cursor, limit)

    async def live_count(self, meeting_id: MeetingId, now: datetime) -> int:
        return await stays.live_count(self._rooms, meeting_id, now)

    async def record_consent(self, consent: NewConsent) -> ConsentLog | Refused:
        async with self._chains.stand(consent.meeting_id):
            return await self._settle(lambda: consents.record(self._rooms, consent))

    async def consents(self, meeting_id: MeetingId, user_id: UserId | None = None) -> Sequence[ConsentLog]:
        return await consents.chain(self._rooms, meeting_id, user_id)

    async def consent(self, meeting_id: MeetingId, consent_id: ConsentId) -> ConsentLog | None:
        found = await consents.chain(self._rooms, meeting_id, consent_id=consent_id)
        return found[0] if found else None

    async def provider_identity(self, meeting_id: MeetingId, user_id: UserId) -> str | None:
        return await identities.find(self._rooms, meeting_id, user_id)

    async def bind_provider_identity(self, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
        return await self._settle(lambda: identities.bind(self._rooms, meeting_id, user_id, identity))

    async def expire_leases(self, now: datetime, *, limit: int = 1_000) -> Sequence[Participant]:
        return await timers.expire_leases(self._rooms, now, limit)

    async def expire_rooms(self, now: datetime, *, idle_s: float, limit: int = 100) -> Sequence[MeetingId]:
        return await timers.expire_rooms(self._rooms, now, idle_s, limit)

    async def delete_ended_before(self, before: datetime, *, limit: int = 100) -> Sequence[MeetingId]:
        return await timers.delete_ended(self._rooms, before, limit)
