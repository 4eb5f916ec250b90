"""HTTP shape of the users resource."""

from typing import Annotated

from fastapi import APIRouter, Path

from conference.domain.ids import MeetingId, ParticipantId, UserId
from functions.conditions import IdempotencyKey
from functions.meetings.schemas import IceServerOut
from functions.rooms.schemas import IceServersOut
from functions.routing import WRITES, refusals
from functions.schemas import Id
from functions.security import CallerOf, ServicesOf
from functions.users import use_cases
from functions.users.schemas import ConsentIn, ConsentOut, ProfileOut

ROUTE_CONSENT = "POST /v1/users/consent"
router = APIRouter(prefix="/v1/users", tags=["users"])


@router.post(
    "/consent",
    operation_id="recordConsent",
    status_code=201,
    responses=refusals(*WRITES, "not-found", "meeting-ended", "idempotency-conflict"),
)
async def record_consent(
    body: ConsentIn, services: ServicesOf, caller: CallerOf, key: IdempotencyKey = None
) -> ConsentOut:
    """Records the caller's decision on recording, AI processing or both, in the meeting's append-only log.

    A new decision replaces the former one from now on, also in a live meeting."""
    decision = use_cases.Decision(MeetingId(body.meeting_id), body.consent_type, body.status)
    recorded = await use_cases.record_consent(services, caller, ROUTE_CONSENT, decision, key)
    return ConsentOut.model_construct(
        consent_id=recorded.entry.id, consent_token=recorded.token, expires_at=recorded.expires_at
    )


@router.get("/me/profile", operation_id="getMyProfile", responses=refusals("not-found"))
async def my_profile(services: ServicesOf, caller: CallerOf) -> ProfileOut:
    """The caller's own profile, and so the caller's id."""
    user, with_email = await use_cases.profile(services, caller, caller.user_id)
    return ProfileOut.of(user, with_email=with_email)


@router.get("/me/ice-servers", operation_id="getMyIceServers", responses=refusals())
async def my_ice_servers(services: ServicesOf, caller: CallerOf) -> IceServersOut:
    """TURN servers with credentials of five minutes, for a test of the caller's network outside of a meeting."""
    servers = services.ice.for_participant(ParticipantId(caller.user_id), services.clock.now())
    return IceServersOut.model_construct(ice_servers=[IceServerOut.of(server) for server in servers])


@router.get("/{id}/profile", operation_id="getProfile", responses=refusals("not-found"))
async def profile(
    user_id: Annotated[Id, Path(alias="id", description="The user's id.")], services: ServicesOf, caller: CallerOf
) -> ProfileOut:
    """The profile of a user of the caller's tenant."""
    user, with_email = await use_cases.profile(services, caller, UserId(user_id))
    return ProfileOut.of(user, with_email=with_email)
