"""Orders to the signaling processes, for what REST changes in a live room.

They travel as room events with a dot in their type (conference/ports/presence.py). The store is the truth and has been
written before. What also left a domain event is ordered twice, at once and from the queue (`functions/events.py`),
under one id, so that the directory drops the second; its absence then fails no REST call. Payloads:

    room.ended      {}
    user.removed    {userId, participantId, byUserId?}
    user.grants     {userId, grants, declined}
    user.role       {userId, participantId, role, byUserId}
    user.muted      {userId, participantId, byUserId}
"""

import json
import logging
from collections.abc import Awaitable, Mapping
from typing import Final

from conference.domain.consent import granted, required_grants
from conference.domain.errors import Unavailable
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, UserId
from conference.domain.meetings import Meeting, Participant
from functions.services import Services

log = logging.getLogger(__name__)
ORIGIN: Final = "functions"
# A removed participant's tokens and resume secrets die by themselves within this time.
DENIED_S: Final = 3_600
# How long the directory remembers an order's id: longer than the queue takes to repeat it.
ONCE_S: Final = 3_600


async def announce_end(services: Services, meeting_id: MeetingId) -> None:
    """The meeting has ended: connections close with 4410."""
    await _tolerant(order_end(services, meeting_id), "room.ended")


async def announce_removal(services: Services, removed: Participant, by: UserId) -> None:
    """The participant was removed: tokens are revoked and the connection closes with 4403."""
    order = order_removal(services, removed.meeting_id, removed.id, removed.user_id, by=by)
    await _tolerant(order, "user.removed")


async def announce_grants(services: Services, meeting: Meeting, user_id: UserId, consent_id: ConsentId) -> None:
    """The user decided on consent: the grants of their media change."""
    await _tolerant(order_grants(services, meeting, user_id, consent_id), "user.grants")


async def order_end(services: Services, meeting_id: MeetingId) -> None:
    """Raises Unavailable."""
    await services.presence.publish(
        meeting_id, "room.ended", "{}", origin=ORIGIN, id=f"ended:{meeting_id}", once_s=ONCE_S
    )


async def order_removal(
    services: Services,
    meeting_id: MeetingId,
    participant_id: ParticipantId,
    user_id: UserId,
    *,
    by: UserId | None = None,
) -> None:
    """Raises Unavailable. Denied first: whoever learns of the removal must find it in force."""
    await services.presence.deny(meeting_id, participant_id, ttl_s=DENIED_S)
    payload = {"userId": user_id, "participantId": participant_id, **({"byUserId": by} if by else {})}
    await _order(services, meeting_id, user_id, "user.removed", payload, id=f"removed:{participant_id}")


async def order_grants(services: Services, meeting: Meeting, user_id: UserId, consent_id: ConsentId) -> None:
    """Raises Unavailable. Tells the state, not the change, so that a late repetition is harmless."""
    grants = granted(await services.meetings.consents(meeting.id, user_id), meeting.settings)
    declined = set(required_grants(meeting.settings)) - grants
    payload = {"userId": user_id, "grants": sorted(grants), "declined": sorted(declined)}
    await _order(services, meeting.id, user_id, "user.grants", payload, id=f"grants:{consent_id}")


async def order_role(services: Services, changed: Participant, by: UserId) -> None:
    """Raises Unavailable: no domain event repeats it, so the caller has to."""
    stay = {"userId": changed.user_id, "participantId": changed.id}
    payload = {**stay, "role": changed.role.value, "byUserId": by}
    await _order(services, changed.meeting_id, changed.user_id, "user.role", payload)


async def order_mute(services: Services, muted: Participant, by: UserId) -> None:
    """Raises Unavailable: muting lives in the room alone."""
    payload = {"userId": muted.user_id, "participantId": muted.id, "byUserId": by}
    await _order(services, muted.meeting_id, muted.user_id, "user.muted", payload)


async def _order(
    services: Services, meeting_id: MeetingId, to: UserId, type_: str, payload: Mapping[str, object], *, id: str = ""
) -> None:
    text = json.dumps(payload)
    once_s = ONCE_S if id else 0
    await services.presence.publish(meeting_id, type_, text, to=to, origin=ORIGIN, id=id, once_s=once_s)


async def _tolerant(order: Awaitable[None], type_: str) -> None:
    try:
        await order
    except Unavailable:
        log.warning("room order delayed until the queue repeats it", extra={"order": type_})
