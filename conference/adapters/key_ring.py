"""Port `KeyRing` in a folder: AES key wrap (RFC 3394) with 256-bit keys, one file a version, for one machine."""

import re
import secrets
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from conference.adapters import disk
from conference.ports.keys import WrappedKey

ALGORITHM: Final = "A256KW"
_KEY_BYTES: Final = 32
_ID: Final = re.compile(r"file:(\d{4})")
_WHAT: Final = "the key ring"


class FileKeyRing:
    """The processes of a machine share the folder; a version is written whole, once, and never changes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def wrap(self, key: bytes) -> WrappedKey:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"a key to wrap has {_KEY_BYTES} bytes")
        return await disk.in_thread(_WHAT, lambda: self._wrap(key))

    def _wrap(self, key: bytes) -> WrappedKey:
        number = self._newest() or self._make(1)
        return WrappedKey(f"file:{number:04d}", ALGORITHM, aes_key_wrap(self._key(number), key))

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        found = _ID.fullmatch(wrapped.key_id)
        if found is None or wrapped.algorithm != ALGORITHM:
            raise ValueError("this key was wrapped by another ring")
        key = await disk.in_thread(_WHAT, lambda: self._key(int(found[1])))
        try:
            return aes_key_unwrap(key, wrapped.wrapped)
        except (InvalidUnwrap, ValueError) as error:
            raise ValueError("this key was not wrapped by that version") from error

    async def rotate(self) -> str:
        return await disk.in_thread(_WHAT, lambda: f"file:{self._make((self._newest() or 0) + 1):04d}")

    def _newest(self) -> int | None:
        disk.make_folder(self._folder)
        return max((int(file.stem) for file in self._folder.glob("[0-9][0-9][0-9][0-9].key")), default=None)

    def _make(self, number: int) -> int:
        """The version of this number, ours or that of a process that was faster."""
        disk.appear(self._folder / f"{number:04d}.key", secrets.token_bytes(_KEY_BYTES))
        return number

    def _key(self, number: int) -> bytes:
        key = (self._folder / f"{number:04d}.key").read_bytes()
        if len(key) != _KEY_BYTES:
            raise OSError("a key of the ring is damaged")
        return key
