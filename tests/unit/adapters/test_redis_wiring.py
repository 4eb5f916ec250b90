"""The Redis client and the verifier of callers that the settings ask for."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from conference.adapters.azure.credentials import EmulatorCredential
from conference.adapters.entra import EntraCallerVerifier
from conference.adapters.oidc import OidcCallerVerifier
from conference.adapters.redis.connections import (
    PlainConnection,
    RenewingByName,
    RenewingConnection,
    RenewingTls,
    SharedTls,
)
from conference.adapters.redis.passwords import Passwords, TokenCredential
from conference.adapters.redis.wiring import open_redis
from conference.settings import Settings
from functions import wiring

pytestmark = pytest.mark.unit

CACHE = "rediss://parley.westeurope.redis.azure.net:10000"
TENANT = "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60"


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, PlainConnection),
        ({"redis_url": CACHE}, SharedTls),
        ({"redis_url": CACHE, "redis_entra": True}, RenewingTls),
        ({"redis_url": CACHE, "redis_entra": True, "redis_cluster": True}, RenewingByName),
        ({"redis_url": "rediss://10.0.0.4:10000", "redis_entra": True, "redis_cluster": True}, RenewingTls),
        ({"redis_url": "redis://me@127.0.0.1:6379", "redis_entra": True}, RenewingConnection),
        ({"redis_cluster": True}, PlainConnection),
    ],
)
async def test_the_settings_choose_the_connections(chosen: dict[str, Any], expected: type, tmp_path: Path) -> None:
    redis, close = open_redis(Settings(data_dir=tmp_path, **chosen))
    if isinstance(redis, RedisCluster):
        assert {node.connection_class for node in redis.startup_nodes} == {expected}
        assert redis.connection_kwargs["connection_class"] is expected
    else:
        assert isinstance(redis, Redis)
        assert redis.connection_pool.connection_class is expected
    await close()


async def test_nodes_of_azure_go_by_the_name_in_the_address(tmp_path: Path) -> None:
    redis, close = open_redis(Settings(data_dir=tmp_path, redis_url=CACHE, redis_entra=True, redis_cluster=True))
    assert isinstance(redis, RedisCluster)
    assert redis.nodes_manager.remap_host_port("20.1.2.3", 8501) == ("parley.westeurope.redis.azure.net", 8501)
    await close()


def test_a_password_beside_tokens_is_refused(tmp_path: Path) -> None:
    url = "rediss://:key@parley.westeurope.redis.azure.net:10000"
    with pytest.raises(ValueError, match="holds a password"):
        open_redis(Settings(data_dir=tmp_path, redis_url=url, redis_entra=True))


async def test_a_credential_of_azures_own_kind_gives_the_password() -> None:
    credential: TokenCredential = EmulatorCredential()
    password = await Passwords(credential, user_name="me").get()
    assert (password.user_name, password.token.count(".")) == ("me", 2)


def test_tls_contexts_are_shared_by_what_they_trust() -> None:
    one, two = SharedTls(host="a"), SharedTls(host="b")
    assert one.ssl_context.get() is two.ssl_context.get()
    assert SharedTls(host="a", ssl_check_hostname=False).ssl_context.get() is not one.ssl_context.get()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({"oidc_issuer": "https://issuer.test"}, OidcCallerVerifier),
        (
            {"oidc_provider": "entra", "oidc_issuer": f"https://login.microsoftonline.com/{TENANT}/v2.0"},
            EntraCallerVerifier,
        ),
    ],
)
def test_the_settings_choose_the_rules_for_callers(chosen: dict[str, Any], expected: type, tmp_path: Path) -> None:
    assert type(wiring._callers(Settings(data_dir=tmp_path, **chosen))) is expected


def test_an_issuer_of_all_tenants_without_a_list_of_them_does_not_start(tmp_path: Path) -> None:
    issuer = "https://login.microsoftonline.com/{tid}/v2.0"
    with pytest.raises(ValueError, match="list of tenants"):
        wiring._callers(Settings(data_dir=tmp_path, oidc_provider="entra", oidc_issuer=issuer))
