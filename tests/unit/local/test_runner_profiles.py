"""What PROFILE changes: the processes, and the variables by which they find their stores."""

from pathlib import Path

import pytest

from local.runner import profiles
from local.runner.machine import NotPossible
from local.runner.specs import Ports, Site, processes
from local.runner.wiring import wish

pytestmark = pytest.mark.unit

PORTS = Ports(*range(1, 9))
SITE = Site("127.0.0.1", 8080, False, "http://127.0.0.1:8080", "http://127.0.0.1:8080")
EMULATORS = profiles.EmulatorPorts(11, 12, 13, 14)


def _names(given: dict[str, str], *, emulated: bool = False) -> set[str]:
    specs = profiles.emulators(EMULATORS, Path("/d"), {}) if emulated else ()
    return {spec.name for spec in processes(SITE, PORTS, {}, ("redis-server",), given, specs)}


def test_a_profile_is_named_exactly() -> None:
    assert wish({}).profile == "embedded"
    assert wish({"PROFILE": "azurite"}).profile == "azurite"
    with pytest.raises(NotPossible, match="Use one of: embedded, azurite, azure"):
        wish({"PROFILE": "cloud"})


def test_emulators_stand_in_for_the_embedded_stores() -> None:
    assert "migrate" in _names({})
    assert {"cosmos", "azurite", "keyvault", "provision"} <= _names({}, emulated=True)
    assert "migrate" not in _names({}, emulated=True)


def test_nobody_starts_before_the_stores_are_there() -> None:
    specs = profiles.emulators(EMULATORS, Path("/d"), {})
    by_name = {spec.name: spec for spec in processes(SITE, PORTS, {}, ("redis-server",), {}, specs)}
    for worker in ("functions", "signaling"):
        assert {"redis", "cosmos", "azurite", "keyvault", "provision"} <= set(by_name[worker].after)
    assert by_name["sfu"].after == ("redis",)
    assert by_name["provision"].after == ("cosmos",)


def test_sql_is_migrated_where_anything_is_kept_in_it() -> None:
    cosmos = {"PARLEY_COSMOS_ENDPOINT": "https://parley.documents.azure.com"}
    assert "migrate" in _names(cosmos)  # the queue
    assert "migrate" not in _names({**cosmos, "PARLEY_QUEUES": "azure"})
    assert "migrate" in _names({**cosmos, "PARLEY_QUEUES": "azure", "PARLEY_STORES": "sql"})


def test_every_emulator_is_named_to_the_processes(tmp_path: Path) -> None:
    variables = profiles.emulated(EMULATORS, tmp_path)
    assert variables["PARLEY_COSMOS_ENDPOINT"] == "http://127.0.0.1:11"
    assert variables["PARLEY_BLOB_ENDPOINT"] == "http://127.0.0.1:12/devstoreaccount1"
    assert variables["PARLEY_QUEUE_ENDPOINT"] == "http://127.0.0.1:13/devstoreaccount1"
    assert variables["PARLEY_KEYVAULT_URL"] == "https://127.0.0.1:14"
    assert variables["PARLEY_COSMOS_KEY"] != profiles.emulated(EMULATORS, tmp_path)["PARLEY_COSMOS_KEY"]


def test_for_azure_what_is_named_decides() -> None:
    assert profiles.chosen_for_azure({}) == {}
    redis = {"PARLEY_REDIS_URL": "rediss://parley.westeurope.redis.azure.net:10000"}
    assert profiles.chosen_for_azure(redis) == {"PARLEY_REDIS_ENTRA": "1"}
    chosen = profiles.chosen_for_azure({"PARLEY_STORAGE_ACCOUNT": "parley"})
    assert chosen == {"PARLEY_QUEUES": "azure", "PARLEY_MEDIA_FILES": "azure"}
