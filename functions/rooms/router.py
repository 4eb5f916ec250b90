"""HTTP shape of the rooms resource."""

from fastapi import APIRouter, Response

from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.meetings import Participant
from functions import joining
from functions.conditions import IdempotencyKey, IfMatch, etag
from functions.meetings.router import JOIN_REFUSALS
from functions.meetings.schemas import IceServerOut, JoinIn, JoinOut, provider_out
from functions.meetings.use_cases import NewMeeting
from functions.rooms import use_cases
from functions.rooms.schemas import (
    IceServersIn,
    IceServersOut,
    ModeratedOut,
    RoleChange,
    RoomChange,
    RoomCreated,
    RoomIn,
    RoomOut,
)
from functions.routing import ETAG_HEADER, WRITES, MeetingPath, ParticipantPath, refusals
from functions.security import CallerOf, ServicesOf

ROUTE_CREATE = "POST /v1/rooms"
router = APIRouter(prefix="/v1/rooms", tags=["rooms"])


@router.post(
    "",
    operation_id="createRoom",
    status_code=201,
    response_model_exclude_none=True,
    responses={
        **refusals(
            *WRITES,
            "forbidden",
            "not-available",
            "e2ee-excludes",
            "idempotency-conflict",
            "meeting-ended",
            "provider-unavailable",
        ),
        201: {"headers": {"Location": {"schema": {"type": "string"}, "description": "The new room."}}},
    },
)
async def create_room(
    body: RoomIn, response: Response, services: ServicesOf, caller: CallerOf, key: IdempotencyKey = None
) -> RoomCreated:
    """Creates a room that is open at once, and reserves its host's place."""
    new = NewMeeting(body.host_id, body.settings.chosen(), None, body.password)
    meeting, admission = await use_cases.create(services, caller, ROUTE_CREATE, new, key)
    response.headers["Location"] = f"/v1/rooms/{meeting.id}"
    return RoomCreated.model_construct(
        room_id=meeting.id,
        join_token=admission.token,
        expires_at=admission.expires_at,
        provider=provider_out(admission),
    )


@router.get("/{id}", operation_id="getRoom", responses={**refusals("not-found"), 200: {"headers": ETAG_HEADER}})
async def get_room(room_id: MeetingPath, response: Response, services: ServicesOf, caller: CallerOf) -> RoomOut:
    """State and settings of a room."""
    meeting, live = await use_cases.read(services, caller, MeetingId(room_id))
    response.headers["ETag"] = etag(meeting)
    return RoomOut.of(meeting, live)


@router.patch(
    "/{id}",
    operation_id="changeRoom",
    responses={
        **refusals(
            *WRITES,
            "not-found",
            "not-host",
            "not-available",
            "e2ee-excludes",
            "meeting-ended",
            "precondition-required",
            "precondition-failed",
        ),
        200: {"headers": ETAG_HEADER},
    },
)
async def change_room(
    room_id: MeetingPath,
    body: RoomChange,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    if_match: IfMatch = None,
) -> RoomOut:
    """Changes settings. `If-Match` carries the ETag that was read, so that nobody's change is lost."""
    changes = body.settings.chosen()
    meeting, live = await use_cases.change_settings(services, caller, MeetingId(room_id), changes, if_match)
    response.headers["ETag"] = etag(meeting)
    return RoomOut.of(meeting, live)


@router.post("/{id}/join", operation_id="joinRoom", responses=JOIN_REFUSALS, response_model_exclude_none=True)
async def join_room(room_id: MeetingPath, body: JoinIn, services: ServicesOf, caller: CallerOf) -> JoinOut:
    """The same as `POST /v1/meetings/{id}/join`."""
    return JoinOut.of(await joining.join(services, caller, MeetingId(room_id), body.wish()))


@router.post(
    "/{id}/participants/{pid}/remove",
    operation_id="removeParticipant",
    responses=refusals("not-found", "not-host", "forbidden", "provider-unavailable"),
)
async def remove_participant(
    room_id: MeetingPath, pid: ParticipantPath, services: ServicesOf, caller: CallerOf
) -> ModeratedOut:
    """Removes a participant: their token is revoked at once, and they may not join this meeting again.

    503 `provider-unavailable` where the meeting's media provider could not be told: they are removed here; repeat the
    request, so that they are there too."""
    return _moderated(await use_cases.remove(services, caller, MeetingId(room_id), ParticipantId(pid)))


@router.post(
    "/{id}/participants/{pid}/mute",
    operation_id="muteParticipant",
    responses=refusals("not-found", "not-host", "not-a-participant", "not-available"),
)
async def mute_participant(
    room_id: MeetingPath, pid: ParticipantPath, services: ServicesOf, caller: CallerOf
) -> ModeratedOut:
    """Mutes a participant's microphone; they may unmute themselves. Not where the media is another provider's.

    503 where the room cannot be reached at the moment: then nobody was muted, and nobody will be later."""
    return _moderated(await use_cases.mute(services, caller, MeetingId(room_id), ParticipantId(pid)))


@router.post(
    "/{id}/participants/{pid}/role",
    operation_id="setParticipantRole",
    responses=refusals(*WRITES, "not-found", "not-host", "role-not-allowed", "provider-unavailable"),
)
async def set_participant_role(
    room_id: MeetingPath, pid: ParticipantPath, body: RoleChange, services: ServicesOf, caller: CallerOf
) -> ModeratedOut:
    """Makes an attendee a viewer or a viewer an attendee. The host's role never changes.

    503 where the room cannot be reached at the moment: the role is stored and counts from the next join on; repeat the
    request to change the connection that is open. Who becomes a viewer in a room of Azure Communication Services joins
    again for a new token."""
    changed = await use_cases.set_role(services, caller, MeetingId(room_id), ParticipantId(pid), body.role)
    return _moderated(changed)


@router.post(
    "/{id}/ice-servers",
    operation_id="getIceServers",
    responses=refusals(*WRITES, "not-found", "not-a-participant"),
    response_model_exclude_none=True,
)
async def ice_servers(
    room_id: MeetingPath, services: ServicesOf, caller: CallerOf, body: IceServersIn | None = None
) -> IceServersOut:
    """Fresh TURN credentials for the caller's live place; an empty list where no TURN server is configured."""
    participant_id = ParticipantId(body.participant_id) if body and body.participant_id else None
    servers = await use_cases.ice_servers(services, caller, MeetingId(room_id), participant_id)
    return IceServersOut.model_construct(ice_servers=[IceServerOut.of(server) for server in servers])


def _moderated(participant: Participant) -> ModeratedOut:
    return ModeratedOut.showing(participant, participant_id=participant.id)
