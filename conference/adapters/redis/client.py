"""One process's connections to Redis: time-outs, health pings, and an answer at once while the server is away.

Every command passes `RedisClient.run`, which turns redis-py's errors into `Unavailable`, reports the time it took, and
after a time-out refuses for half a second instead of letting every caller wait. Commands are never repeated by the
client: a script that timed out may still be executed, so the callers decide what to do again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import lru_cache
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AskError,
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

from conference.adapters.redis.connections import (
    PlainConnection,
    RenewingByName,
    RenewingConnection,
    RenewingTls,
    SharedTls,
)
from conference.adapters.redis.passwords import Passwords, TokenCredential
from conference.domain.addresses import is_loopback
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
    RedisClusterException,  # no node answers; not a RedisError
    SlotNotCoveredError,
    OSError,
    asyncio.TimeoutError,
)
# Of one slot that is on its way to another node; the others are as they were.
_MOVING: Final = (TryAgainError, AskError, ClusterError)
_MOVING_S: Final = 0.2

AnyRedis = Redis | RedisCluster
Observe = Callable[[str, float], None]


def _ignore(command: str, seconds: float) -> None:
    """Where nobody measures."""


def is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@lru_cache(maxsize=32)
def script_text(name: str) -> str:
    """A script of the package, with the prelude that all room scripts share."""
    folder = resources.files("conference.adapters.redis") / "scripts"
    prelude = (folder / "prelude.lua").read_text(encoding="utf-8")
    return prelude + (folder / f"{name}.lua").read_text(encoding="utf-8")


def connect(
    url: str, *, cluster: bool = False, credential: TokenCredential | None = None, ca_file: Path | None = None
) -> AnyRedis:
    """A client that answers text. Connects with its first command.

    Args:
        url: redis or rediss (TLS). A user's name in it goes with its password, or with the credential's token.
        cluster: the server is a cluster; what it tells of its nodes is followed.
        credential: whose tokens are the password; None: the address has one, or none is needed.
        ca_file: one more authority that TLS trusts.

    Raises ValueError where address and credential do not go together."""
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
        **parse_url(url),
    }
    connection_class = options.pop("connection_class", Connection)
    has_tls = connection_class is SSLConnection
    if connection_class is not UnixDomainSocketConnection:
        connection_class = SharedTls if has_tls else PlainConnection
    if has_tls and ca_file is not None:
        options.setdefault("ssl_ca_certs", str(ca_file))
    if credential is not None:
        connection_class = RenewingTls if has_tls else RenewingConnection
        options["credential_provider"] = _passwords(credential, options, has_tls)
    if cluster:
        return _cluster(connection_class, options, by_name=has_tls and credential is not None)
    pool: Any = BlockingConnectionPool(
        max_connections=MAX_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_S,
        connection_class=connection_class,
        retry=Retry(NoBackoff(), 0),
        **options,
    )
    return Redis.from_pool(pool)


def _passwords(credential: TokenCredential, options: dict[str, Any], has_tls: bool) -> Passwords:
    if options.pop("password", None):
        raise ValueError("the Redis address holds a password, but tokens of Entra ID are to be used")
    if not has_tls and not is_loopback(options.get("host")):
        raise ValueError("tokens of Entra ID go to Redis by TLS only: use a rediss address")
    return Passwords(credential, user_name=options.pop("username", None) or "")


def _cluster(connection_class: type[Connection], options: dict[str, Any], *, by_name: bool) -> RedisCluster:
    """`by_name`: Azure's nodes tell addresses that their certificates do not hold; they differ by port."""
    remap = None
    if by_name and not is_ip(host := str(options["host"])):
        connection_class = RenewingByName

        def remap(address: tuple[str, int]) -> tuple[str, int]:
            return host, address[1]

    cluster = RedisCluster(
        ssl=issubclass(connection_class, SSLConnection),
        max_connections=MAX_CONNECTIONS,
        retry=Retry(NoBackoff(), 0),
        reinitialize_steps=0,  # every fifth MOVED would close the connections of all commands that are under way
        address_remap=remap,
        **options,
    )
    # RedisCluster takes no connection class, but hands on what it chose itself.
    cluster.connection_kwargs["connection_class"] = connection_class
    for node in cluster.startup_nodes:
        node.connection_class = connection_class
    return cluster


class RedisClient:
    """Runs commands and scripts. `observe` is told the name and seconds of each; `close` ends the connections."""

    def __init__(
        self, redis: AnyRedis, *, observe: Observe = _ignore, close: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        self.redis = redis
        self._observe = observe
        self._close = close or redis.aclose
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
        except _MOVING as error:
            raise Unavailable("presence", after_s=_MOVING_S) from error
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
        await self._close()
