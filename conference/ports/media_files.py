"""The bytes of recordings: files that grow by numbered blocks, appear whole, and are read by short-lived links.

A writer stages blocks of a draft, which nobody sees, and commits them under the file's name if nothing has that name.
Whole small files (chunks, manifests) are put at once under the same rule. What a name holds never changes, so repeating
a write whose answer was lost is harmless. Rules are Azure Blob storage's; `conference.domain.records.Recording` holds
what is known of a recording.
"""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from conference.domain.records import StorageTier

LONGEST_LINK: Final = timedelta(minutes=15)
LARGEST_BLOCK: Final = 100 * 2**20  # bytes
MOST_BLOCKS: Final = 50_000
LONGEST_NAME: Final = 512
LEASE_S: Final = (15, 60)  # how long a lease may be

_SEGMENT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_TYPES: Final = {
    "mp4": "video/mp4",
    "m4s": "video/iso.segment",
    "m4a": "audio/mp4",
    "webm": "video/webm",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "vtt": "text/vtt",
}


@dataclass(frozen=True, slots=True)
class Draft:
    """A file in the making. Drafts of other writers under the same name have blocks of their own."""

    name: str
    writer: str


@dataclass(frozen=True, slots=True)
class MediaFile:
    """What is known of a file."""

    name: str
    size: int
    tier: StorageTier
    modified_at: datetime


def checked_name(name: str) -> str:
    """The name: segments of letters, digits, dot, dash and underscore, joined by slashes. Raises ValueError."""
    if len(name) > LONGEST_NAME or not all(_SEGMENT.fullmatch(segment) for segment in name.split("/")):
        raise ValueError(f"{name[:80]!r} is no name of a media file")
    return name


def checked_prefix(prefix: str) -> str:
    """A name or the beginning of one, up to a slash or within a segment; empty for all. Raises ValueError."""
    if prefix:
        checked_name(prefix[:-1] if prefix.endswith("/") else prefix)
    return prefix


def checked_block(number: int, body: bytes) -> bytes:
    """The block's bytes. Raises ValueError for a number or size that no block may have."""
    if not 0 <= number < MOST_BLOCKS:
        raise ValueError(f"a block's number is 0 to {MOST_BLOCKS - 1}, not {number}")
    if not 0 < len(body) <= LARGEST_BLOCK:
        raise ValueError(f"a block has 1 to {LARGEST_BLOCK} bytes, not {len(body)}")
    return body


def checked_numbers(numbers: Sequence[int]) -> Sequence[int]:
    """The blocks of a file. Raises ValueError where there is none."""
    if not numbers:
        raise ValueError("a file has at least one block")
    return numbers


def checked_life(life: timedelta) -> timedelta:
    """The life of a link. Raises ValueError where it is none or over 15 minutes."""
    if not timedelta(0) < life <= LONGEST_LINK:
        raise ValueError(f"a link lives {LONGEST_LINK} at most")
    return life


def checked_lease(seconds: int) -> timedelta:
    """The span of a lease. Raises ValueError where it is under 15 or over 60 seconds."""
    if not LEASE_S[0] <= seconds <= LEASE_S[1]:
        raise ValueError(f"a lease takes {LEASE_S[0]} to {LEASE_S[1]} seconds, not {seconds}")
    return timedelta(seconds=seconds)


def content_type(name: str) -> str:
    """Of the file, by the ending of its name."""
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


class MediaFiles(Protocol):
    """Every method raises Unavailable where the store is away, and ValueError for a name that is none.

    Who holds a file's lease is named by a UUID, the `holder`; others can neither delete the file nor move it to another
    tier until the lease ends, and meet Unavailable.
    """

    async def put(self, name: str, body: bytes) -> bool:
        """Writes a whole file. False where the name holds other bytes; the same bytes again are one file."""
        ...

    async def stage(self, draft: Draft, number: int, body: bytes) -> None:
        """Keeps a block for a week at least; the same number again replaces it. Raises ValueError for a block over 100
        MiB or a number of 50,000 and more. Blob storage keeps none under a name that is leased: Unavailable."""
        ...

    async def staged(self, draft: Draft) -> Sequence[int]:
        """The numbers of the writer's blocks that are not committed, in order."""
        ...

    async def commit(self, draft: Draft, numbers: Sequence[int]) -> bool:
        """Makes the file of these blocks, in this order. False where the name is taken; the same commit again is one
        file. Raises ValueError where a block was never staged, or there is none."""
        ...

    async def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | None:
        """The file's bytes from `offset` on, `length` of them where there are so many. None where there is no such
        file. Raises Unavailable (not retryable) for an archived one."""
        ...

    async def facts(self, name: str) -> MediaFile | None: ...

    def find(self, prefix: str) -> AsyncIterator[MediaFile]:
        """The files whose name begins so, by name."""
        ...

    async def delete(self, name: str, *, holder: str = "") -> bool:
        """False where there is no such file."""
        ...

    async def move(self, name: str, tier: StorageTier, *, holder: str = "") -> bool:
        """Moves the file to another tier: back from the archive it takes hours in Azure. False where there is none."""
        ...

    async def lease(self, name: str, holder: str, *, seconds: int) -> bool:
        """Holds the file for 15 to 60 seconds, or goes on doing so. False where another holds it or there is none."""
        ...

    async def release(self, name: str, holder: str) -> bool:
        """False where the file is not the holder's."""
        ...

    async def link(self, name: str, now: datetime, *, life: timedelta = LONGEST_LINK) -> str:
        """An address that reads this one file until `now` + `life`. Raises ValueError for more than 15 minutes."""
        ...
