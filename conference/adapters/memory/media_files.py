"""Port `MediaFiles` in memory."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

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
    checked_life,
    checked_name,
    checked_numbers,
    checked_prefix,
)


@dataclass(slots=True)
class _Entry:
    body: bytes
    facts: MediaFile
    made_by: tuple[str, tuple[int, ...]] | None = None
    holder: str = ""
    until: datetime | None = None


@dataclass(slots=True)
class MemoryMediaFiles:
    """Links are memory: addresses that nothing serves."""

    clock: Clock
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _drafts: dict[Draft, dict[int, bytes]] = field(default_factory=dict)

    async def put(self, name: str, body: bytes) -> bool:
        if checked_name(name) not in self._entries:
            self._appear(name, body)
        return self._entries[name].body == body

    async def stage(self, draft: Draft, number: int, body: bytes) -> None:
        checked_name(draft.name)
        self._drafts.setdefault(draft, {})[number] = checked_block(number, body)

    async def staged(self, draft: Draft) -> Sequence[int]:
        return sorted(self._drafts.get(draft, ()))

    async def commit(self, draft: Draft, numbers: Sequence[int]) -> bool:
        made_by = (draft.writer, tuple(checked_numbers(numbers)))
        if draft.name in self._entries:
            return self._entries[draft.name].made_by == made_by
        blocks = self._drafts.get(draft, {})
        if not blocks.keys() >= set(numbers):
            raise ValueError("a block of the file was never staged")
        self._appear(draft.name, b"".join(blocks[number] for number in numbers))
        self._entries[draft.name].made_by = made_by
        del self._drafts[draft]
        return True

    def _appear(self, name: str, body: bytes) -> None:
        facts = MediaFile(name, len(body), StorageTier.HOT, self.clock.now())
        self._entries[name] = _Entry(body, facts)

    async def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes | None:
        entry = self._entries.get(checked_name(name))
        if entry is None:
            return None
        if entry.facts.tier is StorageTier.ARCHIVE:
            raise Unavailable("the archived file", retryable=False, after_s=None)
        return entry.body[offset : None if length is None else offset + length]

    async def facts(self, name: str) -> MediaFile | None:
        entry = self._entries.get(checked_name(name))
        return entry.facts if entry else None

    async def find(self, prefix: str) -> AsyncIterator[MediaFile]:
        checked_prefix(prefix)
        for name in sorted(name for name in self._entries if name.startswith(prefix)):
            yield self._entries[name].facts

    async def delete(self, name: str, *, holder: str = "") -> bool:
        self._check_holder(name, holder)
        return self._entries.pop(name, None) is not None

    async def move(self, name: str, tier: StorageTier, *, holder: str = "") -> bool:
        self._check_holder(name, holder)
        entry = self._entries.get(name)
        if entry is not None:
            entry.facts = replace(entry.facts, tier=tier)
        return entry is not None

    async def lease(self, name: str, holder: str, *, seconds: int) -> bool:
        until = self.clock.now() + checked_lease(seconds)
        entry = self._entries.get(checked_name(name))
        if entry is None or self._holder(name) not in ("", holder):
            return False
        entry.holder, entry.until = holder, until
        return True

    async def release(self, name: str, holder: str) -> bool:
        if self._holder(checked_name(name)) != holder:
            return False
        self._entries[name].holder = ""
        return True

    async def link(self, name: str, now: datetime, *, life: timedelta = LONGEST_LINK) -> str:
        return f"memory:{checked_name(name)}?expires={int((now + checked_life(life)).timestamp())}"

    def _check_holder(self, name: str, holder: str) -> None:
        if self._holder(checked_name(name)) not in ("", holder):
            raise Unavailable("the leased file", after_s=float(LEASE_S[0]))

    def _holder(self, name: str) -> str:
        """Who has the lease now, if anybody."""
        entry = self._entries.get(name)
        is_held = entry is not None and entry.until is not None and self.clock.now() < entry.until
        return entry.holder if entry is not None and is_held else ""
