"""What `PROFILE=azure` says of each service that it cannot use, and that it says nothing where all is well."""

import base64
from collections.abc import Mapping
from pathlib import Path

import pytest
from aiohttp import web

from conference.adapters.azure.credentials import EMULATOR_KEY
from local.azurite.server import Azurite, Certificate
from local.runner.checks import problems_of
from tests.support.azurite import _azurite_process, azurite, azurite_clock_file  # noqa: F401 - fixtures
from tests.support.cosmos import KEY, RunningCosmos, cosmos_server
from tests.support.redis import RedisServer, _redis_process, redis_server  # noqa: F401 - fixtures
from tests.support.vault import running_vault, vault_certificate  # noqa: F401 - fixtures

pytestmark = pytest.mark.interop


async def test_with_nothing_set_each_missing_setting_is_a_sentence(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'parley.db'}"
    assert await problems_of({"PARLEY_DATABASE_URL": database, "PARLEY_REDIS_URL": _nowhere("redis")}) == [
        "PARLEY_OIDC_ISSUER is not set. Give the issuer of your Entra ID tenant.",
        "No storage is named. Set PARLEY_STORAGE_ACCOUNT, or PARLEY_BLOB_ENDPOINT and PARLEY_QUEUE_ENDPOINT.",
        f"Redis at {_nowhere('redis').removeprefix('redis://')} cannot be reached (ConnectionError).",
    ]


async def test_a_setting_that_cannot_be_read_is_a_sentence() -> None:
    assert await problems_of({"PARLEY_PORT": "many"}) == [
        "PARLEY_PORT: Input should be a valid integer, unable to parse string as an integer."
    ]
    key = {"PARLEY_STORAGE_ACCOUNT": "parley", "PARLEY_COSMOS_ENDPOINT": "https://parley.documents.azure.com"}
    (found,) = await problems_of({**key, "PARLEY_COSMOS_KEY": KEY})
    assert "a real account is entered by identity" in found


async def test_a_cluster_without_nodes_and_a_database_without_an_address_are_sentences() -> None:
    secret = "c2VjcmV0"
    wrong = {"PARLEY_DATABASE_URL": f"Server=sql;Password={secret}", "PARLEY_REDIS_CLUSTER": "true"}
    found = await problems_of({"PARLEY_REDIS_URL": _nowhere("redis"), **wrong})
    assert [sentence for sentence in found if "is not set" not in sentence and "No storage" not in sentence] == [
        "The database at PARLEY_DATABASE_URL: "
        "the address of the database is no URL of the form postgresql://user@host/name",
        "Redis at 127.0.0.1:9 cannot be reached (RedisClusterException).",
    ]


async def test_an_address_that_holds_a_secret_is_refused_without_showing_it() -> None:
    secret = "c2VjcmV0"
    found = await problems_of(
        {
            "PARLEY_OIDC_ISSUER": _nowhere("http"),
            "PARLEY_COSMOS_ENDPOINT": f"AccountEndpoint=https://parley.documents.azure.com;AccountKey={secret};",
            "PARLEY_REDIS_URL": f"{_nowhere('redis')}?password={secret}",
            "PARLEY_BLOB_ENDPOINT": f"DefaultEndpointsProtocol=https;AccountName=parley;AccountKey={secret}",
            "PARLEY_QUEUE_ENDPOINT": f"https://parley.queue.core.windows.net/?sig={secret}",
            "PARLEY_KEYVAULT_URL": "http://127.0.0.1:9",
        }
    )
    wanted = (
        "PARLEY_COSMOS_ENDPOINT is a connection string",
        "PARLEY_BLOB_ENDPOINT is a connection string",
        "PARLEY_QUEUE_ENDPOINT carries more than an address",
        "PARLEY_KEYVAULT_URL has to be an https address",
        "Redis at 127.0.0.1:9 cannot be reached",
        "The sign-in service at",
    )
    assert len(found) == len(wanted), found
    for sentence, start in zip(found, wanted, strict=True):
        assert sentence.startswith(start)
        assert secret not in sentence


async def test_where_every_service_is_open_nothing_is_said(
    azurite: Azurite,  # noqa: F811
    redis_server: RedisServer,  # noqa: F811
    vault_certificate: Certificate,  # noqa: F811
) -> None:
    async with cosmos_server() as cosmos, running_vault(vault_certificate) as vault, _Issuer() as issuer:
        good = {**_variables(cosmos, azurite, redis_server, issuer.url), "PARLEY_KEYVAULT_URL": vault.url}
        good["PARLEY_CA_FILE"] = str(vault_certificate.ca_file)
        assert await problems_of(good) == []
        assert await problems_of({**good, "PARLEY_KEYVAULT_KEY": "another"}) == [
            f"The key vault at {vault.url.rstrip('/')} has no key another. "
            "Deploy the templates of infra/bicep, or create it."
        ]


async def test_what_is_shut_says_which_service_and_what_it_needs(
    azurite: Azurite,  # noqa: F811
    redis_server: RedisServer,  # noqa: F811
) -> None:
    async with cosmos_server() as cosmos, _Issuer() as issuer:
        good = _variables(cosmos, azurite, redis_server, issuer.url)
        wrong_key = base64.b64encode(b"another key").decode()
        for change, sentence in (
            (
                {"PARLEY_COSMOS_KEY": wrong_key},
                "refuses this sign-in. It needs the role Cosmos DB Built-in",
            ),
            ({"PARLEY_COSMOS_DATABASE": "none"}, "has no database none with the containers meetings"),
            ({"PARLEY_COSMOS_ENDPOINT": _nowhere("http")}, "cannot be reached"),
            (
                {"PARLEY_STORAGE_KEY": wrong_key},
                "refuses this sign-in. It needs the role Storage Blob Data",
            ),
            ({"PARLEY_QUEUE_ENDPOINT": _nowhere("http") + "/devstoreaccount1"}, "Queue storage at http://127.0.0.1"),
            ({"PARLEY_OIDC_ISSUER": f"{issuer.url}/none"}, "The sign-in service at"),
        ):
            found = await problems_of({**good, **change})
            assert any(sentence in each for each in found), found
            assert not any(wrong_key in each or EMULATOR_KEY in each for each in found)


def _nowhere(scheme: str) -> str:
    return f"{scheme}://127.0.0.1:9"  # nobody listens on the discard port


def _variables(
    cosmos: RunningCosmos,
    storage: Azurite,
    redis: RedisServer,
    issuer: str,
) -> Mapping[str, str]:
    return {
        "PARLEY_COSMOS_ENDPOINT": cosmos.url,
        "PARLEY_COSMOS_DATABASE": cosmos.database,
        "PARLEY_COSMOS_KEY": KEY,
        "PARLEY_BLOB_ENDPOINT": storage.blob_endpoint,
        "PARLEY_QUEUE_ENDPOINT": storage.queue_endpoint,
        "PARLEY_STORAGE_KEY": EMULATOR_KEY,
        "PARLEY_REDIS_URL": redis.url,
        "PARLEY_OIDC_ISSUER": issuer,
    }


class _Issuer:
    """A discovery document on loopback."""

    async def __aenter__(self) -> "_Issuer":
        application = web.Application()
        application.router.add_get("/.well-known/openid-configuration", _document)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *ended: object) -> None:
        await self._runner.cleanup()


async def _document(request: web.Request) -> web.Response:
    return web.json_response({"issuer": str(request.url.origin())})
