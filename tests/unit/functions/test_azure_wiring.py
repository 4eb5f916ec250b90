"""Which adapters the settings choose, and what is refused before anything is built on it. No network is touched."""

import sys
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from conference.adapters.azure.credentials import EMULATOR_KEY
from conference.adapters.azure.wiring import AzureAdapters
from conference.adapters.blob import BlobMediaFiles
from conference.adapters.credentials import ProcessCredential
from conference.adapters.files import FilesMediaFiles
from conference.adapters.queues import AzureEventQueue
from conference.adapters.sealed_keys import SealedSigningKeys
from conference.adapters.signing_keys import FileSigningKeys
from conference.adapters.sql.queue import SqlEventQueue
from conference.adapters.system import SystemIds
from conference.settings import Settings
from functions import wiring

pytestmark = pytest.mark.unit
EMULATOR = "http://127.0.0.1:10001/devstoreaccount1"


def _settings(folder: Path, **given: Any) -> Settings:
    return Settings(data_dir=folder, oidc_issuer="https://issuer.example", **given)


async def test_without_azure_everything_is_embedded(tmp_path: Path) -> None:
    async with aclosing(await _built(_settings(tmp_path))) as built:
        assert isinstance(built.services.queue, SqlEventQueue)
        assert isinstance(built.services.media_files, FilesMediaFiles)
        assert isinstance(built.services.signing_keys, FileSigningKeys)


async def test_each_setting_chooses_its_adapter(tmp_path: Path) -> None:
    chosen = _settings(
        tmp_path,
        queues="azure",
        media_files="azure",
        storage_account="parley",
        keyvault_url="https://parley.vault.azure.net/",
    )
    async with aclosing(await _built(chosen)) as built:
        assert isinstance(built.services.queue, AzureEventQueue)
        assert isinstance(built.services.media_files, BlobMediaFiles)
        assert isinstance(built.services.signing_keys, SealedSigningKeys)
    assert "azure.storage.queue" in sys.modules


async def test_the_vault_is_reached_by_one_client() -> None:
    chosen = Settings(storage_account="parley", keyvault_url="https://parley.vault.azure.net")
    async with aclosing(_azure(chosen)) as azure:
        azure.signing_keys(SystemIds())
        assert azure.key_ring() is azure.key_ring()
        assert len(azure._closers) == 2  # its client, and that of the container


class _Closing:
    def __init__(self, built: wiring.Wiring) -> None:
        self.services, self.aclose = built.services, built.close


def _azure(chosen: Settings) -> AzureAdapters:
    return AzureAdapters(chosen, ProcessCredential(chosen))


async def _built(chosen: Settings) -> _Closing:
    return _Closing(await wiring.build(chosen))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "PARLEY_QUEUE_ENDPOINT is not set"),
        ({"queue_endpoint": EMULATOR}, "http address, which needs its account key"),
        ({"queue_endpoint": "http://parley.queue.core.windows.net"}, "has to be an https address"),
        (
            {"storage_account": "parley", "storage_key": EMULATOR_KEY},
            "PARLEY_STORAGE_KEY is accepted for emulators only",
        ),
        ({"queue_endpoint": f"AccountName=x;AccountKey={EMULATOR_KEY}"}, "is a connection string"),
    ],
)
async def test_a_wrong_setting_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    async with aclosing(_azure(Settings(**given))) as azure:
        with pytest.raises(ValueError, match=sentence) as refusal:
            azure.event_queue()
    assert EMULATOR_KEY not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [("", "is no https address"), ("http://127.0.0.1:7443", "that of an emulator, too"), ("parley", "is no https")],
)
async def test_a_vault_is_reached_over_https_only(url: str, sentence: str) -> None:
    async with aclosing(_azure(Settings(storage_account="parley", keyvault_url=url))) as azure:
        with pytest.raises(ValueError, match=sentence):
            azure.signing_keys(SystemIds())


async def test_an_emulator_is_given_its_key(tmp_path: Path) -> None:
    chosen = Settings(queue_endpoint=EMULATOR, blob_endpoint=EMULATOR, storage_key=EMULATOR_KEY)
    async with aclosing(_azure(chosen)) as azure:
        azure.event_queue()
        azure.media_files()
    assert EMULATOR_KEY not in repr(chosen)
