"""The one credential: whose it is, and that keys open emulators only."""

import base64
import json
import time
from contextlib import aclosing, suppress
from typing import Any

import pytest
from azure.core.credentials_async import AsyncTokenCredential
from azure.identity.aio import ChainedTokenCredential, ManagedIdentityCredential
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.azure.credentials import (
    EMULATOR_ACCOUNT,
    EMULATOR_KEY,
    Credentials,
    EmulatorCredential,
    emulator_key,
    endpoint_of,
)
from conference.settings import Settings

pytestmark = pytest.mark.unit
CLOUD = "https://parley.blob.core.windows.net"
EMULATORS = [
    f"http://127.0.0.1:10000/{EMULATOR_ACCOUNT}",
    f"https://localhost:10000/{EMULATOR_ACCOUNT}",
    f"http://azurite:10000/{EMULATOR_ACCOUNT}/",
    "https://[::1]:8081",
]


@pytest.mark.parametrize("endpoint", EMULATORS)
def test_a_key_is_accepted_for_an_emulator(endpoint: str) -> None:
    assert emulator_key("PARLEY_STORAGE_KEY", endpoint, EMULATOR_KEY, storage=True) == EMULATOR_KEY


@pytest.mark.parametrize("endpoint", [CLOUD, "https://127.0.0.1.example.com", "https://localhost.example.com", ""])
def test_a_key_is_refused_for_everything_else(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"PARLEY_STORAGE_KEY is accepted for emulators only\. Remove it") as refusal:
        emulator_key("PARLEY_STORAGE_KEY", endpoint, EMULATOR_KEY)
    assert EMULATOR_KEY not in str(refusal.value)
    assert emulator_key("PARLEY_STORAGE_KEY", endpoint, "") == ""


@pytest.mark.parametrize(
    ("endpoint", "sentence"),
    [
        ("DefaultEndpointsProtocol=https;AccountName=parley;AccountKey=c2VjcmV0;", "is a connection string"),
        ("AccountEndpoint=https://parley.documents.azure.com:443/;AccountKey=c2VjcmV0", "is a connection string"),
        (f"{CLOUD}?sv=2026-10-06&sig=c2VjcmV0", "carries more than an address"),
        ("https://user:c2VjcmV0@parley.blob.core.windows.net", "carries more than an address"),
        ("http://parley.blob.core.windows.net", "has to be an https address"),
        ("parley", "is no https address"),
        ("", "is no https address"),
    ],
)
def test_what_is_no_endpoint_is_refused_in_one_sentence_without_its_secret(endpoint: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"PARLEY_BLOB_ENDPOINT {sentence}") as refusal:
        endpoint_of("PARLEY_BLOB_ENDPOINT", endpoint)
    assert "c2VjcmV0" not in str(refusal.value)


@given(st.text() | st.text(alphabet="htps:/@?[]#1.a").map(lambda rest: f"https://{rest}"))
def test_any_text_is_an_endpoint_or_refused(text: str) -> None:
    with suppress(ValueError):
        assert endpoint_of("PARLEY_BLOB_ENDPOINT", text).startswith(("http://", "https://", "HTTP"))


@pytest.mark.parametrize("endpoint", [*EMULATORS, CLOUD, f"{CLOUD}/"])
def test_an_endpoint_loses_the_slash_at_its_end(endpoint: str) -> None:
    assert endpoint_of("PARLEY_BLOB_ENDPOINT", endpoint, storage=True) == endpoint.rstrip("/")


def test_azurites_account_makes_no_emulator_of_another_service() -> None:
    endpoint = f"https://parley.communication.azure.com/{EMULATOR_ACCOUNT}"
    with pytest.raises(ValueError, match="for emulators only"):
        emulator_key("PARLEY_ACS_ACCESS_KEY", endpoint, "c2VjcmV0")
    with pytest.raises(ValueError, match="has to be an https address"):
        endpoint_of("PARLEY_ACS_ENDPOINT", endpoint.replace("https", "http"))


async def test_all_of_azure_is_reached_with_one_credential() -> None:
    async with aclosing(Credentials(managed=True, client_id="an-identity")) as credentials:
        first = credentials.token(CLOUD)
        assert isinstance(first, ManagedIdentityCredential)
        assert credentials.token("https://parley.vault.azure.net") is first


async def test_a_developer_signs_in_as_themselves() -> None:
    async with aclosing(Credentials(managed=False)) as credentials:
        found = credentials.token(CLOUD)
        assert isinstance(found, ChainedTokenCredential)
        assert not [part for part in found.credentials if isinstance(part, ManagedIdentityCredential)]


async def test_no_token_that_nobody_signed_leaves_this_machine() -> None:
    async with aclosing(Credentials(managed=False)) as credentials:
        assert isinstance(credentials.token("https://127.0.0.1:10000/devstoreaccount1"), EmulatorCredential)
        for endpoint in (CLOUD, "https://azurite:10000/devstoreaccount1"):
            assert not isinstance(credentials.token(endpoint), EmulatorCredential)


async def test_an_emulators_token_names_its_audience_and_its_end() -> None:
    credential: AsyncTokenCredential = EmulatorCredential()
    async with credential:
        token = await credential.get_token("https://storage.azure.com/.default")
    middle = token.token.split(".")[1]
    facts = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    assert facts["aud"] == "https://storage.azure.com"
    assert facts["nbf"] <= time.time() < facts["exp"] == token.expires_on


@pytest.mark.parametrize(
    ("environment", "wish", "managed"),
    [
        ("production", "auto", True),
        ("local", "auto", False),
        ("test", "managed", True),
        ("production", "developer", False),
    ],
)
def test_production_signs_in_with_the_managed_identity(environment: Any, wish: Any, managed: bool) -> None:
    chosen = Settings(environment=environment, azure_credential=wish, public_url="https://parley.example")
    assert chosen.signs_in_managed is managed


def test_a_storage_account_gives_its_endpoints_and_a_given_one_wins() -> None:
    chosen = Settings(storage_account="parley", queue_endpoint=EMULATORS[0])
    assert chosen.storage_endpoint("blob") == CLOUD
    assert chosen.storage_endpoint("queue") == EMULATORS[0]
    assert Settings().storage_endpoint("blob") == ""
