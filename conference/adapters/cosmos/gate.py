"""The calls of a store that go side by side: a few at once, so that one request of ours leaves room for others."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Final, TypeVar

T = TypeVar("T")
_AT_ONCE: Final = 16

log = logging.getLogger(__name__)


class Gate:
    """Of one store of this process. Either method returns only when every call has ended."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def all(self, calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
        """What each gives. Raises what the first of those raised that failed."""
        given, failures = await self._made(calls)
        if failures:
            raise failures[0]
        return given

    async def what_succeeds(self, calls: Iterable[Callable[[], Awaitable[T | None]]]) -> list[T]:
        """What is given, None being nothing. Raises what the first of those raised that failed, where nothing is
        given."""
        answers, failures = await self._made(calls)
        given = [answer for answer in answers if answer is not None]
        if failures and not given:
            raise failures[0]
        if failures:
            log.warning("some calls of the database failed", extra={"failed": len(failures), "given": len(given)})
        return given

    async def _made(self, calls: Iterable[Callable[[], Awaitable[T]]]) -> tuple[list[T], list[BaseException]]:
        async def one(call: Callable[[], Awaitable[T]]) -> T:
            async with self._places:
                return await call()

        answers = await asyncio.gather(*map(one, calls), return_exceptions=True)
        given = [answer for answer in answers if not isinstance(answer, BaseException)]
        return given, [answer for answer in answers if isinstance(answer, BaseException)]
