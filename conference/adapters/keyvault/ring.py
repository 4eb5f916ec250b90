"""Port `KeyRing` in Azure Key Vault: RSA-OAEP with SHA-256, by a key that the vault never gives away.

Wrapping needs only the public half, which the SDK does here; unwrapping is a call. In Azure the vault's own rotation
policy makes new versions; the identity needs get, wrapKey and unwrapKey ("Key Vault Crypto User"), and who calls
`rotate` needs rotate.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys import KeyVaultKey, KeyVaultKeyIdentifier
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm

from conference.adapters.azure.calls import NO_RETRIES, RETRIES, Calls, reason
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.ports.keys import WrappedKey

log = logging.getLogger(__name__)
ALGORITHM: Final = KeyWrapAlgorithm.rsa_oaep_256
_KEY_BYTES: Final = 32
T = TypeVar("T")


class VaultKeyRing:
    """The key `name` of the vault at `url`. `is_emulator` takes its challenge although it names Azure's domain."""

    def __init__(
        self,
        url: str,
        name: str,
        credential: AsyncTokenCredential,
        *,
        is_emulator: bool = False,
        retries: Retries = RETRIES,
        **options: Any,
    ) -> None:
        self._url, self._name = url.rstrip("/"), name
        self._client = KeyClient(
            self._url, credential, verify_challenge_resource=not is_emulator, **NO_RETRIES, **options
        )
        self._calls = Calls("the key vault", retries)

    async def aclose(self) -> None:
        await self._client.close()

    async def wrap(self, key: bytes) -> WrappedKey:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key to wrap has {_KEY_BYTES} bytes")
        newest = await self._call(lambda: self._client.get_key(self._name))
        crypto = self._client.get_cryptography_client(self._name, key_version=newest.properties.version)
        result = await self._call(lambda: crypto.wrap_key(ALGORITHM, key))
        return WrappedKey(_id(newest), ALGORITHM.value, result.encrypted_key)

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        version = self._version(wrapped)
        crypto = self._client.get_cryptography_client(self._name, key_version=version)
        return (await self._call(lambda: crypto.unwrap_key(ALGORITHM, wrapped.wrapped))).key

    def _version(self, wrapped: WrappedKey) -> str:
        """Raises ValueError for another vault's key, which is not asked."""
        try:
            found = KeyVaultKeyIdentifier(wrapped.key_id)
        except ValueError as error:
            raise ValueError("this key was wrapped by another ring") from error
        ours = (found.vault_url.rstrip("/"), found.name, wrapped.algorithm) == (self._url, self._name, ALGORITHM.value)
        if not ours or not found.version:
            raise ValueError("this key was wrapped by another ring")
        return found.version

    async def rotate(self) -> str:
        return _id(await self._call(lambda: self._client.rotate_key(self._name)))

    async def _call(self, work: Callable[[], Awaitable[T]]) -> T:
        """Raises Unavailable, also where there is no such key, and ValueError for what the key does not open."""
        try:
            return await self._calls(work)
        except HttpResponseError as error:
            if error.status_code == 400:
                raise ValueError("this key was not wrapped by that version") from error
            log.error("the vault refuses its key", extra={"key": self._name, "reason": reason(error)})
            raise Unavailable("the key vault's key", retryable=False, after_s=None) from error


def _id(key: KeyVaultKey) -> str:
    return str(key.id)
