"""Port `WebhookSecrets`: sealed by a key ring, in Azure a vault's, on one machine a folder's.

A sealed text is an envelope as JSON whose purpose names the endpoint, so that a text moved to another endpoint's row
opens nothing. What was opened is remembered, within bounds: a delivery waits for the vault once, not each time.
"""

import json
import secrets
from collections import OrderedDict
from typing import Final

from conference.adapters.envelope import seal, unseal
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret, WebhookId
from conference.ports.keys import KeyRing

_PREFIX: Final = "whsec_"
_REMEMBERED: Final = 1_000


class SealedWebhookSecrets:
    """One a process."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._opened: OrderedDict[tuple[WebhookId, str], Secret] = OrderedDict()

    def new(self) -> Secret:
        return Secret(_PREFIX + secrets.token_urlsafe(32))

    async def seal(self, secret: Secret, endpoint_id: WebhookId) -> str:
        sealed = json.dumps(await seal(self._ring, secret.reveal().encode(), _purpose(endpoint_id)))
        self._remember(endpoint_id, sealed, secret)
        return sealed

    async def open(self, sealed: str, endpoint_id: WebhookId) -> Secret:
        known = self._opened.get((endpoint_id, sealed))
        if known is None:
            known = Secret(await self._unsealed(sealed, endpoint_id))
        self._remember(endpoint_id, sealed, known)
        return known

    async def _unsealed(self, sealed: str, endpoint_id: WebhookId) -> str:
        try:
            members = json.loads(sealed)
            if not isinstance(members, dict):
                raise ValueError("this is no sealed text")
            return (await unseal(self._ring, members, _purpose(endpoint_id))).decode()
        except (ValueError, RecursionError) as error:
            raise Unavailable("a webhook's secret", retryable=False, after_s=None) from error

    def _remember(self, endpoint_id: WebhookId, sealed: str, secret: Secret) -> None:
        self._opened[endpoint_id, sealed] = secret
        self._opened.move_to_end((endpoint_id, sealed))
        if len(self._opened) > _REMEMBERED:
            self._opened.popitem(last=False)


def _purpose(endpoint_id: WebhookId) -> str:
    return f"webhook/{endpoint_id}"
