"""Meetings, people and requests as the tests of the stores need them."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from conference.domain.consent import TEXT_VERSION, ConsentStatus, ConsentType
from conference.domain.ids import ConsentId, MeetingId, SessionId, TenantId, UserId
from conference.domain.meetings import Meeting, MeetingSettings, Participant, Role
from conference.ports.meetings import Joined, JoinRequest, MeetingStore, NewConsent

TENANT = TenantId("11111111-1111-4111-8111-111111111111")
LEASE_S = 300.0


def uuid_of(kind: int, number: int) -> str:
    return str(UUID(int=(kind << 96) | 0x4000_8000_0000_0000_0000 | number))


def user(number: int) -> UserId:
    return UserId(uuid_of(0xAAAA, number))


HOST = user(0)


def a_meeting(now: datetime, number: int = 1, *, settings: MeetingSettings | None = None, **fields: Any) -> Meeting:
    """A meeting of HOST that is open now."""
    return Meeting(
        id=MeetingId(uuid_of(0xBBBB, number)),
        tenant_id=TENANT,
        region="local",
        created_at=now,
        settings=settings or MeetingSettings(),
        **{"host_id": HOST, **fields},
    )


def a_join(meeting: Meeting, user_id: UserId, now: datetime, **fields: Any) -> JoinRequest:
    """A request for a place with a lease of LEASE_S."""
    chosen: dict[str, Any] = {
        "role": Role.HOST if user_id == meeting.host_id else Role.ATTENDEE,
        "lease_until": now + timedelta(seconds=LEASE_S),
        "session_id": SessionId(str(uuid5(UUID(meeting.id), now.isoformat()))),
        **fields,
    }
    return JoinRequest(meeting_id=meeting.id, user_id=user_id, now=now, **chosen)


def a_consent(
    meeting: Meeting,
    user_id: UserId,
    now: datetime,
    number: int = 1,
    *,
    type: ConsentType = ConsentType.RECORDING_AI,
    status: ConsentStatus = ConsentStatus.ACCEPTED,
) -> NewConsent:
    return NewConsent(ConsentId(uuid_of(0xDDDD, number)), meeting.id, user_id, type, status, TEXT_VERSION, now)


async def seated(store: MeetingStore, meeting: Meeting, user_id: UserId, now: datetime, **fields: Any) -> Participant:
    """The participant of a user who has got a place."""
    answer = await store.join(a_join(meeting, user_id, now, **fields))
    assert isinstance(answer, Joined), answer
    return answer.participant


async def present(store: MeetingStore, meeting: Meeting, user_id: UserId, now: datetime) -> Participant:
    """The participant of a user who has got a place and then joined the room."""
    place = await seated(store, meeting, user_id, now)
    joined = await store.mark_joined(meeting.id, place.id, now=now, lease_until=now + timedelta(seconds=LEASE_S))
    assert joined is not None
    return joined
