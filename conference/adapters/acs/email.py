"""Port `Notifier` by e-mail through Azure Communication Services.

The notice's id is the operation's id at the service: sent again, it finds the operation that is under way or done.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from azure.communication.email.aio import EmailClient
from azure.core.exceptions import HttpResponseError

from conference.adapters.acs.calls import SERVICE, Calls, client_options
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.ports.notifier import Notice

if TYPE_CHECKING:
    from azure.core.credentials import AzureKeyCredential
    from azure.core.credentials_async import AsyncTokenCredential

log = logging.getLogger(__name__)
# Acceptance is what is waited for, and the first news of delivery; the service goes on by itself.
_RETRIES: Final = Retries(attempt_s=20.0, total_s=25.0)
_REFUSED_FOR_GOOD: Final = frozenset({400, 413, 422})


class AcsEmail:
    """Sends from `sender`, an address of a domain that is connected to the resource."""

    def __init__(
        self,
        endpoint: str,
        credential: "AsyncTokenCredential | AzureKeyCredential",
        sender: str,
        *,
        ca_file: Path | None = None,
        retries: Retries | None = None,
        polling_s: float = 1.0,
    ) -> None:
        self._sender = sender
        self._client = EmailClient(endpoint, credential, polling_interval=polling_s, **client_options(ca_file))
        self._calls = Calls(retries or _RETRIES)

    async def send(self, notice: Notice) -> None:
        message: dict[str, Any] = {
            "senderAddress": self._sender,
            "recipients": {"to": [{"address": notice.to}]},
            "content": {"subject": notice.subject, "plainText": notice.text},
            "userEngagementTrackingDisabled": True,
        }
        status = await self._calls.run(lambda: self._send(message, notice.id))
        if status not in ("Succeeded", "Known"):
            log.warning("e-mail given up", extra={"notice": notice.id, "status": status})

    async def _send(self, message: dict[str, Any], operation_id: str) -> str:
        """The operation's status at its end; "Known" for an operation that was begun before."""
        try:
            poller = await self._client.begin_send(message, operation_id=operation_id)
            done = await poller.result()
        except HttpResponseError as error:
            if error.status_code == 409:
                return "Known"
            if error.status_code in _REFUSED_FOR_GOOD:
                return f"refused {error.status_code}"
            raise
        if not isinstance(done, Mapping):
            raise Unavailable(SERVICE, retryable=False, after_s=None)
        return str(done.get("status"))

    async def close(self) -> None:
        """Closes the client's connections."""
        await self._client.close()
