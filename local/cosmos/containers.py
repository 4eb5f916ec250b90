"""A container: its items by partition and id, with ETags, unique keys, expiry, and the order of changes.

Everything here is synchronous, so one event loop sees each operation whole; `atomically` rolls a group of them back.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from local.cosmos.errors import CosmosError
from local.cosmos.evaluating import Evaluate, compiled
from local.cosmos.lexing import QueryError
from local.cosmos.parsing import parse_predicate
from local.cosmos.partition_keys import MISSING, Component, KeyDefinition, found, split_path
from local.cosmos.patching import SYSTEM, patched

LARGEST_ITEM: Final = 2 * 1024 * 1024  # bytes
LONGEST_ID: Final = 1_023
Key = tuple[Component, ...]


@dataclass(slots=True)
class Item:
    """A stored item. `number` is its place by creation, `lsn` that of its last change, `size` that of its JSON in
    bytes."""

    document: dict[str, Any]
    key: Key
    effective: str
    number: int
    lsn: int
    size: int

    @property
    def etag(self) -> str:
        return str(self.document["_etag"])


@dataclass(frozen=True, slots=True)
class Conditions:
    """If-Match and If-None-Match of a request."""

    if_match: str | None = None
    if_none_match: str | None = None


NO_CONDITIONS: Final = Conditions()
Place = tuple[str, str]  # effective partition key, id


class Container:
    """`clock` gives seconds since the epoch; `description` is the container's resource as the service keeps it."""

    def __init__(self, description: dict[str, Any], clock: Callable[[], float]) -> None:
        self.description = description
        self.keys = KeyDefinition.read(description.get("partitionKey"))
        self._clock = clock
        self._partitions: dict[str, dict[str, Item]] = {}
        self._unique: dict[tuple[str, int, str], str] = {}  # partition, policy and values -> id
        self._changes: list[tuple[int, Place]] = []  # by lsn; stale where the item has changed since
        self._undo: list[tuple[Place, Item | None]] | None = None
        self._number = 0
        self._writes = 0
        self.lsn = 0

    @property
    def rid(self) -> str:
        return str(self.description["_rid"])

    @property
    def unique_paths(self) -> list[list[tuple[str, ...]]]:
        policy = self.description.get("uniqueKeyPolicy") or {}
        return [[split_path(path) for path in one["paths"]] for one in policy.get("uniqueKeys", ())]

    # --- reading ---

    def get(self, key: Key, id: str) -> Item:
        """Raises CosmosError 404."""
        item = self._partitions.get(self.keys.effective(key), {}).get(id)
        if item is None or self._has_expired(item):
            raise CosmosError(404, "Entity with the specified id does not exist in the system.")
        return item

    def items(self, low: str = "", high: str = "FF") -> Iterator[Item]:
        """The items of a range of effective keys, in no particular order."""
        ranges = [low] if high == low + "\0" else [part for part in self._partitions if low <= part < high]
        for part in ranges:
            for item in list(self._partitions.get(part, {}).values()):
                if not self._has_expired(item):
                    yield item

    def changes(self, after: int, low: str, high: str, limit: int) -> tuple[list[Item], int]:
        """Items changed after that lsn, in the order of their last change, and the lsn to go on after. All changes of
        one batch, which share their lsn, come together."""
        changed: list[Item] = []
        last = after
        for lsn, place in self._changes[bisect_right(self._changes, after, key=lambda change: change[0]) :]:
            if len(changed) >= limit and lsn > last:
                return changed, last
            last = lsn
            item = self._partitions.get(place[0], {}).get(place[1])
            if item is not None and item.lsn == lsn and low <= place[0] < high and not self._has_expired(item):
                changed.append(item)
        return changed, max(last, self.lsn)

    def _has_expired(self, item: Item) -> bool:
        default = self.description.get("defaultTtl")
        if default is None:
            return False
        seconds = item.document.get("ttl", default)
        return bool(seconds != -1 and self._clock() >= item.document["_ts"] + seconds)

    # --- writing ---

    def create(self, key: Key, document: dict[str, Any]) -> Item:
        """Raises CosmosError 400, 409, 413."""
        place = self._checked(key, document)
        if self._living(place) is not None:
            raise CosmosError(409, "Entity with the specified id already exists in the system.")
        return self._store(key, place, document)

    def upsert(self, key: Key, document: dict[str, Any], conditions: Conditions = NO_CONDITIONS) -> tuple[Item, bool]:
        """The item, and whether it is new. Raises CosmosError 400, 409, 412, 413."""
        place = self._checked(key, document)
        known = self._living(place)
        if known is not None:
            _check(known, conditions)
        return self._store(key, place, document), known is None

    def replace(self, key: Key, id: str, document: dict[str, Any], conditions: Conditions = NO_CONDITIONS) -> Item:
        """Raises CosmosError 400, 404, 409, 412, 413."""
        place = self._checked(key, document)
        if document["id"] != id:
            raise CosmosError(400, "The id of an item does not change.")
        _check(self.get(key, id), conditions)
        return self._store(key, place, document)

    def delete(self, key: Key, id: str, conditions: Conditions = NO_CONDITIONS) -> None:
        """Raises CosmosError 404, 412."""
        _check(self.get(key, id), conditions)
        self._put((self.keys.effective(key), id), None)
        self._next_lsn()

    def patch(self, key: Key, id: str, body: Any, conditions: Conditions = NO_CONDITIONS) -> Item:
        """`body` is {operations, condition?}. Raises CosmosError 400, 404, 412, 413."""
        if not isinstance(body, dict):
            raise CosmosError(400, "A patch is an object with operations.")
        item = self.get(key, id)
        _check(item, conditions)
        if body.get("condition") is not None and not _holds(body["condition"], item.document):
            raise CosmosError(412, "The condition of the patch is not met.", substatus=1110)
        fixed = frozenset({"id", *(path[0] for path in self.keys.paths if len(path) == 1)})
        changed = patched(item.document, body.get("operations"), fixed)
        return self._store(key, self._checked(key, changed), changed)

    @contextmanager
    def atomically(self) -> Iterator[None]:
        """All that is written inside has one lsn, or is undone where an exception leaves the block."""
        before = self.lsn
        self.lsn += 1
        self._undo = []
        try:
            yield
        except BaseException:
            for place, item in reversed(self._undo):
                self._restore(place, item)
            self.lsn = before
            del self._changes[bisect_right(self._changes, before, key=lambda change: change[0]) :]
            raise
        finally:
            self._undo = None

    def _checked(self, key: Key, document: dict[str, Any]) -> Place:
        id = document.get("id")
        if not isinstance(id, str) or not id or len(id) > LONGEST_ID or any(sign in id for sign in "/\\?#"):
            raise CosmosError(400, "An item needs an id of at most 1,023 characters without / \\ ? #.")
        if _typed(self.keys.of(document)) != _typed(key):
            raise CosmosError(
                400,
                "PartitionKey extracted from document doesn't match the one specified in the header.",
                substatus=1001,
            )
        ttl = document.get("ttl")
        if ttl is not None and (not isinstance(ttl, int) or isinstance(ttl, bool) or (ttl < 1 and ttl != -1)):
            raise CosmosError(400, "The ttl of an item is -1 or a number of seconds of at least 1.")
        return self.keys.effective(key), id

    def _living(self, place: Place) -> Item | None:
        item = self._partitions.get(place[0], {}).get(place[1])
        return item if item is not None and not self._has_expired(item) else None

    def _store(self, key: Key, place: Place, given: dict[str, Any]) -> Item:
        known = self._living(place)
        self._number += known is None
        lsn = self._next_lsn()
        number = known.number if known else self._number
        rid = f"{self.rid}-{number:012x}"
        document = {name: value for name, value in given.items() if name not in SYSTEM}
        size = len(msgspec.json.encode(document))
        if size > LARGEST_ITEM:
            raise CosmosError(413, "Request size is too large: an item is at most 2 MB.")
        system = {
            "_rid": rid,
            "_self": f"dbs/{self.rid}/docs/{rid}/",
            "_etag": f'"{self._writes:016x}"',
            "_attachments": "attachments/",
            "_ts": int(self._clock()),
        }
        item = Item({**document, **system}, key, place[0], number, lsn, size)
        self._claim_unique(place, item)
        self._put(place, item)
        self._changes.append((lsn, place))
        if self._undo is None and len(self._changes) > 4 * (self._number + 1_000):
            self._forget_stale_changes()
        return item

    def _next_lsn(self) -> int:
        """One for all changes of a batch."""
        self._writes += 1
        if self._undo is None:
            self.lsn += 1
        return self.lsn

    def _claim_unique(self, place: Place, item: Item) -> None:
        for claim in self._claims(place, item):
            holder = self._unique.get(claim)
            if holder is not None and holder != place[1] and self._living((place[0], holder)) is not None:
                raise CosmosError(409, "Unique index constraint violation.")

    def _claims(self, place: Place, item: Item) -> list[tuple[str, int, str]]:
        """An absent value counts as null, and is unique too."""
        values = [[found(item.document, path) for path in paths] for paths in self.unique_paths]
        named = [[None if value is MISSING else value for value in one] for one in values]
        return [(place[0], number, json.dumps(one, sort_keys=True)) for number, one in enumerate(named)]

    def _put(self, place: Place, item: Item | None) -> None:
        if self._undo is not None:
            self._undo.append((place, self._partitions.get(place[0], {}).get(place[1])))
        self._restore(place, item)

    def _restore(self, place: Place, item: Item | None) -> None:
        partition = self._partitions.setdefault(place[0], {})
        former = partition.pop(place[1], None)
        if former is not None:
            for claim in self._claims(place, former):
                if self._unique.get(claim) == place[1]:
                    del self._unique[claim]
        if item is not None:
            partition[place[1]] = item
            for claim in self._claims(place, item):
                self._unique[claim] = place[1]
        if not partition:
            del self._partitions[place[0]]

    def _forget_stale_changes(self) -> None:
        def is_current(change: tuple[int, Place]) -> bool:
            item = self._partitions.get(change[1][0], {}).get(change[1][1])
            return item is not None and item.lsn == change[0]

        self._changes = [change for change in self._changes if is_current(change)]


def _typed(key: Key) -> list[tuple[type, Component]]:
    return [(float if isinstance(part, int) and not isinstance(part, bool) else type(part), part) for part in key]


def _check(item: Item, conditions: Conditions) -> None:
    if conditions.if_match not in (None, "*", item.etag):
        raise CosmosError(412, "Operation cannot be performed because one of the specified precondition is not met.")


def _holds(condition: Any, document: dict[str, Any]) -> bool:
    if not isinstance(condition, str):
        raise CosmosError(400, "The condition of a patch is a text.")
    try:
        return _predicate(condition)(document, {}) is True
    except QueryError as error:
        raise CosmosError(400, f"The condition of the patch cannot be read: {error}") from None


@lru_cache(maxsize=1_024)
def _predicate(text: str) -> Evaluate:
    return compiled(parse_predicate(text))
