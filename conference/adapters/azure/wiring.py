"""Builds the adapters of Azure's services from the settings, over one credential.

Imported by name, and only where a setting asks for Azure: the SDKs take half a second to import, which an installation
without Azure never pays.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from azure.core.credentials_async import AsyncTokenCredential

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


class AzureAdapters:
    """What the settings choose. Every method raises ValueError, one sentence that names the setting that is wrong."""

    def __init__(self, chosen: Settings, credential: ProcessCredential) -> None:
        self._chosen = chosen
        self._credentials = credential
        self._ring: VaultKeyRing | None = None
        self._closers: list[Callable[[], Awaitable[None]]] = []
        logging.getLogger("azure").setLevel(logging.WARNING)  # it logs every request's address at INFO

    def event_queue(self) -> AzureEventQueue:
        endpoint, credential = self._storage("queue")
        queue = AzureEventQueue(endpoint, credential, **self._trust(endpoint))
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
        url = endpoint_of("PARLEY_KEYVAULT_URL", self._chosen.keyvault_url)
        if url.startswith("http:"):
            raise ValueError("PARLEY_KEYVAULT_URL has to be an https address, that of an emulator, too.")
        credential = self._credentials.token(url)
        ring = VaultKeyRing(
            url, self._chosen.keyvault_key, credential, is_emulator=is_loopback(url), **self._trust(url)
        )
        self._closers.append(ring.aclose)
        return ring

    def _container(self, name: str, **options: Any) -> Container:
        endpoint, credential = self._storage("blob")
        container = Container(endpoint, name, credential, **options, **self._trust(endpoint))
        self._closers.append(container.aclose)
        return container

    def _storage(self, service: Literal["blob", "queue"]) -> tuple[str, AsyncTokenCredential | str]:
        setting = f"PARLEY_{service.upper()}_ENDPOINT"
        given = self._chosen.storage_endpoint(service)
        if not given:
            raise ValueError(f"{setting} is not set. Give it, or the name of the account in PARLEY_STORAGE_ACCOUNT.")
        endpoint = endpoint_of(setting, given)
        secret = self._chosen.storage_key
        key = emulator_key("PARLEY_STORAGE_KEY", endpoint, secret.get_secret_value() if secret else "")
        if not key and endpoint.startswith("http:"):
            raise ValueError(
                f"{setting} is an emulator's http address, which needs its account key: PARLEY_STORAGE_KEY."
            )
        return endpoint, key or self._credentials.token(endpoint)

    def _trust(self, endpoint: str) -> dict[str, Any]:
        """Azure's certificates are known everywhere; those of this machine's emulators are not."""
        ca_file = self._chosen.ca_file
        return {"connection_verify": str(ca_file)} if ca_file and is_loopback(endpoint) else {}

    async def aclose(self) -> None:
        """In reverse order of building. The credential is the caller's."""
        for close in reversed(self._closers):
            await close()
