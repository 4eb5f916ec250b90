"""What `PROFILE=azure` asks before anything starts: is every service named, reached, and open to this sign-in?

Each problem is one plain sentence for a person. All services are asked at once, each for ten seconds at most.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa
from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.cosmos.aio import CosmosClient
from azure.keyvault.keys.aio import KeyClient
from azure.storage.blob.aio import BlobServiceClient
from azure.storage.queue.aio import QueueServiceClient
from pydantic import ValidationError
from redis.exceptions import AuthenticationError

from conference.adapters.azure.calls import NO_RETRIES
from conference.adapters.azure.credentials import endpoint_of, is_loopback
from conference.adapters.azure.wiring import storage_account, vault
from conference.adapters.cosmos.containers import ALL
from conference.adapters.credentials import ProcessCredential
from conference.adapters.http_json import HttpJson
from conference.adapters.redis.failures import FAILURES
from conference.adapters.redis.wiring import open_redis
from conference.adapters.sql import open_database
from conference.domain.errors import Unavailable
from conference.settings import Settings
from functions import events

LIMIT_S: Final = 10.0
_SIGN_IN: Final = "No sign-in to Azure works here. Run az login, or run where a managed identity is."
_SETTINGS: Final = (
    (("oidc_issuer",), "PARLEY_OIDC_ISSUER is not set. Give the issuer of your Entra ID tenant."),
    (("cosmos_endpoint", "database_url"), "No store is named. Set PARLEY_COSMOS_ENDPOINT, or PARLEY_DATABASE_URL."),
    (
        ("storage_account", "blob_endpoint"),
        "No storage is named. Set PARLEY_STORAGE_ACCOUNT, or PARLEY_BLOB_ENDPOINT and PARLEY_QUEUE_ENDPOINT.",
    ),
)


@dataclass(frozen=True)
class Check:
    """`ask` raises where the service cannot be used. `role` is what the sign-in needs there, `lacks` what may not be
    there."""

    name: str
    place: str
    ask: Callable[[], Awaitable[object]]
    role: str = ""
    lacks: str = ""


async def problems_of(variables: Mapping[str, str]) -> list[str]:
    """All that is wrong with the services that these variables name, as the processes will read them."""
    prefixed = {name.removeprefix("PARLEY_").lower(): value for name, value in variables.items() if value}
    given: dict[str, Any] = {name: value for name, value in prefixed.items() if name in Settings.model_fields}
    try:
        chosen = Settings(**given)
    except ValidationError as error:
        return [f"{_variable(each['loc'])}: {each['msg']}." for each in error.errors()]
    return await problems(chosen)


def _variable(place: tuple[int | str, ...]) -> str:
    return f"PARLEY_{str(place[0]).upper()}" if place else "The settings"


async def problems(chosen: Settings) -> list[str]:
    """All that is wrong, in the order of the services; empty where the system can start."""
    missing = [sentence for names, sentence in _SETTINGS if not any(getattr(chosen, name) for name in names)]
    if "127.0.0.1" in chosen.redis_url and "redis_url" not in chosen.model_fields_set:
        missing.append("PARLEY_REDIS_URL is not set. Give rediss://NAME.REGION.redis.azure.net:10000, for example.")
    credential = ProcessCredential(chosen)
    checks: list[Check] = []
    for make in _makers(chosen):
        try:
            checks.append(make(chosen, credential))
        except ValueError as error:  # a setting that the processes would refuse, too; it may hold a secret
            missing.append(str(error))
    try:
        found = await asyncio.gather(*map(_problem, checks))
    finally:
        await credential.aclose()
    return list(dict.fromkeys([*missing, *(sentence for sentence in found if sentence)]))


async def _problem(check: Check) -> str:
    try:
        async with asyncio.timeout(LIMIT_S):
            await check.ask()
    except TimeoutError:
        return f"{check.name} at {check.place} does not answer within {LIMIT_S:.0f} s."
    except (AuthenticationError, AzureError) as error:
        return _refusal(check, error)
    except ValueError as error:  # an adapter or an SDK that refuses a setting
        return f"{check.name} at {check.place}: {error}"
    except (*FAILURES, Unavailable) as error:
        return f"{check.name} at {check.place} cannot be reached ({type(error).__name__})."
    return ""


def _refusal(check: Check, error: Exception) -> str:
    status = getattr(error, "status_code", None)
    if isinstance(error, ClientAuthenticationError) and status is None:
        return _SIGN_IN
    if status in (401, 403) or isinstance(error, AuthenticationError):
        return f"{check.name} at {check.place} refuses this sign-in. It needs the role {check.role}."
    if status == 404 and check.lacks:
        return f"{check.name} at {check.place} has no {check.lacks}. Deploy the templates of infra/bicep, or create it."
    if isinstance(error, HttpResponseError) and status is not None:
        return f"{check.name} at {check.place} answers {status}."
    return f"{check.name} at {check.place} cannot be reached ({type(error).__name__})."


def _makers(chosen: Settings) -> list[Callable[[Settings, ProcessCredential], Check]]:
    """What makes the check of each service that is named."""
    storage = [_blobs, _queues] if chosen.storage_endpoint("blob") else []
    keys = [_vault] if chosen.keyvault_url else []
    return [_store, _redis, *storage, *keys, *([_issuer] if chosen.oidc_issuer else [])]


def _issuer(chosen: Settings, credential: ProcessCredential) -> Check:
    where = chosen.oidc_discovery_url or chosen.oidc_issuer.rstrip("/") + "/.well-known/openid-configuration"
    fetch = HttpJson(ca_file=chosen.ca_file)
    return Check("The sign-in service", chosen.oidc_issuer, lambda: fetch(where))


def _store(chosen: Settings, credential: ProcessCredential) -> Check:
    if not chosen.uses_cosmos:
        return Check("The database", "PARLEY_DATABASE_URL", lambda: _read(chosen.sql_url))
    endpoint = endpoint_of("PARLEY_COSMOS_ENDPOINT", chosen.cosmos_endpoint)
    role = "Cosmos DB Built-in Data Contributor"
    lacks = f"database {chosen.cosmos_database} with the containers {', '.join(each.name for each in ALL)}"
    return Check("Cosmos DB", endpoint, lambda: _read_containers(chosen, credential), role, lacks)


async def _read(url: str) -> None:
    database = open_database(url)
    try:
        await database.read(lambda connection: connection.execute(sa.text("SELECT 1")))
    finally:
        await database.close()


async def _read_containers(chosen: Settings, credential: ProcessCredential) -> None:
    key = chosen.cosmos_key.get_secret_value() if chosen.cosmos_key else None
    entry: Any = key or credential.token(chosen.cosmos_endpoint)
    client = CosmosClient(chosen.cosmos_endpoint, entry, retry_connect=0, retry_read=0, retry_status=0)
    try:
        await client.__aenter__()  # where that fails, __aexit__ closes nothing
        database = client.get_database_client(chosen.cosmos_database)
        for definition in ALL:
            await database.get_container_client(definition.name).read()
    finally:
        await client.close()


def _redis(chosen: Settings, credential: ProcessCredential) -> Check:
    async def ask() -> None:
        redis, close = open_redis(chosen, credential)
        try:
            await redis.ping()
        finally:
            await close()

    place = urlsplit(chosen.redis_url).netloc.rpartition("@")[2]
    return Check("Redis", place, ask, "Data Owner (an access policy assignment on its database)")


def _blobs(chosen: Settings, credential: ProcessCredential) -> Check:
    endpoint, options = storage_account(chosen, credential, "blob")

    async def ask() -> None:
        async with BlobServiceClient(endpoint, **NO_RETRIES, **options) as service:
            with suppress(ResourceNotFoundError):  # it is made when it is first written to
                await service.get_container_client(chosen.recordings_container).get_container_properties()

    return Check("Blob storage", endpoint, ask, "Storage Blob Data Contributor")


def _queues(chosen: Settings, credential: ProcessCredential) -> Check:
    endpoint, options = storage_account(chosen, credential, "queue")

    async def ask() -> None:
        async with QueueServiceClient(endpoint, **NO_RETRIES, **options) as service:
            with suppress(ResourceNotFoundError):  # likewise
                await service.get_queue_client(events.QUEUE).get_queue_properties()

    return Check("Queue storage", endpoint, ask, "Storage Queue Data Contributor")


def _vault(chosen: Settings, credential: ProcessCredential) -> Check:
    url, options = vault(chosen, credential)

    async def ask() -> None:
        async with KeyClient(url, verify_challenge_resource=not is_loopback(url), **NO_RETRIES, **options) as client:
            await client.get_key(chosen.keyvault_key)

    return Check("The key vault", url, ask, "Key Vault Crypto User", f"key {chosen.keyvault_key}")
