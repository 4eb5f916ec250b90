"""Builds the adapters of Azure's services from the settings, over one credential.

Imported by name, and only where a setting asks for Azure: the SDKs take half a second to import, which an installation
without Azure never pays.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from conference.adapters.azure.calls import RETRIES
from conference.adapters.azure.credentials import emulator_key, endpoint_of, is_loopback
from conference.adapters.blob.client import Container
from conference.adapters.blob.document import BlobDocument
from conference.adapters.blob.files import BlobMediaFiles
from conference.adapters.credentials import ProcessCredential
from conference.adapters.keyvault import VaultKeyRing
from conference.adapters.queues import AzureEventQueue
from conference.adapters.sealed_keys import SealedSigningKeys
from conference.ports.clock import Ids
from conference.settings import Settings

KEYS_CONTAINER = "keys"
KEYS_DOCUMENT = "signing-keys.json"


def storage_account(
    chosen: Settings, credential: ProcessCredential, service: Literal["blob", "queue"]
) -> tuple[str, dict[str, Any]]:
    """The endpoint, and what an SDK client is given beside it. Raises ValueError, one sentence that names the setting
    that is wrong and no secret."""
    setting = f"PARLEY_{service.upper()}_ENDPOINT"
    given = chosen.storage_endpoint(service)
    if not given:
        raise ValueError(f"{setting} is not set. Give it, or the name of the account in PARLEY_STORAGE_ACCOUNT.")
    endpoint = endpoint_of(setting, given, storage=True)
    secret = chosen.storage_key
    given_key = secret.get_secret_value() if secret else ""
    key = emulator_key("PARLEY_STORAGE_KEY", endpoint, given_key, storage=True)
    if not key and endpoint.startswith("http:"):
        raise ValueError(f"{setting} is an emulator's http address, which needs its account key: PARLEY_STORAGE_KEY.")
    return endpoint, {"credential": key or credential.token(endpoint), **_trust(chosen, endpoint)}


def vault(chosen: Settings, credential: ProcessCredential) -> tuple[str, dict[str, Any]]:
    """Likewise."""
    url = endpoint_of("PARLEY_KEYVAULT_URL", chosen.keyvault_url)
    if url.startswith("http:"):
        raise ValueError("PARLEY_KEYVAULT_URL has to be an https address, that of an emulator, too.")
    return url, {"credential": credential.token(url), **_trust(chosen, url)}


def _trust(chosen: Settings, endpoint: str) -> dict[str, Any]:
    """Azure's certificates are known everywhere; those of this machine's emulators are not."""
    return {"connection_verify": str(chosen.ca_file)} if chosen.ca_file and is_loopback(endpoint) else {}


class AzureAdapters:
    """What the settings choose. Every method raises ValueError, one sentence that names the setting that is wrong."""

    def __init__(self, chosen: Settings, credential: ProcessCredential) -> None:
        self._chosen = chosen
        self._credentials = credential
        self._ring: VaultKeyRing | None = None
        self._closers: list[Callable[[], Awaitable[None]]] = []
        logging.getLogger("azure").setLevel(logging.WARNING)  # it logs every request's address at INFO

    def event_queue(self) -> AzureEventQueue:
        endpoint, options = storage_account(self._chosen, self._credentials, "queue")
        queue = AzureEventQueue(endpoint, **options)
        self._closers.append(queue.aclose)
        return queue

    def media_files(self) -> BlobMediaFiles:
        return BlobMediaFiles(self._container(self._chosen.recordings_container))

    def signing_keys(self, ids: Ids) -> SealedSigningKeys:
        """Wrapped by the vault, in the container `keys`."""
        container = self._container(KEYS_CONTAINER, retries=RETRIES)  # a small document needs no minute
        return SealedSigningKeys(BlobDocument(container, KEYS_DOCUMENT), self.key_ring(), ids)

    def key_ring(self) -> VaultKeyRing:
        """The same object each time."""
        if self._ring is None:
            self._ring = self._made_ring()
        return self._ring

    def _made_ring(self) -> VaultKeyRing:
        url, options = vault(self._chosen, self._credentials)
        ring = VaultKeyRing(url, self._chosen.keyvault_key, is_emulator=is_loopback(url), **options)
        self._closers.append(ring.aclose)
        return ring

    def _container(self, name: str, **options: Any) -> Container:
        endpoint, access = storage_account(self._chosen, self._credentials, "blob")
        container = Container(endpoint, name, **access, **options)
        self._closers.append(container.aclose)
        return container

    async def aclose(self) -> None:
        """In reverse order of building. The credential is the caller's."""
        for close in reversed(self._closers):
            await close()
