"""The Redis client of the settings, for every process that has one."""

from collections.abc import Awaitable, Callable

from conference.adapters.credentials import ProcessCredential
from conference.adapters.redis.client import AnyRedis, connect
from conference.settings import Settings


def open_redis(
    chosen: Settings, credential: ProcessCredential | None = None
) -> tuple[AnyRedis, Callable[[], Awaitable[None]]]:
    """The client, and how to close it; `credential` is the process's, where it has one. Connects with its first
    command. Raises ValueError where the settings do not go together."""
    if not chosen.redis_entra:
        redis = connect(chosen.redis_url, cluster=chosen.redis_cluster, ca_file=chosen.ca_file)
        return redis, redis.aclose
    used = credential or ProcessCredential(chosen)
    token = used.token(chosen.redis_url)
    redis = connect(chosen.redis_url, cluster=chosen.redis_cluster, credential=token, ca_file=chosen.ca_file)

    async def close() -> None:
        await redis.aclose()
        if used is not credential:
            await used.aclose()

    return redis, close
