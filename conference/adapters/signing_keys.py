"""ES256 signing keys: one set that all processes of an installation share, and its rotation.

A new key is published at least ten minutes before it signs, so that every verifier has met it by then; the key before
it stays published until the last token that it signed has ended. One key waits at a time: rotating again meanwhile
gives that same key, so timers that fire on several instances agree. In Azure the vault keeps the set; on one machine
it is a folder (POSIX locks), one PEM a key beside an index, and processes notice a change by the index's file stamp.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from conference.adapters import disk, jws
from conference.domain.claims import LONGEST_LIFETIME
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret
from conference.ports.clock import Ids
from conference.ports.tokens import SigningKey

LEAD: Final = timedelta(minutes=10)  # from publishing a key to its first use
MARGIN: Final = timedelta(minutes=1)  # for clocks that differ
_INDEX: Final = "keys.json"
_LOCK: Final = ".lock"
_WHAT: Final = "the signing keys"

KeySet = tuple[SigningKey, ...]


def published(keys: Sequence[SigningKey], now: datetime) -> KeySet:
    """The keys that verifiers must know."""
    return tuple(key for key in keys if key.retire_at is None or now < key.retire_at)


def current(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """The newest key whose time has come; None where there is none."""
    live = published(keys, now)
    ready = [key for key in live if key.use_from <= now]
    if ready:
        return max(ready, key=lambda key: key.use_from)
    return min(live, key=lambda key: key.use_from, default=None)  # the clock was set back: better early than none


def first(keys: Sequence[SigningKey], fresh: SigningKey, now: datetime) -> KeySet:
    """The set with a key that may sign at once, as nobody has read the set before."""
    return (*published(keys, now), replace(fresh, published_at=now, use_from=now))


def rotated(keys: Sequence[SigningKey], fresh: SigningKey, now: datetime) -> KeySet:
    """The set with `fresh` waiting for its first use, and an end for the keys before it. Keys past theirs are gone."""
    begins = now + LEAD
    ends = begins + LONGEST_LIFETIME + MARGIN
    ageing = (key if key.retire_at else replace(key, retire_at=ends) for key in published(keys, now))
    return (*ageing, replace(fresh, published_at=now, use_from=begins))


def waiting(keys: Sequence[SigningKey], now: datetime) -> SigningKey | None:
    """The key that is published and does not sign yet."""
    return next((key for key in published(keys, now) if key.use_from > now), None)


def fresh_key(ids: Ids, now: datetime) -> SigningKey:
    return SigningKey(kid=ids.new(), pem=jws.generate_pem(), published_at=now, use_from=now, retire_at=None)


def entry_of(key: SigningKey) -> dict[str, str | None]:
    """What a stored set says of the key besides its PEM."""
    return {
        "kid": key.kid,
        "publishedAt": key.published_at.isoformat(),
        "useFrom": key.use_from.isoformat(),
        "retireAt": key.retire_at.isoformat() if key.retire_at else None,
    }


def key_of(entry: Mapping[str, Any], pem: Secret) -> SigningKey:
    """The key of such an entry. Raises ValueError, KeyError or TypeError for what is none, or whose PEM is damaged."""
    kid, retire_at = str(entry["kid"]), entry["retireAt"]
    jws.public_jwk(kid, pem)  # a damaged PEM shows here, not in the middle of a join
    return SigningKey(
        kid=kid,
        pem=pem,
        published_at=datetime.fromisoformat(str(entry["publishedAt"])),
        use_from=datetime.fromisoformat(str(entry["useFrom"])),
        retire_at=datetime.fromisoformat(str(retire_at)) if retire_at else None,
    )


class MemorySigningKeys:
    """The set of one process. Implements the port `SigningKeys`."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids
        self._keys: KeySet = ()

    async def current(self, now: datetime) -> SigningKey:
        key = current(self._keys, now)
        if key is None:
            self._keys = first(self._keys, fresh_key(self._ids, now), now)
            key = self._keys[-1]
        return key

    async def published(self, now: datetime) -> KeySet:
        return published(self._keys, now)

    async def rotate(self, now: datetime) -> SigningKey:
        await self.current(now)
        key = waiting(self._keys, now)
        if key is None:
            self._keys = rotated(self._keys, fresh_key(self._ids, now), now)
            key = self._keys[-1]
        return key


class FileSigningKeys:
    """The set in `folder`, shared by the processes of a machine. Implements the port `SigningKeys`.

    Raises Unavailable (not retryable) where the folder cannot be read or written, or its index is damaged: a set that
    is silently made anew would end every session.
    """

    def __init__(self, folder: Path, ids: Ids) -> None:
        self._folder, self._ids = folder, ids
        self._keys: KeySet = ()
        self._stamp: tuple[int, int, int] | None = None

    async def current(self, now: datetime) -> SigningKey:
        key = current(await self._known(), now)
        return key if key is not None else await disk.in_thread(_WHAT, lambda: self._make_first(now))

    async def published(self, now: datetime) -> KeySet:
        return published(await self._known(), now)

    async def rotate(self, now: datetime) -> SigningKey:
        await self.current(now)
        return await disk.in_thread(_WHAT, lambda: self._rotate(now))

    async def _known(self) -> KeySet:
        if self._index_stamp() != self._stamp:
            await disk.in_thread(_WHAT, self._load)
        return self._keys

    def _index_stamp(self) -> tuple[int, int, int] | None:
        """Tells one written index from the next; each is a new file."""
        try:
            found = (self._folder / _INDEX).stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Unavailable(_WHAT, retryable=False, after_s=None) from error
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _make_first(self, now: datetime) -> SigningKey:
        with disk.locked(self._folder / _LOCK):
            keys = self._load()
            key = current(keys, now)  # another process may have been faster
            if key is None:
                keys = self._store(first(keys, fresh_key(self._ids, now), now))
                key = keys[-1]
            return key

    def _rotate(self, now: datetime) -> SigningKey:
        with disk.locked(self._folder / _LOCK):
            keys = self._load()
            key = waiting(keys, now)
            if key is None:
                keys = self._store(rotated(keys, fresh_key(self._ids, now), now))
                key = keys[-1]
            return key

    def _load(self) -> KeySet:
        stamp = self._index_stamp()
        if stamp is None:
            keys: KeySet = ()
        else:
            try:
                entries = json.loads((self._folder / _INDEX).read_text(encoding="utf-8"))["keys"]
                keys = tuple(self._key(entry) for entry in entries)
            except (OSError, ValueError, KeyError, TypeError) as error:
                if self._index_stamp() != stamp:  # written meanwhile, and a key that it no longer names is gone
                    return self._load()
                raise Unavailable(_WHAT, retryable=False, after_s=None) from error
        self._keys, self._stamp = keys, stamp
        return keys

    def _key(self, entry: Mapping[str, Any]) -> SigningKey:
        return key_of(entry, Secret((self._folder / f"{entry['kid']}.pem").read_text(encoding="ascii")))

    def _store(self, keys: KeySet) -> KeySet:
        """Keys first, then the index that names them, then the files that it no longer names are removed."""
        kept = {f"{key.kid}.pem" for key in keys}
        for key in keys:
            if not (self._folder / f"{key.kid}.pem").exists():
                disk.replace(self._folder / f"{key.kid}.pem", key.pem.reveal().encode())
        entries = [entry_of(key) for key in keys]
        disk.replace(self._folder / _INDEX, json.dumps({"keys": entries}, indent=1).encode())
        for file in self._folder.glob("*.pem"):
            if file.name not in kept:
                file.unlink(missing_ok=True)
        self._keys, self._stamp = keys, self._index_stamp()
        return keys
