"""Port `SigningKeys` for many machines: one sealed document, which all instances read and whoever is first rewrites.

A key ring (in Azure a vault) unwraps the keys when they are first met; from then on they sign in memory, and neither
the vault nor the document has to answer. The document is looked at again each minute, a tenth of the time between a new
key's publication and its first use.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

from conference.adapters.envelope import seal, unseal
from conference.adapters.signing_keys import (
    KeySet,
    current,
    entry_of,
    first,
    fresh_key,
    key_of,
    published,
    rotated,
    waiting,
)
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret
from conference.ports.clock import Ids
from conference.ports.keys import KeyRing
from conference.ports.tokens import SigningKey

log = logging.getLogger(__name__)
REFRESH: Final = timedelta(minutes=1)
REFRESH_LIMIT_S: Final = 5.0  # that a caller waits for it, once a minute, while the document or the ring hangs
_TRIES: Final = 5  # to write; each is lost only to another instance that wrote
_WHAT: Final = "the signing keys"
Change = Callable[[KeySet], KeySet]


class Document(Protocol):
    """A small document that changes under an ETag. Raises Unavailable."""

    async def read(self) -> tuple[bytes, str] | None:
        """Its bytes and their tag; None where it was never written."""
        ...

    async def write(self, body: bytes, tag: str | None) -> str | None:
        """Replaces what has this tag (None: where there is nothing). The new tag; None where it changed meanwhile."""
        ...


class SealedSigningKeys:
    """Raises Unavailable: retryable where the document or the ring is away before any key is known, not retryable
    where the document is damaged, for a set that is silently made anew would end every session."""

    def __init__(self, document: Document, ring: KeyRing, ids: Ids) -> None:
        self._document, self._ring, self._ids = document, ring, ids
        self._keys: KeySet = ()
        self._sealed: dict[str, Mapping[str, object]] = {}  # by kid, as they lie in the document
        self._tag: str | None = None
        self._read_at: datetime | None = None
        self._lock = asyncio.Lock()

    async def current(self, now: datetime) -> SigningKey:
        key = current(await self._known(now), now)
        if key is None:
            key = current(await self._changed(now, self._first(now), lambda keys: current(keys, now)), now)
        if key is None:
            raise Unavailable(_WHAT)
        return key

    async def published(self, now: datetime) -> KeySet:
        return published(await self._known(now), now)

    async def rotate(self, now: datetime) -> SigningKey:
        await self.current(now)
        key = waiting(await self._changed(now, self._rotated(now), lambda keys: waiting(keys, now)), now)
        if key is None:
            raise Unavailable(_WHAT)
        return key

    def _first(self, now: datetime) -> Change:
        fresh = fresh_key(self._ids, now)
        return lambda keys: first(keys, fresh, now)

    def _rotated(self, now: datetime) -> Change:
        fresh = fresh_key(self._ids, now)
        return lambda keys: rotated(keys, fresh, now)

    async def _known(self, now: datetime) -> KeySet:
        """As read within the last minute; while the document or the ring is away, or another caller is asking them, as
        known before."""
        if self._is_recent(now) or (self._keys and self._lock.locked()):
            return self._keys
        async with self._lock:
            if not self._is_recent(now):
                try:
                    async with asyncio.timeout(REFRESH_LIMIT_S if self._keys else None):
                        await self._load()
                except (Unavailable, TimeoutError):
                    if not self._keys:
                        raise
                    log.warning("the signing keys cannot be read again; the known ones go on signing")
                self._read_at = now
        return self._keys

    def _is_recent(self, now: datetime) -> bool:
        return bool(self._keys) and self._read_at is not None and abs(now - self._read_at) < REFRESH

    async def _changed(self, now: datetime, change: Change, is_done: Callable[[KeySet], SigningKey | None]) -> KeySet:
        """The set after the change, or as another instance has changed it so that `is_done` gives a key."""
        async with self._lock:
            for _ in range(_TRIES):
                await self._load()
                if is_done(self._keys) is not None or await self._store(change(self._keys)):
                    self._read_at = now
                    return self._keys
        raise Unavailable(_WHAT)

    async def _load(self) -> None:
        found = await self._document.read()
        if found is None:
            if self._tag is not None:
                log.error("the document of the signing keys is gone")
                raise Unavailable(_WHAT, retryable=False, after_s=None)
            return
        body, tag = found
        if tag == self._tag:
            return
        try:
            entries = json.loads(body)["keys"]
            known = {key.kid: key for key in self._keys}
            keys = [await self._key(entry, known) for entry in entries]
            sealed = {str(entry["kid"]): entry["sealed"] for entry in entries}
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            log.error("the document of the signing keys is damaged")
            raise Unavailable(_WHAT, retryable=False, after_s=None) from error
        self._keys, self._sealed, self._tag = tuple(keys), sealed, tag

    async def _key(self, entry: Mapping[str, Any], known: Mapping[str, SigningKey]) -> SigningKey:
        kid = str(entry["kid"])
        if kid in known and entry["sealed"] == self._sealed.get(kid):
            return key_of(entry, known[kid].pem)
        return key_of(entry, Secret((await unseal(self._ring, entry["sealed"], _purpose(kid))).decode("ascii")))

    async def _store(self, keys: KeySet) -> bool:
        """False where another instance has written meanwhile."""
        entries, sealed = [], {}
        for key in keys:
            sealed[key.kid] = self._sealed.get(key.kid) or await seal(
                self._ring, key.pem.reveal().encode("ascii"), _purpose(key.kid)
            )
            entries.append({**entry_of(key), "sealed": sealed[key.kid]})
        tag = await self._document.write(json.dumps({"keys": entries}, indent=1).encode(), self._tag)
        if tag is None:
            return False
        self._keys, self._sealed, self._tag = keys, sealed, tag
        return True


def _purpose(kid: str) -> str:
    return f"signing-key:{kid}"
