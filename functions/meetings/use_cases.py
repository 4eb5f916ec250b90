"""Meetings over the ports: create, list, read, end, history."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from conference.domain.claims import Caller
from conference.domain.consent import ConsentLog
from conference.domain.errors import ProtocolError, Refused, Unavailable
from conference.domain.ids import MeetingId, Secret, UserId
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Participant
from conference.domain.policies import check_settings, provider_of
from conference.ports.meetings import Page
from functions import media
from functions.access import acting_for, attended, hosted, is_hosting, visible
from functions.conditions import expected_version, fingerprint, id_for
from functions.live import announce_end
from functions.services import Services


@dataclass(frozen=True, slots=True)
class NewMeeting:
    """What the caller wants to create; `settings` holds the chosen members in the domain's words."""

    host_id: str
    settings: dict[str, Any] = field(default_factory=dict)
    scheduled_time: datetime | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Attendance:
    """A page of stays with the names that go with them."""

    stays: Sequence[tuple[Participant, str]]
    next_cursor: str | None


async def create(services: Services, caller: Caller, route: str, new: NewMeeting, key: str | None) -> Meeting:
    """Stores the meeting once per Idempotency-Key. Raises Refused: forbidden, invalid-body, not-available,
    e2ee-excludes, idempotency-conflict, provider-unavailable."""
    host_id = await acting_for(services, caller, UserId(new.host_id))
    settings = MeetingSettings(**new.settings)
    if "media_provider" not in new.settings:
        settings = replace(settings, media_provider=provider_of(settings, services.config.media_provider))
    decision = check_settings(settings, services.providers)
    if isinstance(decision, Refused):
        raise decision
    password_hash = await services.passwords.hash(Secret(new.password)) if new.password else None
    meeting = Meeting(
        id=MeetingId(id_for(caller, route, key, services.ids)),
        host_id=host_id,
        tenant_id=caller.tenant_id,
        region=services.config.region,
        created_at=services.clock.now(),
        scheduled_time=new.scheduled_time,
        password_hash=password_hash,
        settings=settings,
    )
    stored = await _store(services, meeting, _fingerprint(new))
    await _same_password(services, meeting, stored, new.password)
    return stored


async def _store(services: Services, meeting: Meeting, fingerprint: str) -> Meeting:
    """With its room at the media provider; where it is not stored, there is no room either."""
    booking = await media.book(services, meeting)
    try:
        stored = await services.meetings.create(booking.meeting, fingerprint=fingerprint)
    except Unavailable:
        await media.take_back(services, booking)
        raise
    if isinstance(stored, Refused):
        await media.take_back(services, booking)
        raise stored
    await media.confirm(services, booking, stored)
    return stored


def _fingerprint(new: NewMeeting) -> str:
    """Of everything but the password, whose digest must not lie beside its argon2 hash."""
    scheduled = new.scheduled_time.isoformat() if new.scheduled_time else None
    return fingerprint([new.host_id, scheduled, new.settings, new.password is not None])


async def _same_password(services: Services, sent: Meeting, stored: Meeting, password: str | None) -> None:
    """A retry has to carry the password that the first request had."""
    if not password or stored.password_hash is None or stored.password_hash == sent.password_hash:
        return
    if not await services.passwords.verify(stored.password_hash, Secret(password)):
        raise Refused("idempotency-conflict")


async def of_host(
    services: Services,
    caller: Caller,
    host_id: str | None,
    *,
    start: datetime | None,
    end: datetime | None,
    cursor: str | None,
    limit: int,
) -> Page:
    """A host's meetings, newest first. Raises Refused("forbidden"), ProtocolError("invalid-cursor")."""
    host = await acting_for(services, caller, UserId(host_id or caller.user_id))
    return await services.meetings.of_host(host, start=start, end=end, cursor=cursor, limit=limit)


async def read(services: Services, caller: Caller, meeting_id: MeetingId) -> Meeting:
    """Raises Refused("not-found")."""
    return await visible(services, caller, meeting_id)


async def end(services: Services, caller: Caller, meeting_id: MeetingId, if_match: str | None) -> Meeting:
    """Ends the meeting for everybody; again gives the same, whatever version is named. Raises Refused: not-found,
    not-host, precondition-failed."""
    meeting = await hosted(services, caller, meeting_id)
    version: int | None = None  # an end needs no precondition: nothing that others wrote is lost by it
    if if_match is not None and if_match.strip() != "*" and meeting.status is not MeetingStatus.COMPLETED:
        version = expected_version(if_match, meeting)
    ended = await services.meetings.end(
        meeting_id, by=caller.user_id, now=services.clock.now(), expected_version=version
    )
    if isinstance(ended, Refused):
        raise ended
    await announce_end(services, meeting_id)
    await media.announce_close(services, ended.meeting)
    return ended.meeting


async def participants(
    services: Services, caller: Caller, meeting_id: MeetingId, *, cursor: str | None, limit: int
) -> Attendance:
    """Everybody who ever had a place. Raises Refused: not-found, not-a-participant."""
    await attended(services, caller, meeting_id)
    page = await services.meetings.participants(meeting_id, cursor=cursor, limit=limit)
    names = await services.users.names([participant.user_id for participant in page.items])
    return Attendance([(stay, names.get(stay.user_id, "")) for stay in page.items], page.next_cursor)


async def consents(
    services: Services, caller: Caller, meeting_id: MeetingId, *, cursor: str | None, limit: int
) -> tuple[Sequence[ConsentLog], str | None]:
    """The consent chain for those who host; everybody else sees their own entries. The cursor is a position: the
    chain only grows at its end. Raises Refused("not-found"), ProtocolError("invalid-cursor")."""
    meeting = await visible(services, caller, meeting_id)
    first = _position(cursor)
    owner = None if is_hosting(meeting, caller) else caller.user_id
    chain = await services.meetings.consents(meeting_id, owner)
    following = first + limit
    return chain[first:following], str(following) if following < len(chain) else None


def _position(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):
        raise ProtocolError("invalid-cursor", "This cursor was not given by a former page.")
    return int(cursor)
