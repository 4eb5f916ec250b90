"""Port `WebhookSecrets`: AES-256-GCM under one key of the installation, which lies apart from the database.

A sealed text is `v1.<base64url of nonce and ciphertext>`; the endpoint's id is bound into it, so that a text moved to
another endpoint's row opens nothing. On one machine the key is a file beside the signing keys.
"""

import asyncio
import os
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from conference.domain.errors import Unavailable
from conference.domain.ids import Secret, WebhookId

_PREFIX: Final = "whsec_"
_VERSION: Final = "v1."
_NONCE: Final = 12
_KEY_FILE: Final = "webhooks.key"
_KEY_BYTES: Final = 32


class SealedWebhookSecrets:
    """`load_key` gives the 32 bytes of the installation's key, or raises Unavailable; it is asked once."""

    def __init__(self, load_key: Callable[[], Awaitable[bytes]]) -> None:
        self._load_key = load_key
        self._aead: AESGCM | None = None

    def new(self) -> Secret:
        return Secret(_PREFIX + secrets.token_urlsafe(32))

    async def seal(self, secret: Secret, endpoint_id: WebhookId) -> str:
        aead = await self._ready()
        nonce = os.urandom(_NONCE)
        sealed = aead.encrypt(nonce, secret.reveal().encode(), endpoint_id.encode())
        return _VERSION + urlsafe_b64encode(nonce + sealed).decode()

    async def open(self, sealed: str, endpoint_id: WebhookId) -> Secret:
        aead = await self._ready()
        try:
            if not sealed.startswith(_VERSION):
                raise ValueError("another version")
            content = urlsafe_b64decode(sealed.removeprefix(_VERSION))
            return Secret(aead.decrypt(content[:_NONCE], content[_NONCE:], endpoint_id.encode()).decode())
        except (ValueError, InvalidTag) as error:
            raise Unavailable("a webhook's secret", retryable=False, after_s=None) from error

    async def _ready(self) -> AESGCM:
        if self._aead is None:
            self._aead = AESGCM(await self._load_key())
        return self._aead


class FileKey:
    """A key in a folder that the processes of a machine share; made when it is first asked for. Raises Unavailable
    where it can be neither read nor made, or has not the right length: nothing would open under another one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / _KEY_FILE

    async def __call__(self) -> bytes:
        try:
            key = await asyncio.to_thread(self._read)
        except OSError as error:
            raise Unavailable("the key of the webhooks", retryable=False, after_s=None) from error
        if len(key) != _KEY_BYTES:
            raise Unavailable("the key of the webhooks", retryable=False, after_s=None)
        return key

    def _read(self) -> bytes:
        if not self._file.exists():
            self._make()
        return self._file.read_bytes()

    def _make(self) -> None:
        """Whole or not at all; of two processes that make it at once, the first one's stays."""
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = self._file.with_name(f".{_KEY_FILE}.{secrets.token_hex(8)}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(secrets.token_bytes(_KEY_BYTES))
                out.flush()
                os.fsync(out.fileno())
            os.link(fresh, self._file)
        except FileExistsError:
            return
        finally:
            fresh.unlink(missing_ok=True)
