"""A small document in a file that changes under its tag, which is the digest of its bytes."""

import hashlib
from pathlib import Path
from typing import Final

from conference.adapters import disk

_WHAT: Final = "the document"


class FileDocument:
    """Implements `conference.adapters.sealed_keys.Document` for the processes of one machine."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def read(self) -> tuple[bytes, str] | None:
        return await disk.in_thread(_WHAT, self._read)

    def _read(self) -> tuple[bytes, str] | None:
        try:
            body = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return body, hashlib.sha256(body).hexdigest()

    async def write(self, body: bytes, tag: str | None) -> str | None:
        return await disk.in_thread(_WHAT, lambda: self._write(body, tag))

    def _write(self, body: bytes, tag: str | None) -> str | None:
        with disk.locked(self._file.with_suffix(".lock")):
            found = self._read()
            if (found[1] if found else None) != tag:
                return None
            disk.replace(self._file, body)
            return hashlib.sha256(body).hexdigest()
