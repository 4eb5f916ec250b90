"""Tokens of Entra ID as passwords of Azure Managed Redis: the user's name is the object id of whoever signs in.

One token is shared by all connections of a process and renewed ten minutes before its end, in the background, while
the old one goes on; `connections.py` then signs each connection in anew. The server alone says whether a token counts:
ours is used whatever our clock thinks of it, and one that was refused is replaced at the next chance. The credential is
asked at growing intervals with jitter, never by two callers at once, and waited for where no token is left, shortly.
"""

import asyncio
import base64
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from redis.exceptions import ConnectionError

from conference.protocol import strict_json

SCOPE: Final = "https://redis.azure.com/.default"
EARLY_S: Final = 600.0  # Azure asks for three minutes at least; the rest is for clocks and failing requests
ASK_TIMEOUT_S: Final = 10.0
WAIT_S: Final = 2.0  # as long as for any answer of Redis
_PAUSE_S: Final = 0.5
_PAUSE_MAX_S: Final = 30.0

_log = logging.getLogger(__name__)


class AccessToken(Protocol):
    """azure-core's: the token and the second since the epoch at which it ends."""

    @property
    def token(self) -> str: ...

    @property
    def expires_on(self) -> int: ...


class TokenCredential(Protocol):
    """What is used of azure-core's AsyncTokenCredential."""

    async def get_token(self, *scopes: str) -> AccessToken: ...


@dataclass(frozen=True, slots=True)
class Password:
    """`serial` counts the tokens that the credential gave; `expires_at` is in seconds since the epoch."""

    serial: int
    user_name: str
    token: str = field(repr=False)
    expires_at: float


class Passwords:
    """The process's password. `user_name` empty: the `oid` that the token names.

    redis-py's own renewal (StreamingCredentialProvider) is not used: its pools send AUTH on connections that another
    task may take meanwhile, and reach neither busy connections of a cluster nor more than one subscribed one.
    """

    def __init__(
        self,
        credential: TokenCredential,
        *,
        user_name: str = "",
        early_s: float = EARLY_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._credential, self._user_name, self._early_s, self._now = credential, user_name, early_s, now
        self._current: Password | None = None
        self._former: Password | None = None
        self._refused = 0  # the serial of the last token that the server did not take
        self._renew_at = 0.0
        self._failures = 0
        self._ask_at = 0.0  # by the loop's clock
        self._asking: asyncio.Task[None] | None = None

    async def get(self) -> Password:
        """The password for a new connection. Raises redis-py's ConnectionError while there has never been one."""
        best = self._best()
        if best is None or best.serial == self._refused or self.has_run_out(best):
            asking = self._ask()
            if asking is not None:
                await asyncio.wait({asking}, timeout=WAIT_S)  # the request goes on for those who come next
        elif self._is_due():
            self._ask()
        best = self._best()
        if best is None:
            raise ConnectionError("there is no token for Redis: the credential gives none")
        return best

    def newer_than(self, serial: int) -> Password | None:
        """A password that a connection with an older one has to sign in with; None where it has the newest."""
        if self._current is not None and self._is_due():
            self._ask()
        best = self._best()
        return best if best is not None and best.serial > serial else None

    def _best(self) -> Password | None:
        """The newest, or, where the server did not take that, the one before while it lives."""
        current, former = self._current, self._former
        if current is not None and current.serial == self._refused and former is not None:
            return current if self.has_run_out(former) else former
        return current

    def _is_due(self) -> bool:
        current = self._current
        return current is None or current.serial == self._refused or self._now() >= self._renew_at

    def has_run_out(self, password: Password) -> bool:
        return self._now() >= password.expires_at

    def refused(self, password: Password) -> None:
        """The server did not take it."""
        if password.serial > self._refused:
            self._refused = password.serial
            _log.warning("Redis refused a token", extra={"serial": password.serial})

    def _ask(self) -> asyncio.Task[None] | None:
        """The request that is under way, or a new one; None where it is too early to ask again."""
        if self._asking is None and asyncio.get_running_loop().time() >= self._ask_at:
            self._asking = asyncio.create_task(self._renew())
        return self._asking

    async def _renew(self) -> None:
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                answer = await self._credential.get_token(SCOPE)
            self._take(answer.token, float(answer.expires_on))
        except Exception as error:  # whatever a credential raises, it has given no token
            self._failures += 1
            _log.warning("there is no new token for Redis", extra={"error": type(error).__name__})
        finally:
            pause_s = min(_PAUSE_MAX_S, _PAUSE_S * 2**self._failures)
            self._ask_at = asyncio.get_running_loop().time() + pause_s * random.uniform(0.5, 1.0)  # noqa: S311  # no secret
            self._asking = None

    def _take(self, token: str, expires_at: float) -> None:
        current, now = self._current, self._now()
        if current is not None and current.token == token:  # the credential's own cache does not renew it yet
            self._failures += 1
            return
        user_name = self._user_name or object_id_of(token)
        self._former = current if current is None or current.serial != self._refused else self._former
        self._current = Password(current.serial + 1 if current else 1, user_name, token, expires_at)
        early_s = min(self._early_s, max(0.0, expires_at - now) / 4)
        self._renew_at = expires_at - early_s * random.uniform(1.0, 1.2)  # noqa: S311  # not all processes at once
        # Refused before, or at its end already by our clock: the next one may be no better, and is no matter of haste.
        is_doubtful = expires_at <= now or (current is not None and current.serial == self._refused)
        self._failures = self._failures + 1 if is_doubtful else 0


def object_id_of(token: str) -> str:
    """The `oid` of a token that was given to us (its signature is the server's to check). Raises ValueError."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("the token is no JWT, so that the user's name has to be in the address")
    claims: dict[str, Any] = strict_json.loads_object(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    object_id = claims.get("oid")
    if not isinstance(object_id, str) or not object_id:
        raise ValueError("the token names no oid, so that the user's name has to be in the address")
    return object_id
