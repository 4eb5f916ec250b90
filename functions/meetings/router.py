"""HTTP shape of the meetings resource."""

from typing import Annotated

from fastapi import APIRouter, Query, Response

from conference.domain.ids import MeetingId
from functions import joining
from functions.conditions import IdempotencyKey, MayMatch, etag
from functions.meetings import use_cases
from functions.meetings.schemas import (
    ConsentEntryOut,
    ConsentPage,
    JoinIn,
    JoinOut,
    MeetingDetails,
    MeetingIn,
    MeetingPage,
    ParticipantOut,
    ParticipantPageOut,
)
from functions.routing import ETAG_HEADER, PAGES, WRITES, CursorQuery, LimitQuery, MeetingPath, refusals
from functions.schemas import Id, MeetingOut, TimeIn
from functions.security import CallerOf, ServicesOf

ROUTE_CREATE = "POST /v1/meetings"
JOIN_REFUSALS = refusals(
    *WRITES,
    "forbidden",
    "not-found",
    "not-started",
    "meeting-ended",
    "role-not-allowed",
    "removed",
    "password-required",
    "wrong-password",
    "too-many-tries",
    "consent-required",
    "consent-token-refused",
    "room-full",
    "provider-unavailable",
)
router = APIRouter(prefix="/v1/meetings", tags=["meetings"])


@router.post(
    "",
    operation_id="createMeeting",
    status_code=201,
    responses={
        **refusals(
            *WRITES, "forbidden", "not-available", "e2ee-excludes", "idempotency-conflict", "provider-unavailable"
        ),
        201: {
            "headers": {**ETAG_HEADER, "Location": {"schema": {"type": "string"}, "description": "The new meeting."}}
        },
    },
)
async def create_meeting(
    body: MeetingIn, response: Response, services: ServicesOf, caller: CallerOf, key: IdempotencyKey = None
) -> MeetingDetails:
    """Creates a meeting. `hostId` is the caller, or a user of the tenant whose admin the caller is.

    `settings.mediaProvider` chooses who carries the media, once: `acs` and `livekit` where the installation has them;
    its room is made with the meeting."""
    new = use_cases.NewMeeting(body.host_id, body.settings.chosen(), body.scheduled_time, body.password)
    meeting = await use_cases.create(services, caller, ROUTE_CREATE, new, key)
    response.headers["Location"] = f"/v1/meetings/{meeting.id}"
    response.headers["ETag"] = etag(meeting)
    return MeetingDetails.for_caller(meeting, caller.user_id)


@router.get("", operation_id="listMeetings", responses=refusals("forbidden", *PAGES))
async def list_meetings(
    services: ServicesOf,
    caller: CallerOf,
    host_id: Annotated[
        Id | None, Query(alias="hostId", description="The host; the caller where it is left out.")
    ] = None,
    start: Annotated[TimeIn | None, Query(alias="from", description="First start time.")] = None,
    end: Annotated[TimeIn | None, Query(alias="to", description="Start times before this.")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> MeetingPage:
    """A host's meetings by start time, newest first."""
    page = await use_cases.of_host(services, caller, host_id, start=start, end=end, cursor=cursor, limit=limit)
    items = [MeetingOut.of(meeting) for meeting in page.items]
    return MeetingPage.model_construct(items=items, next_cursor=page.next_cursor)


@router.get(
    "/{id}",
    operation_id="getMeeting",
    responses={**refusals("not-found"), 200: {"headers": ETAG_HEADER}},
)
async def get_meeting(
    meeting_id: MeetingPath, response: Response, services: ServicesOf, caller: CallerOf
) -> MeetingDetails:
    """A meeting, and what the caller needs to join it: the consent texts to decide on, whether a password is asked."""
    meeting = await use_cases.read(services, caller, MeetingId(meeting_id))
    response.headers["ETag"] = etag(meeting)
    return MeetingDetails.for_caller(meeting, caller.user_id)


@router.post("/{id}/join", operation_id="joinMeeting", responses=JOIN_REFUSALS, response_model_exclude_none=True)
async def join_meeting(meeting_id: MeetingPath, body: JoinIn, services: ServicesOf, caller: CallerOf) -> JoinOut:
    """Reserves a place until `expiresAt` and gives the token to take it over signaling.

    Joining again gives the same participant a new token. Others than the host may join from 15 minutes before
    `scheduledTime`. A meeting that records or uses AI needs a decision first (`POST /v1/users/consent`); who declined
    joins without that grant, and is told so in `declined`. Where another provider carries the media, `provider` is the
    way into its room; the place is then held as long as that access lasts."""
    return JoinOut.of(await joining.join(services, caller, MeetingId(meeting_id), body.wish()))


@router.put(
    "/{id}/end",
    operation_id="endMeeting",
    responses={**refusals("not-found", "not-host", "precondition-failed"), 200: {"headers": ETAG_HEADER}},
)
async def end_meeting(
    meeting_id: MeetingPath, response: Response, services: ServicesOf, caller: CallerOf, if_match: MayMatch = None
) -> MeetingOut:
    """Ends the meeting for everybody. Host or admin; again gives the same answer."""
    meeting = await use_cases.end(services, caller, MeetingId(meeting_id), if_match)
    response.headers["ETag"] = etag(meeting)
    return MeetingOut.of(meeting)


@router.get(
    "/{id}/participants",
    operation_id="listParticipants",
    responses=refusals("not-found", "not-a-participant", *PAGES),
)
async def list_participants(
    meeting_id: MeetingPath, services: ServicesOf, caller: CallerOf, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> ParticipantPageOut:
    """Every stay in the meeting, in order; for its host, admins, and those who took part."""
    page = await use_cases.participants(services, caller, MeetingId(meeting_id), cursor=cursor, limit=limit)
    items = [ParticipantOut.of(stay, name) for stay, name in page.stays]
    return ParticipantPageOut.model_construct(items=items, next_cursor=page.next_cursor)


@router.get("/{id}/consents", operation_id="listConsents", responses=refusals("not-found", *PAGES))
async def list_consents(
    meeting_id: MeetingPath, services: ServicesOf, caller: CallerOf, cursor: CursorQuery = None, limit: LimitQuery = 50
) -> ConsentPage:
    """The consent log: all entries for host and admins, one's own for everybody else."""
    entries, following = await use_cases.consents(services, caller, MeetingId(meeting_id), cursor=cursor, limit=limit)
    return ConsentPage.model_construct(items=[ConsentEntryOut.of(entry) for entry in entries], next_cursor=following)
