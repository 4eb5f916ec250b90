"""What the wirings of all workers have in common: how they reach Redis, and whose keys verify their tokens."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from conference.adapters import worker_tokens
from conference.adapters.redis.connections import RenewingTls
from conference.domain.errors import Unavailable
from conference.settings import Settings
from media_workers.sfu.wiring import build as build_sfu
from media_workers.signaling.wiring import build as build_signaling
from media_workers.tunnel.wiring import build as build_tunnel

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 30, tzinfo=UTC)
NAMES = ("sfu", "signaling", "tunnel")
CACHE = "rediss://parley.westeurope.redis.azure.net:10000"


def built(name: str, chosen: Settings) -> tuple[Any, Callable[[], Awaitable[None]]]:
    """The worker's Redis client, and how to close what was built."""
    if name == "signaling":
        signaling = build_signaling(chosen)
        presence: Any = signaling.worker._services.presence
        return presence._client.redis, signaling.close
    redis = build_sfu(chosen)[1] if name == "sfu" else build_tunnel(chosen)[2]
    return redis.redis, redis.close


@pytest.mark.parametrize("name", NAMES)
async def test_every_worker_signs_in_to_redis_as_the_settings_ask(name: str, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    sfu: dict[str, Any] = {"sfu_engine": "reference", "sfu_media_host": "127.0.0.1"}
    chosen = Settings(data_dir=tmp_path, redis_url=CACHE, redis_entra=True, ca_file=authority, **sfu)
    redis, close = built(name, chosen)
    assert isinstance(redis, Redis)
    assert redis.connection_pool.connection_class is RenewingTls
    assert redis.connection_pool.connection_kwargs["ssl_ca_certs"] == str(authority)
    await close()


@pytest.mark.parametrize("name", NAMES)
async def test_a_password_beside_tokens_stops_every_worker(name: str, tmp_path: Path) -> None:
    url = CACHE.replace("//", "//:key@")
    with pytest.raises(ValueError, match="holds a password"):
        built(name, Settings(data_dir=tmp_path, redis_url=url, redis_entra=True, sfu_engine="reference"))


@pytest.mark.parametrize(
    ("chosen", "url", "allow_http"),
    [
        ({}, "http://127.0.0.1:8080/.well-known/jwks.json", True),
        ({"public_url": "https://meet.test/"}, "https://meet.test/.well-known/jwks.json", True),
        ({"jwks_url": "http://api.test/keys"}, "http://api.test/keys", True),
        ({"public_url": "https://meet.test", "environment": "production"}, "https://meet.test/.well-known/jwks.json",
         False),
    ],
)  # fmt: skip
async def test_workers_verify_with_the_apis_published_keys(
    chosen: dict[str, Any], url: str, allow_http: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    given: list[dict[str, Any]] = []

    class Recording:
        def __init__(self, **options: Any) -> None:
            given.append(options)

        async def __call__(self, url: str) -> object:
            asked.append(url)
            raise Unavailable("the API")

    monkeypatch.setattr(worker_tokens, "HttpJson", Recording)
    authority = tmp_path / "ca.pem"
    tokens: Any = worker_tokens.worker_tokens(Settings(data_dir=tmp_path, ca_file=authority, **chosen))
    with pytest.raises(Unavailable):
        await tokens._keys.key("kid", NOW)
    assert (asked, given) == ([url], [{"ca_file": authority, "allow_http": allow_http}])
