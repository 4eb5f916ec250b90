"""What every call to Azure Communication Services shares: options of the clients, limits, and what an error means.

The SDKs' own repetition has no jitter, waits up to two minutes, and repeats what is not repeatable: it is off, and
`Retries` takes its place.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from aiohttp import ClientConnectorError, ClientSession, DummyCookieJar, TCPConnector
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline.transport import AioHttpTransport

from conference.adapters import tls
from conference.adapters.azure.calls import check_sign_in
from conference.adapters.retries import Failure, Retries

T = TypeVar("T")
log = logging.getLogger(__name__)
SERVICE: Final = "Azure Communication Services"
_BUSY: Final = frozenset({429, 503})  # the service did not begin
_BROKEN: Final = frozenset({408, 500, 502, 504})
_LONGEST_WAIT_S: Final = 3_600.0
_SIGN_IN_AGAIN_S: Final = 5.0


class TrustingTransport(AioHttpTransport):  # type: ignore[misc]  # the SDK gives it no type
    """The SDKs' transport, trusting one authority more. Their own option takes it in place of all others."""

    def __init__(self, ca_file: Path) -> None:
        super().__init__()
        self.session: ClientSession | None = None
        self._tls = tls.context(ca_file)

    async def open(self) -> None:
        if self.session is None:  # made here, since it belongs to the loop that is running
            self.session = ClientSession(
                connector=TCPConnector(ssl=self._tls),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                trust_env=True,
            )
        await super().open()


def client_options(ca_file: Path | None) -> dict[str, Any]:
    """Keyword arguments of an SDK client; each client takes a call of its own."""
    trusted = {"transport": TrustingTransport(ca_file)} if ca_file else {}
    return {"retry_total": 0, "connection_timeout": 2, "read_timeout": 5, **trusted}


class Calls:
    """Runs calls of the SDKs within limits. Every failure is Unavailable."""

    def __init__(self, retries: Retries) -> None:
        self._retries = retries

    async def run(self, call: Callable[[], Awaitable[T]], *, repeatable: bool = True) -> T:
        """Raises Unavailable. `repeatable`: a second time does no more than the first."""
        return await self._retries.run(SERVICE, call, judge, repeatable=repeatable)

    async def find(self, call: Callable[[], Awaitable[T]]) -> T | None:
        """None for what is not there. Raises Unavailable."""

        async def tolerant() -> T | None:
            try:
                return await call()
            except HttpResponseError as error:
                if error.status_code != 404:
                    raise
                return None

        return await self.run(tolerant)

    async def run_until_gone(self, call: Callable[[], Awaitable[object]]) -> None:
        """For what takes away: nothing there to take away is a success. Raises Unavailable."""
        await self.find(call)


def judge(error: Exception) -> Failure | None:
    """What an SDK's error says of a repetition; None for what is no SDK's error. Raises Unavailable for a sign-in that
    failed."""
    if not isinstance(error, AzureError):
        return None
    check_sign_in(error, SERVICE, _SIGN_IN_AGAIN_S)
    if not isinstance(error, HttpResponseError):
        # ServiceRequestError is also what azure-core makes of a connection that broke before the answer.
        return Failure(untouched=isinstance(error.inner_exception, ClientConnectorError))
    if error.status_code in _BUSY:
        return Failure(untouched=True, after_s=_retry_after(getattr(error.response, "headers", {})))
    if error.status_code in _BROKEN:
        return Failure()
    log.error("request refused", extra={"service": SERVICE, "status": error.status_code})
    return Failure(retryable=False)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of Retry-After. A date, which these services do not send, counts as none."""
    text = headers.get("Retry-After", "")
    return min(float(text), _LONGEST_WAIT_S) if text.isascii() and text.isdigit() else None
