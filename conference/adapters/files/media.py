"""Port `MediaFiles` in a folder that the processes of one machine share.

A file appears by a hard link to a finished one: no reader sees half of it, and of two writers one wins. What else is
known of a file (tier, lease, who committed it) is a small document beside it, changed under one lock. Folders end in
`@`, so that `a` and `a/b` may both be files, as in Blob storage.
"""

import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from conference.adapters import disk
from conference.adapters.files.links import Links
from conference.domain.errors import Unavailable
from conference.domain.records import StorageTier
from conference.ports.clock import Clock
from conference.ports.media_files import (
    LEASE_S,
    LONGEST_LINK,
    Draft,
    MediaFile,
    checked_block,
    checked_lease,
    checked_name,
    checked_numbers,
    checked_prefix,
)

T = TypeVar("T")
Facts = dict[str, Any]


class FilesMediaFiles:
    """Everything is below `folder`. Errors of the disk are Unavailable, and a retry may help: it may have been full."""

    def __init__(self, folder: Path, clock: Clock, links: Links) -> None:
        self._files, self._facts, self._drafts = folder / "files", folder / "facts", folder / "drafts"
        self._new, self._lock = folder / "new", folder / ".lock"
        self._clock, self._links = clock, links

    async def put(self, name: str, body: bytes) -> bool:
        target = self._path(name)
        return await _in_thread(lambda: self._appear(name, [body], {}) or target.read_bytes() == body)

    async def stage(self, draft: Draft, number: int, body: bytes) -> None:
        checked_block(number, body)
        folder = self._draft(draft)
        await _in_thread(lambda: disk.replace(folder / f"{number:05d}", body))

    async def staged(self, draft: Draft) -> Sequence[int]:
        folder = self._draft(draft)
        return await _in_thread(lambda: _numbers(folder))

    async def commit(self, draft: Draft, numbers: Sequence[int]) -> bool:
        wanted = list(checked_numbers(numbers))
        return await _in_thread(lambda: self._commit(draft, wanted))

    def _commit(self, draft: Draft, numbers: list[int]) -> bool:
        target, folder = self._path(draft.name), self._draft(draft)
        facts = {"commit": [draft.writer, numbers]}
        blocks = [folder / f"{number:05d}" for number in numbers]
        if not target.exists():
            if not all(block.exists() for block in blocks):
                raise ValueError("a block of the file was never staged")
            if self._appear(draft.name, (block.read_bytes() for block in blocks), facts):
                shutil.rmtree(folder, ignore_errors=True)
                return True
        return bool(self._known(draft.name).get("commit") == facts["commit"])

    def _appear(self, name: str, parts: Iterable[bytes], facts: Facts) -> bool:
        """The file of these bytes under its name, whole and on disk. False where the name is taken."""
        target = self._path(name)
        finished = disk.finished(self._new, parts)
        try:
            with disk.locked(self._lock):
                if target.exists():
                    return False
                self._write_known(name, facts)  # first: a note of a file that is not there yet does no harm
                disk.make_folder(target.parent)
                os.link(finished, target)
                return True
        finally:
            finished.unlink()

    async def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | None:
        target = self._path(name)

        def work() -> bytes | None:
            if self._known(name).get("tier") == StorageTier.ARCHIVE:
                raise Unavailable("the archived file", retryable=False, after_s=None)
            try:
                with target.open("rb") as file:
                    file.seek(offset)
                    return file.read(-1 if length is None else length)
            except FileNotFoundError:
                return None

        return await _in_thread(work)

    def readable(self, name: str) -> Path | None:
        """The file itself, for a server that sends it; None where there is none or it is archived."""
        file = self._path(name)
        return file if file.exists() and self._known(name).get("tier") != StorageTier.ARCHIVE else None

    async def facts(self, name: str) -> MediaFile | None:
        checked_name(name)
        return await _in_thread(lambda: self._media_file(name))

    def _media_file(self, name: str) -> MediaFile | None:
        try:
            found = self._path(name).stat()
        except FileNotFoundError:
            return None
        tier = StorageTier(self._known(name).get("tier", StorageTier.HOT))
        return MediaFile(name, found.st_size, tier, datetime.fromtimestamp(found.st_mtime, UTC))

    async def find(self, prefix: str) -> AsyncIterator[MediaFile]:
        checked_prefix(prefix)
        for name in await _in_thread(lambda: sorted(self._names(prefix))):
            file = await _in_thread(lambda name=name: self._media_file(name))  # type: ignore[misc]
            if file is not None:  # else it was deleted meanwhile
                yield file

    def _names(self, prefix: str) -> Iterator[str]:
        for folder, _, names in os.walk(self._files.joinpath(*(f"{part}@" for part in prefix.split("/")[:-1]))):
            inside = "".join(f"{part[:-1]}/" for part in Path(folder).relative_to(self._files).parts)
            yield from (f"{inside}{name}" for name in names if f"{inside}{name}".startswith(prefix))

    async def delete(self, name: str, *, holder: str = "") -> bool:
        target = self._path(name)

        def work() -> bool:
            with disk.locked(self._lock):
                self._check_holder(name, holder)
                try:
                    target.unlink()
                except FileNotFoundError:
                    return False
                self._beside(name).unlink(missing_ok=True)
                return True

        return await _in_thread(work)

    async def move(self, name: str, tier: StorageTier, *, holder: str = "") -> bool:
        target = self._path(name)

        def work() -> bool:
            with disk.locked(self._lock):
                self._check_holder(name, holder)
                if target.exists():
                    self._write_known(name, {**self._known(name), "tier": tier})
                return target.exists()

        return await _in_thread(work)

    async def lease(self, name: str, holder: str, *, seconds: int) -> bool:
        span = checked_lease(seconds)
        return await _in_thread(lambda: self._hold(name, holder, span))

    def _hold(self, name: str, holder: str, span: timedelta) -> bool:
        with disk.locked(self._lock):
            if not self._path(name).exists() or self._holder(name) not in ("", holder):
                return False
            until = (self._clock.now() + span).isoformat()
            self._write_known(name, {**self._known(name), "holder": holder, "until": until})
            return True

    async def release(self, name: str, holder: str) -> bool:
        def work() -> bool:
            with disk.locked(self._lock):
                if self._holder(name) != holder:
                    return False
                self._write_known(name, {**self._known(name), "holder": ""})
                return True

        return await _in_thread(work)

    async def link(self, name: str, now: datetime, *, life: timedelta = LONGEST_LINK) -> str:
        return self._links.link(name, now, life)

    def _check_holder(self, name: str, holder: str) -> None:
        if self._holder(name) not in ("", holder):
            raise Unavailable("the leased file", after_s=float(LEASE_S[0]))

    def _holder(self, name: str) -> str:
        """Who has the lease now, if anybody."""
        known = self._known(name)
        holder = str(known.get("holder", ""))
        return holder if holder and self._clock.now() < datetime.fromisoformat(known["until"]) else ""

    def _known(self, name: str) -> Facts:
        try:
            found: Facts = json.loads(self._beside(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found

    def _write_known(self, name: str, facts: Facts) -> None:
        disk.replace(self._beside(name), json.dumps(facts).encode())

    def _path(self, name: str) -> Path:
        return _below(self._files, name)

    def _beside(self, name: str) -> Path:
        return _below(self._facts, name)

    def _draft(self, draft: Draft) -> Path:
        mark = hashlib.sha256(f"{checked_name(draft.name)}\n{draft.writer}".encode()).hexdigest()
        return self._drafts / mark[:40]


def _below(folder: Path, name: str) -> Path:
    *folders, last = checked_name(name).split("/")
    return folder.joinpath(*(f"{part}@" for part in folders), last)


def _numbers(folder: Path) -> list[int]:
    with suppress(FileNotFoundError):
        return sorted(int(file.name) for file in folder.iterdir() if file.name.isdecimal())
    return []


async def _in_thread(work: Callable[[], T]) -> T:
    return await disk.in_thread("the folder of recordings", work, retryable=True)
