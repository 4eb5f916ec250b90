"""A small document in a file that changes under its tag, which is the digest of its bytes."""

import asyncio
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from conference.domain.errors import Unavailable

T = TypeVar("T")


class FileDocument:
    """Implements `conference.adapters.sealed_keys.Document` for the processes of one machine."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def read(self) -> tuple[bytes, str] | None:
        return await _in_thread(self._read)

    def _read(self) -> tuple[bytes, str] | None:
        try:
            body = self._file.read_bytes()
        except FileNotFoundError:
            return None
        return body, hashlib.sha256(body).hexdigest()

    async def write(self, body: bytes, tag: str | None) -> str | None:
        return await _in_thread(lambda: self._write(body, tag))

    def _write(self, body: bytes, tag: str | None) -> str | None:
        self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self._file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # ends with its holder
            found = self._read()
            if (found[1] if found else None) != tag:
                return None
            self._replace(body)
            return hashlib.sha256(body).hexdigest()
        finally:
            os.close(lock)

    def _replace(self, body: bytes) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=".new-")  # 0600 by definition
        try:
            with os.fdopen(descriptor, "wb") as out:
                out.write(body)
                out.flush()
                os.fsync(out.fileno())
            os.replace(name, self._file)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise


async def _in_thread(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Unavailable("the document", retryable=False, after_s=None) from error
