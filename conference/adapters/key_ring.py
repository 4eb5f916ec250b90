"""Port `KeyRing` in a folder: AES key wrap (RFC 3394) with 256-bit keys, one file a version, for one machine."""

import asyncio
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from conference.domain.errors import Unavailable
from conference.ports.keys import WrappedKey

ALGORITHM: Final = "A256KW"
_KEY_BYTES: Final = 32
_ID: Final = re.compile(r"file:(\d{4})")
T = TypeVar("T")


class FileKeyRing:
    """The processes of a machine share the folder; a version is written whole, once, and never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def wrap(self, key: bytes) -> WrappedKey:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key to wrap has {_KEY_BYTES} bytes")
        return await _in_thread(lambda: self._wrap(key))

    def _wrap(self, key: bytes) -> WrappedKey:
        number = self._newest() or self._make(1)
        return WrappedKey(f"file:{number:04d}", ALGORITHM, aes_key_wrap(self._key(number), key))

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        found = _ID.fullmatch(wrapped.key_id)
        if found is None or wrapped.algorithm != ALGORITHM:
            raise ValueError("this key was wrapped by another ring")
        key = await _in_thread(lambda: self._key(int(found[1])))
        try:
            return aes_key_unwrap(key, wrapped.wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise ValueError("this key was not wrapped by that version") from error

    async def rotate(self) -> str:
        return await _in_thread(lambda: f"file:{self._make((self._newest() or 0) + 1):04d}")

    def _newest(self) -> int | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return max((int(file.stem) for file in self._folder.glob("[0-9][0-9][0-9][0-9].key")), default=None)

    def _make(self, number: int) -> int:
        """The version of this number, ours or that of a process that was faster."""
        fresh = self._folder / f".new-{secrets.token_hex(8)}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(secrets.token_bytes(_KEY_BYTES))
                out.flush()
                os.fsync(out.fileno())
            os.link(fresh, self._folder / f"{number:04d}.key")
        except FileExistsError:
            return number
        finally:
            fresh.unlink()
        return number

    def _key(self, number: int) -> bytes:
        key = (self._folder / f"{number:04d}.key").read_bytes()
        if len(key) != _KEY_BYTES:
            raise OSError("a key of the ring is damaged")
        return key


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Unavailable("the key ring", retryable=False, after_s=None) from error
