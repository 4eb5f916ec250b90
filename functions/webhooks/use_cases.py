"""Webhooks over the ports: an admin of a tenant makes, changes, pauses, resumes, replays and deletes its endpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.ids import EventId, MeetingId, Secret, WebhookId
from conference.domain.records import AuditAction, AuditEvent, EventType
from conference.domain.webhooks import (
    MAX_ENDPOINTS,
    MAX_SECRETS,
    PREVIOUS_SECRET_LIFE,
    PauseReason,
    SealedSecret,
    WebhookEndpoint,
    parse_url,
)
from conference.ports.webhooks import AttemptPage
from functions.access import visible
from functions.conditions import expected_version, fingerprint, id_for
from functions.services import Services
from functions.webhooks.changing import active, changing, paused_for


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """What the caller wants to create."""

    url: str
    events: tuple[EventType, ...]
    description: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An endpoint with the secret that its request made; None where that has been replaced since."""

    endpoint: WebhookEndpoint
    secret: Secret | None


async def create(services: Services, caller: Caller, route: str, new: NewWebhook, key: str | None) -> Shown:
    """Stores the endpoint once per Idempotency-Key. Raises Refused: forbidden, invalid-body, idempotency-conflict,
    too-many-webhooks."""
    _admin(caller)
    _check_url(services, new.url)
    now = services.clock.now()
    endpoint_id = WebhookId(id_for(caller, route, key, services.ids))
    secret = services.webhook_secrets.new()
    sealed = SealedSecret(endpoint_id, await services.webhook_secrets.seal(secret, endpoint_id), now)
    endpoint = WebhookEndpoint(
        endpoint_id, caller.tenant_id, new.url, new.events, new.description, (sealed,), created_at=now
    )
    stored = await services.webhooks.create(
        endpoint, fingerprint=fingerprint([new.url, new.events, new.description]), most=MAX_ENDPOINTS
    )
    if isinstance(stored, Refused):
        raise stored
    if stored == endpoint:  # and not one that a former request made
        await _audit(services, caller, stored, "created")
    return Shown(stored, await _made_by(services, stored, endpoint_id))


async def of_tenant(services: Services, caller: Caller) -> Sequence[WebhookEndpoint]:
    """Raises Refused("forbidden")."""
    _admin(caller)
    return await services.webhooks.of_tenant(caller.tenant_id)


async def read(services: Services, caller: Caller, endpoint_id: WebhookId) -> WebhookEndpoint:
    """Raises Refused: forbidden, not-found."""
    _admin(caller)
    endpoint = await services.webhooks.get(caller.tenant_id, endpoint_id)
    if endpoint is None:
        raise Refused("not-found")
    return endpoint


async def change(
    services: Services, caller: Caller, endpoint_id: WebhookId, changes: dict[str, Any], if_match: str | None
) -> WebhookEndpoint:
    """Raises Refused: forbidden, not-found, invalid-body, precondition-required, precondition-failed."""
    endpoint = await read(services, caller, endpoint_id)
    version = expected_version(if_match, endpoint)
    if "url" in changes:
        _check_url(services, changes["url"])
    stored = await services.webhooks.change(replace(endpoint, version=version, **changes))
    if isinstance(stored, Refused):
        raise stored
    await _audit(services, caller, stored, "changed")
    return stored


async def delete(services: Services, caller: Caller, endpoint_id: WebhookId) -> None:
    """Raises Refused: forbidden, not-found."""
    endpoint = await read(services, caller, endpoint_id)
    if not await services.webhooks.delete(caller.tenant_id, endpoint_id):
        raise Refused("not-found")
    await _audit(services, caller, endpoint, "deleted")


async def change_secret(
    services: Services, caller: Caller, route: str, endpoint_id: WebhookId, key: str | None, *, keep_previous: bool
) -> Shown:
    """Makes a new secret, once per Idempotency-Key; the former one stays valid for a day, or ends. One that is older
    still ends in either case. Raises Refused: forbidden, not-found."""
    _admin(caller)
    request = id_for(caller, f"{route} {endpoint_id}", key, services.ids)
    now = services.clock.now()
    fresh = SealedSecret(request, await services.webhook_secrets.seal(services.webhook_secrets.new(), endpoint_id), now)

    def with_fresh(endpoint: WebhookEndpoint) -> WebhookEndpoint:
        if endpoint.secrets[0].id == request:
            return endpoint
        former = replace(endpoint.secrets[0], expires_at=now + PREVIOUS_SECRET_LIFE)
        return replace(endpoint, secrets=(fresh, former)[: MAX_SECRETS if keep_previous else 1])

    stored = await _change(services, caller, endpoint_id, with_fresh, "secret")
    return Shown(stored, await _made_by(services, stored, request))


