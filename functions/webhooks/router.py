"""HTTP shape of the webhooks resource."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Response

from conference.domain.ids import MeetingId, WebhookId
from conference.domain.webhooks import WebhookEndpoint
from functions.conditions import IdempotencyKey, IfMatch, etag
from functions.routing import ETAG_HEADER, PAGES, WRITES, CursorQuery, LimitQuery, refusals
from functions.schemas import Id
from functions.security import CallerOf, ServicesOf
from functions.services import Services
from functions.webhooks import use_cases
from functions.webhooks.schemas import (
    AttemptOut,
    AttemptPageOut,
    ReplayIn,
    ReplayOut,
    ResumeIn,
    SecretIn,
    SecretOut,
    WebhookChange,
    WebhookCreated,
    WebhookIn,
    WebhookList,
    WebhookOut,
    in_order,
)

ROUTE_CREATE: Final = "POST /v1/webhooks"
ROUTE_SECRET: Final = "POST /v1/webhooks/{id}/secret"  # noqa: S105
WebhookPath = Annotated[Id, Path(alias="id", description="The webhook's id.")]
_READ: Final = ("forbidden", "not-found")
router = APIRouter(prefix="/v1/webhooks", tags=["webhooks"])


def _tagged(*reasons: str) -> dict[int | str, dict[str, Any]]:
    return {**refusals(*reasons), 200: {"headers": ETAG_HEADER}}


def _shown(endpoint: WebhookEndpoint, services: Services, response: Response) -> WebhookOut:
    response.headers["ETag"] = etag(endpoint)
    return WebhookOut.of(endpoint, services.clock.now())


@router.post(
    "",
    operation_id="createWebhook",
    status_code=201,
    responses={
        **refusals(*WRITES, "forbidden", "too-many-webhooks", "idempotency-conflict"),
        201: {
            "headers": {**ETAG_HEADER, "Location": {"schema": {"type": "string"}, "description": "The new webhook."}}
        },
    },
)
async def create_webhook(
    body: WebhookIn, response: Response, services: ServicesOf, caller: CallerOf, key: IdempotencyKey = None
) -> WebhookCreated:
    """Sends the tenant's events to an address from now on: those of every room, in order per room.

    The answer holds the secret that deliveries are signed with (docs/webhooks.md says how to verify)."""
    new = use_cases.NewWebhook(body.url, in_order(body.events), body.description)
    shown = await use_cases.create(services, caller, ROUTE_CREATE, new, key)
    response.headers["Location"] = f"/v1/webhooks/{shown.endpoint.id}"
    response.headers["ETag"] = etag(shown.endpoint)
    return WebhookCreated.with_secret(shown.endpoint, shown.secret, services.clock.now())


@router.get("", operation_id="listWebhooks", responses=refusals("forbidden"))
async def list_webhooks(services: ServicesOf, caller: CallerOf) -> WebhookList:
    """The tenant's webhooks in order of creation: 20 at most."""
    endpoints = await use_cases.of_tenant(services, caller)
    now = services.clock.now()
    return WebhookList.model_construct(items=[WebhookOut.of(endpoint, now) for endpoint in endpoints])


@router.get("/{id}", operation_id="getWebhook", responses=_tagged(*_READ))
async def get_webhook(
    webhook_id: WebhookPath, response: Response, services: ServicesOf, caller: CallerOf
) -> WebhookOut:
    """A webhook, without its secret."""
    return _shown(await use_cases.read(services, caller, WebhookId(webhook_id)), services, response)


@router.patch(
    "/{id}",
    operation_id="changeWebhook",
    responses=_tagged(*WRITES, *_READ, "precondition-required", "precondition-failed"),
)
async def change_webhook(
    webhook_id: WebhookPath,
    body: WebhookChange,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    if_match: IfMatch = None,
) -> WebhookOut:
    """Changes where events are sent, and which. It holds for what waits, too."""
    endpoint = await use_cases.change(services, caller, WebhookId(webhook_id), body.chosen(), if_match)
    return _shown(endpoint, services, response)


@router.delete("/{id}", operation_id="deleteWebhook", status_code=204, responses=refusals(*_READ))
async def delete_webhook(webhook_id: WebhookPath, services: ServicesOf, caller: CallerOf) -> None:
    """Deletes a webhook, what waits for it, and its log."""
    await use_cases.delete(services, caller, WebhookId(webhook_id))


@router.post(
    "/{id}/secret",
    operation_id="changeWebhookSecret",
    responses=refusals(*WRITES, *_READ),
)
async def change_webhook_secret(
    webhook_id: WebhookPath,
    services: ServicesOf,
    caller: CallerOf,
    body: SecretIn | None = None,
    key: IdempotencyKey = None,
) -> SecretOut:
    """Makes a new secret. For a day deliveries are signed with both, so that the receiver can follow."""
    keep_previous = body is None or body.keep_previous
    shown = await use_cases.change_secret(
        services, caller, ROUTE_SECRET, WebhookId(webhook_id), key, keep_previous=keep_previous
    )
    return SecretOut.of(shown.endpoint, shown.secret, services.clock.now())


@router.post("/{id}/pause", operation_id="pauseWebhook", responses=_tagged(*_READ))
async def pause_webhook(
    webhook_id: WebhookPath, response: Response, services: ServicesOf, caller: CallerOf
) -> WebhookOut:
    """Holds events back; they wait, in order, as long as their meeting is kept."""
    return _shown(await use_cases.pause(services, caller, WebhookId(webhook_id)), services, response)


@router.post("/{id}/resume", operation_id="resumeWebhook", responses=_tagged(*WRITES, *_READ))
async def resume_webhook(
    webhook_id: WebhookPath,
    response: Response,
    services: ServicesOf,
    caller: CallerOf,
    body: ResumeIn | None = None,
) -> WebhookOut:
    """Sends on what waits, from the event that each room stands at. Of an active webhook, tries at once what waits to
    be tried again."""
    skip_dead = body is not None and body.skip_dead
    endpoint = await use_cases.resume(services, caller, WebhookId(webhook_id), skip_dead=skip_dead)
    return _shown(endpoint, services, response)


@router.post("/{id}/replay", operation_id="replayWebhook", status_code=202, responses=refusals(*WRITES, *_READ))
async def replay_webhook(webhook_id: WebhookPath, body: ReplayIn, services: ServicesOf, caller: CallerOf) -> ReplayOut:
    """Sends a room's events again, from a number on, with the ids they had. It takes the place of what waits for that
    room; new events follow after."""
    meeting_id = MeetingId(body.meeting_id)
    last = await use_cases.replay(services, caller, WebhookId(webhook_id), meeting_id, body.from_seq)
    return ReplayOut.model_construct(meeting_id=meeting_id, from_seq=body.from_seq, to_seq=last)


@router.get("/{id}/deliveries", operation_id="listWebhookDeliveries", responses=refusals(*_READ, *PAGES))
async def list_webhook_deliveries(
    webhook_id: WebhookPath,
    services: ServicesOf,
    caller: CallerOf,
    meeting_id: Annotated[Id | None, Query(alias="meetingId", description="Of one room only.")] = None,
    cursor: CursorQuery = None,
    limit: LimitQuery = 50,
) -> AttemptPageOut:
    """The log: every try of the last seven days, newest first."""
    of_room = MeetingId(meeting_id) if meeting_id is not None else None
    page = await use_cases.attempts(
        services, caller, WebhookId(webhook_id), meeting_id=of_room, cursor=cursor, limit=limit
    )
    items = [AttemptOut.of(attempt) for attempt in page.items]
    return AttemptPageOut.model_construct(items=items, next_cursor=page.next_cursor)
