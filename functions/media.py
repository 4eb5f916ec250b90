"""The media of a meeting where another provider than Parley carries it: its room, and who may enter there.

The store is the truth and is asked first; the provider is told. A room is made before its meeting is stored, so that no
meeting stands without one, and taken back where the meeting is not stored. What ends or takes away is told at once and
again from the queue (`functions/events.py`) until the provider has it. A provider that does not answer is
Refused("provider-unavailable"), status 503.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypeVar

from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import UserId
from conference.domain.meetings import Meeting, Participant, Role
from conference.ports.media_provider import MediaProvider, ProviderAccess, RoomPlan
from functions.services import Services

T = TypeVar("T")
# Of one thing asked of a provider. The most that a request asks for is an identity, a room (half of it each) and an
# access: less than a page waits (15 s).
MOST_S: Final = 7.0
HALF: Final = 0.5
TIDYING_S: Final = 2.0
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Booking:
    """A meeting to store, with the room that was made for it and its host's name there; both None where it needs none
    or was stored before."""

    meeting: Meeting
    room_id: str | None = None
    host_identity: str | None = None


async def book(services: Services, meeting: Meeting) -> Booking:
    """Makes the room of a meeting that is not stored yet. Raises Refused("provider-unavailable") and leaves nothing."""
    provider = services.providers[meeting.settings.media_provider]
    if not provider.token_life or await services.meetings.get(meeting.id) is not None:
        return Booking(meeting)
    identity = await _told(provider.new_identity(meeting.host_id), HALF)
    try:
        room_id = await _told(provider.open_room(_plan(services, meeting), {identity: Role.HOST}), HALF)
    except Refused:
        await _tolerant(provider.drop_identity(identity))
        raise
    return Booking(replace(meeting, provider_room=room_id), room_id, identity)


async def confirm(services: Services, booking: Booking, stored: Meeting) -> None:
    """The store has answered with a meeting: ours, or the one that a request of the same key was faster with."""
    if booking.room_id is None or booking.host_identity is None:
        return
    if stored.provider_room != booking.room_id:
        await take_back(services, booking)
        return
    meetings = services.meetings
    counted = await meetings.bind_provider_identity(stored.id, stored.host_id, booking.host_identity)
    if counted != booking.host_identity:
        await _tolerant(services.providers[stored.settings.media_provider].drop_identity(booking.host_identity))


async def take_back(services: Services, booking: Booking) -> None:
    """The meeting was not stored: its room goes, unless it is the room of one that was. Where nobody can tell, it
    stays: the same key finds it again, and else the provider drops it when its time is over."""
    if booking.room_id is None or booking.host_identity is None:
        return
    provider = services.providers[booking.meeting.settings.media_provider]
    try:
        standing = await services.meetings.get(booking.meeting.id)
    except Unavailable:
        log.warning("a room stays at the provider: the store cannot tell whose it is")
        return
    if standing is None or standing.provider_room != booking.room_id:
        await _tolerant(provider.close_room(booking.room_id))
        await _tolerant(provider.drop_identity(booking.host_identity))


def place_life(services: Services, meeting: Meeting) -> timedelta:
    """How long a place is held: as long as what was issued for it opens a door."""
    own = services.config.join_token_life
    if meeting.provider_room is None:
        return own
    return max(own, _provider(services, meeting).token_life)


async def admit(services: Services, meeting: Meeting, place: Participant, now: datetime) -> ProviderAccess | None:
    """The access of who has a place; None where the media is Parley's own. Raises Refused("provider-unavailable")."""
    if meeting.provider_room is None:
        return None
    provider, plan = _provider(services, meeting), _plan(services, meeting)
    identity = await _identity(services, provider, meeting, place.user_id)
    return await _told(provider.admit(plan, meeting.provider_room, identity, place.role, now=now))


async def _identity(services: Services, provider: MediaProvider, meeting: Meeting, user_id: UserId) -> str:
    """One a user and meeting: of two that were made at once, one counts and the other goes."""
    known = await services.meetings.provider_identity(meeting.id, user_id)
    if known is not None:
        return known
    made = await _told(provider.new_identity(user_id), HALF)
    counted = await services.meetings.bind_provider_identity(meeting.id, user_id, made)
    if counted != made:
        await _tolerant(provider.drop_identity(made))
    return counted


async def change_role(services: Services, meeting: Meeting, changed: Participant) -> None:
    """Raises Refused("provider-unavailable"): no domain event repeats it, so the caller has to."""
    identity = await services.meetings.provider_identity(meeting.id, changed.user_id)
    if meeting.provider_room is not None and identity is not None:
        await _told(_provider(services, meeting).change_role(meeting.provider_room, identity, changed.role))


async def revoke(services: Services, meeting: Meeting, user_id: UserId) -> None:
    """The user was removed. Raises Refused("provider-unavailable")."""
    if meeting.provider_room is None:
        return
    identity = await services.meetings.provider_identity(meeting.id, user_id)
    if identity is not None:
        now = services.clock.now()
        await _told(_provider(services, meeting).revoke(meeting.provider_room, identity, now=now))


async def close(services: Services, meeting: Meeting) -> None:
    """The meeting has ended. Raises Refused("provider-unavailable")."""
    if meeting.provider_room is not None:
        await _told(_provider(services, meeting).close_room(meeting.provider_room))


async def announce_close(services: Services, meeting: Meeting) -> None:
    """`close`, which the queue repeats where it fails now."""
    try:
        await close(services, meeting)
    except Refused:
        log.warning("the provider's room stays open until the queue closes it")


def _plan(services: Services, meeting: Meeting) -> RoomPlan:
    return RoomPlan.of(meeting, services.config.join_early)


def _provider(services: Services, meeting: Meeting) -> MediaProvider:
    """The provider of a stored meeting, which the installation may have given up since."""
    provider = services.providers.get(meeting.settings.media_provider)
    if provider is None:
        log.error("a meeting's media provider is not set up", extra={"provider": meeting.settings.media_provider.value})
        raise Refused("provider-unavailable")
    return provider


async def _told(call: Awaitable[T], share: float = 1.0) -> T:
    """What the provider gives. However many requests it takes, a caller's patience is one."""
    try:
        async with asyncio.timeout(MOST_S * share):
            return await call
    except TimeoutError as error:
        raise Refused("provider-unavailable") from error
    except Unavailable as error:
        extra = {"retryAfterS": error.after_s} if error.after_s else {}
        raise Refused("provider-unavailable", extra=dict(extra)) from error


async def _tolerant(call: Awaitable[None]) -> None:
    """For taking back: what stays behind is unused and goes by itself."""
    try:
        async with asyncio.timeout(TIDYING_S):
            await call
    except (Unavailable, TimeoutError):
        log.warning("something stays unused at the media provider")
