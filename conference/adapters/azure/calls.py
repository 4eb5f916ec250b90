"""How every call of an Azure service is made: what its failure means, and so whether it is tried again.

The SDKs' own retries are switched off: they repeat what a lost answer may already have done, and know no time-out while
a peer stops reading. Whoever calls says what one try does, and makes it harmless to do twice.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from conference.adapters.retries import Failure, Retries
from conference.domain.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
# Statuses that a later try may not meet: time-out, too many requests, and what a service says while it recovers.
PASSING: Final = frozenset({401, 408, 429, 500, 502, 503, 504})
# For the constructors of SDK clients: no retries of their own. Time-outs are ours, too.
NO_RETRIES: Final[Mapping[str, Any]] = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}
RETRIES: Final = Retries(attempts=5, attempt_s=10.0, total_s=70.0, base_s=0.2, wait_s=5.0)


class Calls:
    """Makes the calls of one service, which errors name as `what`. All of them may be repeated. A service that names a
    delay is given that, up to the longest wait."""

    def __init__(self, what: str, retries: Retries = RETRIES) -> None:
        self._what, self._retries = what, retries

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, tried again while its failure may pass. Raises Unavailable, and HttpResponseError for an
        answer that is the caller's to understand (404, 409, 412, ...)."""
        return await self._retries.run(self._what, work, self._judge)

    def _judge(self, error: Exception) -> Failure | None:
        """None for an answer that is the caller's to understand, and for what is no failure of a service. Raises
        Unavailable for a sign-in that failed."""
        if not isinstance(error, AzureError | OSError):
            return None
        status = getattr(error, "status_code", None)
        if status in PASSING or isinstance(error, ServiceRequestError | ServiceResponseError | OSError):
            return Failure(after_s=min(_asked(error), self._retries.wait_s), reason=reason(error))
        check_sign_in(error, self._what, self._retries.wait_s)
        if isinstance(error, HttpResponseError) and status not in (None, 403):
            return None
        return Failure(retryable=False, reason=reason(error))


def check_sign_in(error: Exception, what: str, after_s: float) -> None:
    """Raises Unavailable where the sign-in itself failed, and no service was asked for `what`."""
    if isinstance(error, ClientAuthenticationError) and error.status_code not in (401, 403):
        # It has had retries of its own. It names nobody, so its text may be logged.
        log.error("the sign-in to Azure failed", extra={"service": what, "reason": error.message})
        raise Unavailable("the sign-in to Azure", after_s=after_s) from error


def reason(error: Exception) -> str:
    """The failure in a word for logs: never the text, which may hold addresses and names."""
    code = error_code(error)
    status = getattr(error, "status_code", None)
    return " ".join(str(part) for part in (type(error).__name__, status, code) if part)


def error_code(error: Exception) -> str:
    """The service's own word for it (`BlobAlreadyExists`), or nothing."""
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")


def _asked(error: Exception) -> float:
    """The delay that the answer names, in seconds: Retry-After, or the milliseconds of Azure's older services."""
    response = getattr(error, "response", None)
    headers: Mapping[str, str] = getattr(response, "headers", None) or {}
    for name, unit_s in (("x-ms-retry-after-ms", 0.001), ("retry-after-ms", 0.001), ("Retry-After", 1.0)):
        with suppress(TypeError, ValueError):
            return max(0.0, float(headers.get(name, "")) * unit_s)
    return 0.0