async def pause(services: Services, caller: Caller, endpoint_id: WebhookId) -> WebhookEndpoint:
    """Events wait from now on. Again gives the same. Raises Refused: forbidden, not-found."""
    _admin(caller)
    now = services.clock.now()
    return await _change(
        services, caller, endpoint_id, lambda endpoint: paused_for(endpoint, PauseReason.ADMIN, now), "paused"
    )


async def resume(services: Services, caller: Caller, endpoint_id: WebhookId, *, skip_dead: bool) -> WebhookEndpoint:
    """Sends on what waits, at once; of an active endpoint what waits to be tried again. First the endpoint, then its
    streams: see `Turn._park`. Raises Refused: forbidden, not-found."""
    _admin(caller)
    endpoint = await _change(services, caller, endpoint_id, active, "resumed")
    await services.webhooks.wake(endpoint_id, services.clock.now(), skip_dead=skip_dead)
    return endpoint


async def replay(
    services: Services, caller: Caller, endpoint_id: WebhookId, meeting_id: MeetingId, from_seq: int
) -> int:
    """Sends a room's events again, from `from_seq` on, those that the endpoint wants; gives the number of the last.
    Raises Refused: forbidden, not-found (the webhook or the meeting), invalid-body (there is no such event)."""
    endpoint = await read(services, caller, endpoint_id)
    meeting = await visible(services, caller, meeting_id)
    if meeting.tenant_id != endpoint.tenant_id:
        raise Refused("not-found")
    events = await services.outbox.events(meeting_id, since=from_seq)
    if not events:
        raise Refused("invalid-body", "The meeting has no event with this number yet.")
    now = services.clock.now()
    await services.webhooks.rewind(
        caller.tenant_id, endpoint_id, meeting_id, from_seq=from_seq, last_seq=events[-1].seq, now=now
    )
    await _audit(services, caller, endpoint, "replayed", meeting_id)
    return events[-1].seq


async def attempts(
    services: Services,
    caller: Caller,
    endpoint_id: WebhookId,
    *,
    meeting_id: MeetingId | None,
    cursor: str | None,
    limit: int,
) -> AttemptPage:
    """Newest first. Raises Refused: forbidden, not-found; ProtocolError("invalid-cursor")."""
    await read(services, caller, endpoint_id)
    return await services.webhooks.attempts(endpoint_id, meeting_id=meeting_id, cursor=cursor, limit=limit)


def _admin(caller: Caller) -> None:
    if not caller.is_admin:
        raise Refused("forbidden", "Only an admin of the tenant may see and change webhooks.")


def _check_url(services: Services, url: str) -> None:
    try:
        parse_url(url, loopback=services.config.loopback_webhooks)
    except ValueError as error:
        raise Refused("invalid-body", str(error), {"errors": [{"pointer": "/url", "detail": str(error)}]}) from None


async def _change(
    services: Services,
    caller: Caller,
    endpoint_id: WebhookId,
    change: Callable[[WebhookEndpoint], WebhookEndpoint],
    what: str,
) -> WebhookEndpoint:
    found = await changing(services, caller.tenant_id, endpoint_id, change)
    if found is None:
        raise Refused("not-found")
    endpoint, is_changed = found
    if is_changed:
        await _audit(services, caller, endpoint, what)
    return endpoint


async def _made_by(services: Services, endpoint: WebhookEndpoint, request: str) -> Secret | None:
    newest = endpoint.secrets[0]
    return await services.webhook_secrets.open(newest.sealed, endpoint.id) if newest.id == request else None


async def _audit(
    services: Services, caller: Caller, endpoint: WebhookEndpoint, what: str, meeting_id: MeetingId | None = None
) -> None:
    at: datetime = services.clock.now()
    detail = {"webhookId": str(endpoint.id), "change": what}
    entry = EventId(services.ids.new())
    who = (caller.tenant_id, caller.user_id, meeting_id)
    await services.audit.write(AuditEvent(entry, AuditAction.WEBHOOK_CHANGED, at, "ok", *who, detail))
