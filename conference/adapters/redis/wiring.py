"""The Redis client of the settings, for every process that has one."""

from collections.abc import Awaitable, Callable
from importlib import import_module

from conference.adapters.redis.client import AnyRedis, connect
from conference.settings import Settings

_CREDENTIALS = "conference.adapters.azure.credentials"  # by name: what has no Azure loads none of it


def open_redis(chosen: Settings) -> tuple[AnyRedis, Callable[[], Awaitable[None]]]:
    """The client, and how to close it. Connects with its first command. Raises ValueError where the settings do not go
    together."""
    if not chosen.redis_entra:
        redis = connect(chosen.redis_url, cluster=chosen.redis_cluster, ca_file=chosen.ca_file)
        return redis, redis.aclose
    credentials = import_module(_CREDENTIALS).Credentials(
        managed=chosen.signs_in_managed, client_id=chosen.azure_client_id
    )
    redis = connect(
        chosen.redis_url,
        cluster=chosen.redis_cluster,
        credential=credentials.token(chosen.redis_url),
        ca_file=chosen.ca_file,
    )

    async def close() -> None:
        await redis.aclose()
        await credentials.aclose()

    return redis, close
