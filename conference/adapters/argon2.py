"""Meeting passwords by argon2id (RFC 9106) with OWASP's parameters: 19 MiB, two passes, one lane.

A hash takes 19 MiB and some 30 ms of a core. So at most two run at once, on two threads of their own: unlike a
semaphore around `to_thread`, that bound also holds when a request is cancelled while its hash still runs. What waits is
bounded too; who comes later is told to come again.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from conference.domain.errors import Unavailable
from conference.domain.ids import Secret

if TYPE_CHECKING:
    from argon2 import PasswordHasher

AT_ONCE: Final = 2
MAX_WAITING: Final = 64
MEMORY_KIB: Final = 19 * 1024
PASSES: Final = 2
LANES: Final = 1

_Result = TypeVar("_Result")


class Argon2Hasher:
    """Implements the port `PasswordHasher`. `close()` ends its threads."""

    def __init__(self, *, at_once: int = AT_ONCE, max_waiting: int = MAX_WAITING) -> None:
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="argon2")
        self._pending: set[Future[Any]] = set()
        self._most = at_once + max_waiting
        self._hasher: PasswordHasher | None = None

    async def hash(self, password: Secret) -> Secret:
        """The encoded hash, with its parameters and a fresh salt. Raises Unavailable where too many wait."""
        return Secret(await self._run(lambda: self._argon2().hash(password.reveal())))

    async def verify(self, password_hash: Secret, password: Secret) -> bool:
        """Raises Unavailable where too many wait, and ValueError where `password_hash` is no argon2 hash."""
        return await self._run(lambda: self._matches(password_hash.reveal(), password.reveal()))

    def close(self) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _matches(self, password_hash: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError  # late, as below

        try:
            return self._argon2().verify(password_hash, password)  # compares in constant time
        except VerifyMismatchError:
            return False
        except (VerificationError, InvalidHashError):
            raise ValueError("the stored password hash is damaged") from None

    def _argon2(self) -> "PasswordHasher":
        if self._hasher is None:
            from argon2 import PasswordHasher  # late: only meetings with a password need it

            self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES)
        return self._hasher

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        if len(self._pending) >= self._most:
            raise Unavailable("password checking")
        future = self._threads.submit(work)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)
