"""Rooms over the ports: state, settings, moderation, TURN credentials."""

import logging
from dataclasses import dataclass, replace
from typing import Any, Final

from conference.domain.claims import Caller
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.meetings import Meeting, Participant, Role
from conference.domain.policies import check_settings, may_change_settings
from conference.ports.presence import RoomView
from conference.ports.tokens import IceServer
from functions import joining, live, media
from functions.access import hosted, visible
from functions.conditions import expected_version
from functions.joining import Admission
from functions.meetings import use_cases as meetings
from functions.meetings.use_cases import NewMeeting
from functions.services import Services

log = logging.getLogger(__name__)
_ATTEMPTS: Final = 8  # at a change with `If-Match: *` beside other changes


@dataclass(frozen=True, slots=True)
class LiveState:
    """Places by the store; the rest by the directory, None while it is away or knows no such room."""

    participant_count: int
    view: RoomView | None


async def create(
    services: Services, caller: Caller, route: str, new: NewMeeting, key: str | None
) -> tuple[Meeting, Admission]:
    """A room and its host's place. Raises Refused as `meetings.create` and `MeetingStore.join`."""
    meeting = await meetings.create(services, caller, route, new, key)
    return meeting, await joining.reserve_for_host(services, meeting)


async def read(services: Services, caller: Caller, room_id: MeetingId) -> tuple[Meeting, LiveState]:
    """Raises Refused("not-found")."""
    meeting = await visible(services, caller, room_id)
    return meeting, await _live_state(services, room_id)


async def _live_state(services: Services, room_id: MeetingId) -> LiveState:
    count = await services.meetings.live_count(room_id, services.clock.now())
    try:
        return LiveState(count, await services.presence.view(room_id))
    except Unavailable:
        log.warning("room state without the directory")
        return LiveState(count, None)


async def change_settings(
    services: Services, caller: Caller, room_id: MeetingId, changes: dict[str, Any], if_match: str | None
) -> tuple[Meeting, LiveState]:
    """Raises Refused: not-found, not-host, precondition-required, precondition-failed, meeting-ended, and those of
    `policies.check_settings`."""
    for _ in range(_ATTEMPTS):
        meeting = await hosted(services, caller, room_id)
        version = expected_version(if_match, meeting)  # `*` is every version: one that passed by is read again
        settings = replace(meeting.settings, **changes)
        for decision in (
            check_settings(settings, services.providers),
            may_change_settings(meeting.settings, settings),
        ):
            if isinstance(decision, Refused):
                raise decision
        changed = await services.meetings.change_settings(
            room_id, settings, expected_version=version, now=services.clock.now()
        )
        if not isinstance(changed, Refused):
            return changed, await _live_state(services, room_id)
        if changed.reason != "precondition-failed":
            raise changed
    raise Unavailable("meeting")


async def remove(services: Services, caller: Caller, room_id: MeetingId, participant_id: ParticipantId) -> Participant:
    """Ends the stay, revokes its tokens and keeps the user out. Raises Refused: not-found, not-host, forbidden (the
    host stays; ending the meeting is theirs), provider-unavailable (repeating it is harmless)."""
    meeting = await hosted(services, caller, room_id)
    removed = await services.meetings.remove(room_id, participant_id, by=caller.user_id, now=services.clock.now())
    if isinstance(removed, Refused):
        raise removed
    await live.announce_removal(services, removed, caller.user_id)
    await media.revoke(services, meeting, removed.user_id)
    return removed


async def mute(services: Services, caller: Caller, room_id: MeetingId, participant_id: ParticipantId) -> Participant:
    """Mutes somebody who is in the room. Raises Refused: not-found, not-host, not-a-participant, not-available (the
    media is another provider's); Unavailable."""
    meeting = await hosted(services, caller, room_id)
    if meeting.provider_room is not None:
        raise Refused("not-available", "Mute people in the client of the meeting's media provider.")
    stay = await _stay(services, room_id, participant_id)
    if not stay.is_live(services.clock.now()):
        raise Refused("not-a-participant", "They have left the room.")
    await live.order_mute(services, stay, caller.user_id)
    return stay


async def set_role(
    services: Services, caller: Caller, room_id: MeetingId, participant_id: ParticipantId, role: Role
) -> Participant:
    """Raises Refused: not-found, not-host, role-not-allowed, provider-unavailable; Unavailable (repeating it is
    harmless)."""
    meeting = await hosted(services, caller, room_id)
    changed = await services.meetings.set_role(room_id, participant_id, role, now=services.clock.now())
    if isinstance(changed, Refused):
        raise changed
    await live.order_role(services, changed, caller.user_id)
    await media.change_role(services, meeting, changed)
    return changed


async def ice_servers(
    services: Services, caller: Caller, room_id: MeetingId, participant_id: ParticipantId | None
) -> tuple[IceServer, ...]:
    """Fresh TURN credentials for the caller's own live place. Raises Refused: not-found, not-a-participant."""
    await visible(services, caller, room_id)
    now = services.clock.now()
    place = await services.meetings.place_of(room_id, caller.user_id, now)
    if place is None or participant_id not in (None, place.id):
        raise Refused("not-a-participant")
    return services.ice.for_participant(place.id, now)


async def _stay(services: Services, room_id: MeetingId, participant_id: ParticipantId) -> Participant:
    stay = await services.meetings.participant(room_id, participant_id)
    if stay is None:
        raise Refused("not-found")
    return stay
