"""What `PROFILE` changes: which stores the system keeps its state in, and what runs beside it for that.

`embedded` (the default) keeps everything in the data folder. `azurite` puts emulators in the place of Azure's services:
Azurite for blobs and queues, a Key Vault for keys, a Cosmos DB server for everything else; they keep it in memory (the
vault its key on disk), so that a restart begins anew. `azure` takes real endpoints from the environment
(`local/runner/checks.py`).
"""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast, get_args

from conference.adapters.azure.credentials import EMULATOR_ACCOUNT, EMULATOR_KEY
from local.azurite import server as azurite
from local.edge.certificates import Certificates
from local.runner.machine import NotPossible
from local.runner.specs import Spec, python

Profile = Literal["embedded", "azurite", "azure"]
VAULT_KEY: Final = "parley"
STORAGE_CONNECTION: Final = "AzureWebJobsStorage"  # as host.json's queue triggers name it


@dataclass(frozen=True)
class EmulatorPorts:
    """Loopback TCP ports."""

    cosmos: int
    blob: int
    queue: int
    vault: int


def profile_of(given: Mapping[str, str]) -> Profile:
    """Raises NotPossible for a name that is none."""
    name = given.get("PROFILE") or "embedded"
    if name not in get_args(Profile):
        raise NotPossible(f"PROFILE={name} is none. Use one of: {', '.join(get_args(Profile))}.")
    return cast(Profile, name)


def vault_folder(data_dir: Path) -> Path:
    """Of the vault's key, and of the certificate that its clients have to trust."""
    return data_dir / "keyvault"


def emulated(ports: EmulatorPorts, data_dir: Path) -> dict[str, str]:
    """The variables by which every process finds the emulators. The key of Cosmos DB is made for this run."""
    blob, queue = (azurite.endpoint(port, is_tls=False) for port in (ports.blob, ports.queue))
    parts = {
        "DefaultEndpointsProtocol": "http",
        "AccountName": EMULATOR_ACCOUNT,
        "AccountKey": EMULATOR_KEY,
        "BlobEndpoint": blob,
        "QueueEndpoint": queue,
    }
    return {
        "PARLEY_STORES": "cosmos",
        "PARLEY_COSMOS_PORT": str(ports.cosmos),
        "PARLEY_COSMOS_ENDPOINT": f"http://127.0.0.1:{ports.cosmos}",
        "PARLEY_COSMOS_KEY": base64.b64encode(secrets.token_bytes(64)).decode(),
        "PARLEY_QUEUES": "azure",
        "PARLEY_MEDIA_FILES": "azure",
        "PARLEY_BLOB_ENDPOINT": blob,
        "PARLEY_QUEUE_ENDPOINT": queue,
        "PARLEY_STORAGE_KEY": EMULATOR_KEY,
        "PARLEY_KEYVAULT_URL": f"https://127.0.0.1:{ports.vault}",
        "PARLEY_KEYVAULT_KEY": VAULT_KEY,
        "PARLEY_CA_FILE": str(Certificates(vault_folder(data_dir) / "tls").ca_file),
        STORAGE_CONNECTION: ";".join(f"{name}={value}" for name, value in parts.items()),
    }


def emulators(ports: EmulatorPorts, data_dir: Path, variables: Mapping[str, str]) -> tuple[Spec, ...]:
    """Their processes, and the step that makes the containers of Cosmos DB."""
    ready = f"http://127.0.0.1:{ports.cosmos}/ready"
    vault = ("--port", str(ports.vault), "--folder", str(vault_folder(data_dir)), "--key", VAULT_KEY)
    return (
        python(variables, "keyvault", "local.keyvault", f"https://127.0.0.1:{ports.vault}/health", *vault, stops=2),
        python(variables, "cosmos", "local.cosmos", ready, stops=2),
        Spec("azurite", azurite.command(ports.blob, ports.queue), f"tcp://127.0.0.1:{ports.queue}", stops=2),
        python(variables, "provision", "conference.adapters.cosmos.provision", "", after=("cosmos",)),
    )


def chosen_for_azure(given: Mapping[str, str]) -> dict[str, str]:
    """Defaults where endpoints are Azure's; what is set by hand wins."""
    has_storage = any(given.get(f"PARLEY_{name}") for name in ("STORAGE_ACCOUNT", "BLOB_ENDPOINT", "QUEUE_ENDPOINT"))
    chosen = {"PARLEY_QUEUES": "azure", "PARLEY_MEDIA_FILES": "azure"} if has_storage else {}
    if ".redis.azure.net" in given.get("PARLEY_REDIS_URL", ""):
        chosen["PARLEY_REDIS_ENTRA"] = "1"
    return chosen
