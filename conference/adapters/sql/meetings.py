"""Port `MeetingStore` in SQL: each method is one call of a function that runs in one transaction.

The functions stand beside: `aggregate` (the meeting itself), `joining`, `stays`, `consents`, `timers`.
"""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from conference.adapters.sql import aggregate, consents, joining, stays, timers
from conference.adapters.sql.engine import Database
from conference.domain.consent import ConsentLog
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, SessionId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Participant, Role, Session
from conference.ports.clock import Ids
from conference.ports.meetings import Ended, Joined, JoinRequest, NewConsent, Page, ParticipantPage


class SqlMeetingStore:
    """Over an open database. `ids` name events and audit entries."""

    def __init__(self, database: Database, ids: Ids) -> None:
        self._database = database
        self._ids = ids

    async def create(self, meeting: Meeting, *, fingerprint: str = "") -> Meeting | Refused:
        return await self._database.write(lambda c: aggregate.create(c, self._ids, meeting, fingerprint))

    async def get(self, meeting_id: MeetingId) -> Meeting | None:
        return await self._database.read(lambda c: aggregate.find(c, meeting_id))

    async def of_host(
        self, host_id: UserId, *, start: datetime | None, end: datetime | None, cursor: str | None, limit: int
    ) -> Page:
        return await self._database.read(lambda c: aggregate.of_host(c, host_id, start, end, cursor, limit))

    async def change_settings(
        self, meeting_id: MeetingId, settings: MeetingSettings, *, expected_version: int, now: datetime
    ) -> Meeting | Refused:
        return await self._database.write(
            lambda c: aggregate.change_settings(c, meeting_id, settings, expected_version)
        )

    async def end(
        self, meeting_id: MeetingId, *, by: UserId, now: datetime, expected_version: int | None = None
    ) -> Ended | Refused:
        return await self._database.write(lambda c: aggregate.end(c, self._ids, meeting_id, by, now, expected_version))

    async def session(self, session_id: SessionId) -> Session | None:
        return await self._database.read(lambda c: aggregate.session(c, session_id))

    async def join(self, request: JoinRequest) -> Joined | Refused:
        return await self._database.write(lambda c: joining.join(c, self._ids, request))

    async def mark_joined(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, lease_until: datetime
    ) -> Participant | None:
        return await self._database.write(
            lambda c: stays.mark_joined(c, self._ids, meeting_id, participant_id, now, lease_until)
        )

    async def mark_left(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, now: datetime, reason: str
    ) -> bool:
        return await self._database.write(
            lambda c: stays.mark_left(c, self._ids, meeting_id, participant_id, now, reason)
        )

    async def renew_leases(
        self, meeting_id: MeetingId, participant_ids: Collection[ParticipantId], *, now: datetime, until: datetime
    ) -> int:
        if not participant_ids:
            return 0
        return await self._database.write(lambda c: stays.renew_leases(c, meeting_id, participant_ids, now, until))

    async def remove(
        self, meeting_id: MeetingId, participant_id: ParticipantId, *, by: UserId, now: datetime
    ) -> Participant | Refused:
        return await self._database.write(lambda c: stays.remove(c, self._ids, meeting_id, participant_id, by, now))

    async def set_role(
        self, meeting_id: MeetingId, participant_id: ParticipantId, role: Role, *, now: datetime
    ) -> Participant | Refused:
        return await self._database.write(lambda c: stays.set_role(c, meeting_id, participant_id, role))

    async def participant(self, meeting_id: MeetingId, participant_id: ParticipantId) -> Participant | None:
        return await self._database.read(lambda c: stays.find(c, meeting_id, participant_id))

    async def place_of(self, meeting_id: MeetingId, user_id: UserId, now: datetime) -> Participant | None:
        return await self._database.read(lambda c: stays.place_of(c, meeting_id, user_id, now))

    async def participants(self, meeting_id: MeetingId, *, cursor: str | None, limit: int) -> ParticipantPage:
        return await self._database.read(lambda c: aggregate.participants_of(c, meeting_id, cursor, limit))

    async def live_count(self, meeting_id: MeetingId, now: datetime) -> int:
        return await self._database.read(lambda c: aggregate.live_count(c, meeting_id, now))

    async def record_consent(self, consent: NewConsent) -> ConsentLog | Refused:
        return await self._database.write(lambda c: consents.record(c, self._ids, consent))

    async def consents(self, meeting_id: MeetingId, user_id: UserId | None = None) -> Sequence[ConsentLog]:
        return await self._database.read(lambda c: consents.chain(c, meeting_id, user_id))

    async def consent(self, meeting_id: MeetingId, consent_id: ConsentId) -> ConsentLog | None:
        found = await self._database.read(lambda c: consents.chain(c, meeting_id, consent_id=consent_id))
        return found[0] if found else None

    async def provider_identity(self, meeting_id: MeetingId, user_id: UserId) -> str | None:
        return await self._database.read(lambda c: aggregate.provider_identity(c, meeting_id, user_id))

    async def bind_provider_identity(self, meeting_id: MeetingId, user_id: UserId, identity: str) -> str:
        return await self._database.write(lambda c: aggregate.bind_identity(c, meeting_id, user_id, identity))

    async def expire_leases(self, now: datetime, *, limit: int = 1_000) -> Sequence[Participant]:
        ended: list[Participant] = []
        for meeting_id, stays_of in (await self._database.read(lambda c: timers.lapsed(c, now, limit))).items():
            ended.extend(await self._expire(meeting_id, stays_of, now))
        return ended

    async def _expire(
        self, meeting_id: MeetingId, participant_ids: list[ParticipantId], now: datetime
    ) -> Sequence[Participant]:
        return await self._database.write(lambda c: timers.expire(c, self._ids, meeting_id, participant_ids, now))

    async def expire_rooms(self, now: datetime, *, idle_s: float, limit: int = 100) -> Sequence[MeetingId]:
        before = now - timedelta(seconds=idle_s)
        idle = await self._database.read(lambda c: timers.idle_rooms(c, before, limit))
        return [room for room in idle if await self._close_idle(room, before)]

    async def _close_idle(self, meeting_id: MeetingId, before: datetime) -> bool:
        return await self._database.write(lambda c: timers.close_idle(c, meeting_id, before))

    async def delete_ended_before(self, before: datetime, *, limit: int = 100) -> Sequence[MeetingId]:
        return await self._database.write(lambda c: timers.delete_ended(c, before, limit))
