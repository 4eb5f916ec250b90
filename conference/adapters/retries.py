"""Bounded repetition of calls to a service that may fail: few attempts, full jitter, one deadline for the whole.

A wait that the service asks for (Retry-After) is kept where it fits; a longer one is handed to our own caller, who can
wait better than an open request. What is known to have failed is told from what may have been done: the latter is
repeated only where a second time does no more than the first.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from conference.domain.errors import Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. `retryable`: another may succeed; `untouched`: the service did nothing of what it was asked;
    `after_s`: how long it wants to be left alone."""

    retryable: bool = True
    untouched: bool = False
    after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Retries:
    """Limits of one call. Waits are drawn from 0 to `base_s` doubled with each attempt, at most `wait_s`."""

    attempts: int = 3
    attempt_s: float = 3.0
    total_s: float = 8.0
    base_s: float = 0.2
    wait_s: float = 2.0

    async def run(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        judge: Callable[[Exception], Failure | None],
        *,
        repeatable: bool = True,
    ) -> T:
        """The result of `call`. Raises Unavailable(what) at the end of all attempts; an error that `judge` does not
        know (None) goes on as it is. `repeatable`: a second time does no more than the first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.total_s
        for attempt in range(1, self.attempts + 1):
            try:
                async with asyncio.timeout(min(self.attempt_s, deadline - loop.time())):
                    return await call()
            except TimeoutError:
                failure, error = Failure(), None
            except Exception as caught:
                judged = judge(caught)
                if judged is None:
                    raise
                failure, error = judged, caught
            wait = self._wait(attempt, failure)
            may_repeat = failure.retryable and (repeatable or failure.untouched) and attempt < self.attempts
            if not may_repeat or wait > self.wait_s or loop.time() + wait >= deadline:
                break
            await asyncio.sleep(wait)
        given_up = {"service": what, "attempts": attempt, "error": type(error).__name__ if error else "TimeoutError"}
        log.warning("a service was given up", extra=given_up)
        raise Unavailable(what, retryable=failure.retryable, after_s=failure.after_s or 5.0) from error

    def _wait(self, attempt: int, failure: Failure) -> float:
        drawn = random.uniform(0, min(self.wait_s, self.base_s * 2**attempt))  # noqa: S311  # jitter, no secret
        return max(drawn, failure.after_s or 0.0)
