"""Bounded repetition of calls to a service that may fail: few attempts, pauses with jitter, one deadline for the whole.

A wait that the service asks for (Retry-After) is kept where it fits; a longer one is handed to our own caller, who can
wait better than an open request. What is known to have failed is told from what may have been done: the latter is
repeated only where a second time does no more than the first.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from conference.domain.errors import Unavailable

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Failure:
    """A failed attempt. `retryable`: another may succeed; `untouched`: the service did nothing of what it was asked;
    `after_s`: how long it wants to be left alone; `reason`: a word for logs where the error's type says too little."""

    retryable: bool = True
    untouched: bool = False
    after_s: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Retries:
    """Limits of one call. Waits are `base_s`, doubled with each attempt and at most `wait_s`; half of it is chance, so
    that instances do not come back together."""

    attempts: int = 3
    attempt_s: float = 3.0
    total_s: float = 8.0
    base_s: float = 0.2
    wait_s: float = 2.0
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, repr=False)

    async def run(
        self,
        what: str,
        call: Callable[[], Awaitable[T]],
        judge: Callable[[Exception], Failure | None],
        *,
        repeatable: bool = True,
    ) -> T:
        """The result of `call`. Raises Unavailable(what) at the end of all attempts; an error that `judge` does not
        know (None) goes on as it is, and what it raises in its place does. `repeatable`: a second time does no more
        than the first."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.total_s
        for attempt in range(1, self.attempts + 1):
            try:
                async with asyncio.timeout(min(self.attempt_s, deadline - loop.time())):
                    return await call()
            except Exception as caught:
                judged = Failure() if isinstance(caught, TimeoutError) else judge(caught)
                if judged is None:
                    raise
                failure, error = judged, caught
            reason = failure.reason or type(error).__name__
            wait = self._wait(attempt, failure)
            may_repeat = failure.retryable and (repeatable or failure.untouched) and attempt < self.attempts
            if not may_repeat or wait > self.wait_s or loop.time() + wait >= deadline:
                break
            log.warning("a service is asked again", extra={"service": what, "reason": reason})
            await self.sleep(wait)
        given_up = {"service": what, "attempts": attempt, "reason": reason}
        log.log(logging.WARNING if failure.retryable else logging.ERROR, "a service was given up", extra=given_up)
        after_s = failure.after_s or 5.0 if failure.retryable else None
        raise Unavailable(what, retryable=failure.retryable, after_s=after_s) from error

    def _wait(self, attempt: int, failure: Failure) -> float:
        most = min(self.wait_s, self.base_s * 2 ** (attempt - 1))
        drawn: float = most * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret
        return max(drawn, failure.after_s or 0.0)
