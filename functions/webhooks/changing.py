"""Changes of a webhook that name no version: read, change, store, and again where somebody else was faster."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import TenantId, WebhookId
from conference.domain.webhooks import PauseReason, WebhookEndpoint, WebhookStatus
from functions.services import Services

_TRIES: Final = 5


async def changing(
    services: Services,
    tenant_id: TenantId,
    endpoint_id: WebhookId,
    change: Callable[[WebhookEndpoint], WebhookEndpoint],
) -> tuple[WebhookEndpoint, bool] | None:
    """The endpoint after the change, and whether there was anything to change; None where there is no endpoint.

    Raises Unavailable where others change it all the time."""
    for _ in range(_TRIES):
        endpoint = await services.webhooks.get(tenant_id, endpoint_id)
        if endpoint is None:
            return None
        wanted = change(endpoint)
        if wanted == endpoint:
            return endpoint, False
        stored = await services.webhooks.change(wanted)
        if not isinstance(stored, Refused):
            return stored, True
    raise Unavailable("a webhook that is being changed")


def paused_for(endpoint: WebhookEndpoint, reason: PauseReason, now: datetime) -> WebhookEndpoint:
    """The endpoint, paused; one that is paused already stays as it is."""
    if endpoint.status is WebhookStatus.PAUSED:
        return endpoint
    return replace(endpoint, status=WebhookStatus.PAUSED, pause_reason=reason, paused_at=now)


def active(endpoint: WebhookEndpoint) -> WebhookEndpoint:
    return replace(endpoint, status=WebhookStatus.ACTIVE, pause_reason=None, paused_at=None)
