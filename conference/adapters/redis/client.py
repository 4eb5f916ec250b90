"""One process's connections to Redis: time-outs, health pings, and an answer at once while the server is away.

Every command passes `RedisClient.run`, which turns redis-py's errors into `Unavailable`, reports the time it took, and
after a time-out refuses for half a second instead of letting every caller wait. Commands are never repeated by the
client: a script that timed out may still be executed, so the callers decide what to do again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import resources
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ClusterError,
    ConnectionError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
    TimeoutError,
    TryAgainError,
)

from conference.domain.errors import Unavailable

SOCKET_TIMEOUT_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 1.0
HEALTH_CHECK_S: Final = 15
MAX_CONNECTIONS: Final = 64
_FAIL_FAST_S: Final = 0.5
_AWAY: Final = (
    ConnectionError,
    TimeoutError,
    BusyLoadingError,
    ReadOnlyError,
    ClusterDownError,
    ClusterError,
    RedisClusterException,  # no node answers; not a RedisError
    SlotNotCoveredError,
    TryAgainError,
    OSError,
    asyncio.TimeoutError,
)

AnyRedis = Redis | RedisCluster
Observe = Callable[[str, float], None]


def _ignore(command: str, seconds: float) -> None:
    """Where nobody measures."""


@lru_cache(maxsize=32)
def script_text(name: str) -> str:
    """A script of the package, with the prelude that all room scripts share."""
    folder = resources.files("conference.adapters.redis") / "scripts"
    prelude = (folder / "prelude.lua").read_text(encoding="utf-8")
    return prelude + (folder / f"{name}.lua").read_text(encoding="utf-8")


def connect(url: str, *, cluster: bool = False) -> AnyRedis:
    """A client that answers text. Connects with its first command."""
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }
    retry = Retry(NoBackoff(), 0)
    if cluster:
        return RedisCluster.from_url(url, max_connections=MAX_CONNECTIONS, retry=retry, **options)
    pool: Any = BlockingConnectionPool.from_url(
        url, max_connections=MAX_CONNECTIONS, timeout=SOCKET_TIMEOUT_S, retry=retry, **options
    )
    return Redis.from_pool(pool)


class RedisClient:
    """Runs commands and scripts. `observe` is told the name and seconds of each."""

    def __init__(self, redis: AnyRedis, *, observe: Observe = _ignore) -> None:
        self.redis = redis
        self._observe = observe
        self._away_until = 0.0
        self._scripts: dict[str, AsyncScript] = {}
        # First come, first served: redis-py's pool lets newcomers overtake who waits for a connection, and a command
        # that is overtaken for two seconds would look like a server that is away.
        self._turn = asyncio.Semaphore(MAX_CONNECTIONS - 4)  # the listener has connections of its own

    async def run(self, name: str, command: Callable[[], Awaitable[Any]]) -> Any:
        """The command's answer. Raises Unavailable."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        try:
            async with self._turn:
                return await self._command(command)
        finally:
            self._observe(name, loop.time() - asked)

    async def _command(self, command: Callable[[], Awaitable[Any]]) -> Any:
        loop = asyncio.get_running_loop()
        if loop.time() < self._away_until:
            raise Unavailable("presence", after_s=self._away_until - loop.time())
        try:
            return await command()
        except _AWAY as error:
            self._away_until = loop.time() + _FAIL_FAST_S
            raise Unavailable("presence") from error
        except RedisError as error:
            # Cluster clients wrap what happened; an error of a script of ours is a bug and stays one.
            if isinstance(error.__cause__, _AWAY):
                raise Unavailable("presence") from error
            raise

    async def script(self, name: str, keys: list[str], args: list[str | int]) -> Any:
        """Runs scripts/<name>.lua by its digest; a server that lost it is given it again."""
        script = self._scripts.get(name)
        if script is None:
            script = self._scripts[name] = self.redis.register_script(script_text(name))
        return await self.run(name, lambda: script(keys=keys, args=args))

    async def close(self) -> None:
        await self.redis.aclose()
