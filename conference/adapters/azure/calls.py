"""How every call of an Azure service is made: a time-out each try, few tries, pauses with jitter, one kind of error.

The SDKs' own retries are switched off: they repeat what a lost answer may already have done, and know no time-out while
a peer stops reading. Whoever calls says what one try does, and makes it harmless to do twice.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from conference.domain.errors import Unavailable

log = logging.getLogger(__name__)
T = TypeVar("T")
# Statuses that a later try may not meet: time-out, too many requests, and what a service says while it recovers.
PASSING: Final = frozenset({401, 408, 429, 500, 502, 503, 504})
# For the constructors of SDK clients: no retries of their own. Time-outs are ours, too.
NO_RETRIES: Final[Mapping[str, Any]] = {"retry_total": 0, "retry_connect": 0, "retry_read": 0, "retry_status": 0}


@dataclass(frozen=True, slots=True)
class Patience:
    """`tries` in all, each of `attempt_s` at most; pauses double from `pause_s` to `longest_pause_s`, half of it
    chance. A service that names a delay is given that, up to `longest_pause_s`."""

    tries: int = 5
    attempt_s: float = 10.0
    pause_s: float = 0.2
    longest_pause_s: float = 5.0


PATIENCE: Final = Patience()


class Calls:
    """Makes the calls of one service, which errors name as `what`."""

    def __init__(
        self,
        what: str,
        patience: Patience = PATIENCE,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._what, self._patience, self._sleep = what, patience, sleep

    async def __call__(self, work: Callable[[], Awaitable[T]]) -> T:
        """What `work` gives, tried again while its failure may pass. Raises Unavailable, and HttpResponseError for an
        answer that is the caller's to understand (404, 409, 412, ...)."""
        for number in range(1, self._patience.tries + 1):
            try:
                async with asyncio.timeout(self._patience.attempt_s):
                    return await work()
            except (AzureError, TimeoutError, OSError) as error:
                if not self._may_pass(error):
                    raise self._failure(error) from error
                if number == self._patience.tries:
                    raise Unavailable(self._what, after_s=self._patience.longest_pause_s) from error
                await self._pause(number, error)
        raise AssertionError("there is at least one try")

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, HttpResponseError) and error.status_code is not None:
            return error.status_code in PASSING
        return isinstance(error, ServiceRequestError | ServiceResponseError | TimeoutError | OSError)

    def _failure(self, error: Exception) -> Exception:
        """What is raised for an error that trying again does not help."""
        status = getattr(error, "status_code", None)
        if isinstance(error, ClientAuthenticationError) and status not in (401, 403):
            # The sign-in itself, which has had retries of its own. It names nobody, so its text may be logged.
            log.error("the sign-in to Azure failed", extra={"service": self._what, "reason": error.message})
            return Unavailable("the sign-in to Azure", after_s=self._patience.longest_pause_s)
        if isinstance(error, HttpResponseError) and status not in (None, 403):
            return error
        log.error("a call of an Azure service failed", extra={"service": self._what, "reason": reason(error)})
        return Unavailable(self._what, retryable=False, after_s=None)

    async def _pause(self, number: int, error: Exception) -> None:
        wait = min(self._patience.longest_pause_s, self._patience.pause_s * 2 ** (number - 1))
        wait *= random.uniform(0.5, 1.0)  # noqa: S311 - so that instances do not come back together
        wait = max(wait, min(_asked(error), self._patience.longest_pause_s))
        log.warning("an Azure service is asked again", extra={"service": self._what, "reason": reason(error)})
        await self._sleep(wait)


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
