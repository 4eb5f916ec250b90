"""Orders to the signaling processes, for what REST changes in a live room.

They travel as room events with a dot in their type (conference/ports/presence.py). The store is the truth and has been
written before; while the directory is away, what also left a domain event is repeated from the queue
(`functions/events.py`), so its absence fails no REST call. Every order may be repeated without harm. Payloads:

    room.ended      {}
    user.removed    {userId, participantId}
    user.grants     {userId, grants, declined}
    user.role       {userId, participantId, role}
    user.muted      {userId, participantId, byUserId}
"""

import json
import logging
from collections.abc import Awaitable
from typing import Final

from conference.domain.consent import granted, required_grants
from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId, UserId
from conference.domain.meetings import Meeting, Participant
from functions.services import Services

log = logging.getLogger(__name__)
ORIGIN: Final = "functions"
# A removed participant's tokens and resume secrets die by themselves within this time.
DENIED_S: Final = 3_600


async def announce_end(services: Services, meeting_id: MeetingId) -> None:
    """The meeting has ended: connections close with 4410."""
    await _tolerant(order_end(services, meeting_id), "room.ended")


async def announce_removal(services: Services, participant: Participant) -> None:
    """The participant was removed: tokens are revoked and the connection closes with 4403."""
    await _tolerant(order_removal(services, participant), "user.removed")


async def announce_grants(services: Services, meeting: Meeting, user_id: UserId) -> None:
    """The user decided on consent: the grants of their media change."""
    await _tolerant(order_grants(services, meeting, user_id), "user.grants")


async def order_end(services: Services, meeting_id: MeetingId) -> None:
    """Raises Unavailable."""
    await services.presence.publish(meeting_id, "room.ended", "{}", origin=ORIGIN)


async def order_removal(services: Services, participant: Participant) -> None:
    """Raises Unavailable. Denied first: whoever learns of the removal must find it in force."""
    await services.presence.deny(participant.meeting_id, participant.id, ttl_s=DENIED_S)
    await _order(services, participant, "user.removed")


async def order_grants(services: Services, meeting: Meeting, user_id: UserId) -> None:
    """Raises Unavailable. Tells the state, not the change, so that repeating it is harmless."""
    entries = await services.meetings.consents(meeting.id, user_id)
    grants = granted(entries, meeting.settings)
    payload = {
        "userId": user_id,
        "grants": sorted(grants),
        "declined": sorted(set(required_grants(meeting.settings)) - grants),
    }
    await services.presence.publish(meeting.id, "user.grants", json.dumps(payload), to=user_id, origin=ORIGIN)


async def order_role(services: Services, participant: Participant) -> None:
    """Raises Unavailable: no domain event repeats it, so the caller has to."""
    await _order(services, participant, "user.role", role=participant.role.value)


async def order_mute(services: Services, participant: Participant, by: UserId) -> None:
    """Raises Unavailable: muting lives in the room alone."""
    await _order(services, participant, "user.muted", byUserId=by)


async def _order(services: Services, participant: Participant, type_: str, **more: str) -> None:
    payload = {"userId": participant.user_id, "participantId": participant.id, **more}
    await services.presence.publish(
        participant.meeting_id, type_, json.dumps(payload), to=participant.user_id, origin=ORIGIN
    )


async def _tolerant(order: Awaitable[None], type_: str) -> None:
    try:
        await order
    except Unavailable:
        log.warning("room order delayed until the queue repeats it", extra={"order": type_})
