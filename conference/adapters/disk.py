"""Files of a machine that its processes share: written whole, readable by their owner only, one writer at a time."""

import asyncio
import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from conference.domain.errors import Unavailable

T = TypeVar("T")


def make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def finished(folder: Path, parts: Iterable[bytes]) -> Path:
    """A new file of these bytes in the folder, under a name of its own, on disk. A crash may leave it there."""
    make_folder(folder)
    descriptor, name = tempfile.mkstemp(dir=folder, prefix=".new-")  # 0600 by definition
    try:
        with os.fdopen(descriptor, "wb") as out:
            for part in parts:
                out.write(part)
            out.flush()
            os.fsync(out.fileno())
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return Path(name)


def replace(target: Path, body: bytes) -> None:
    """The file whole; a crash leaves the old content or the new."""
    fresh = finished(target.parent, [body])
    try:
        os.replace(fresh, target)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def appear(target: Path, body: bytes) -> bool:
    """The file whole, where there is none: of several writers the first one's stays. False for the others."""
    fresh = finished(target.parent, [body])
    try:
        os.link(fresh, target)
    except FileExistsError:
        return False
    finally:
        fresh.unlink()
    return True


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """One holder at a time among all processes and threads; the lock ends with its holder."""
    make_folder(file.parent)
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def in_thread(what: str, work: Callable[[], T], *, retryable: bool = False) -> T:
    """What `work` gives. Raises Unavailable for `what` where the disk fails it."""
    try:
        return await asyncio.to_thread(work)
    except OSError as error:
        raise Unavailable(what, retryable=retryable, after_s=1.0 if retryable else None) from error
