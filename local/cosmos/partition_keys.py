"""Partition keys: read from items and headers, and hashed to the effective key by which a range of them is asked for.

The hash is the one that the service's clients make themselves (`azure.cosmos`), so ranges that a client computes, those
of a prefix of a hierarchical key among them, mean the same here.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec
from azure.cosmos.partition_key import PartitionKey, _Undefined

from local.cosmos.errors import CosmosError

MOST_PATHS: Final = 3
_LONGEST: Final = 2_048  # bytes of a text in a key


class _Missing:
    """A component that the item does not have."""


MISSING: Final = _Missing()
Component = str | int | float | bool | None | _Missing


@dataclass(frozen=True, slots=True)
class KeyDefinition:
    """The paths of a container, split into names; `kind` is Hash or MultiHash, `version` of the hash 1 or 2."""

    paths: tuple[tuple[str, ...], ...]
    kind: str
    version: int

    @classmethod
    def read(cls, given: Any) -> "KeyDefinition":
        """From a container's description. Raises CosmosError 400."""
        paths = given.get("paths") if isinstance(given, dict) else None
        if not isinstance(paths, list) or not all(
            isinstance(p, str) and p.startswith("/") and len(p) > 1 for p in paths
        ):
            raise CosmosError(400, "The partition key needs paths that begin with a slash.")
        kind, version = given.get("kind", "Hash"), given.get("version", 1)
        most = MOST_PATHS if kind == "MultiHash" else 1
        if kind not in ("Hash", "MultiHash") or not 1 <= len(paths) <= most or version not in (1, 2):
            raise CosmosError(400, "The partition key's kind, version or number of paths is not valid.")
        return cls(tuple(split_path(path) for path in paths), kind, version)

    def of(self, item: dict[str, Any]) -> tuple[Component, ...]:
        """The key of an item. Raises CosmosError 400 where a component is an array or object."""
        return tuple(_component(found(item, path)) for path in self.paths)

    def header(self, text: str) -> tuple[Component, ...]:
        """The key of the header x-ms-documentdb-partitionkey. Raises CosmosError 400."""
        try:
            given = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            given = None
        if not isinstance(given, list) or not 1 <= len(given) <= len(self.paths):
            raise CosmosError(400, "The partition key header is not a list of this container's components.")
        return tuple(MISSING if part == {} else _component(part) for part in given)

    def is_whole(self, key: Sequence[Component]) -> bool:
        return len(key) == len(self.paths)

    def effective(self, key: tuple[Component, ...]) -> str:
        """The hash of a key, or of the first components of a hierarchical one, in hex."""
        return _effective(self, tuple((type(part), part) for part in key))

    def bounds(self, key: tuple[Component, ...]) -> tuple[str, str]:
        """First effective key, and the first one after: of one key, or of all with that prefix."""
        low = self.effective(key)
        return low, low + ("\0" if self.is_whole(key) else "FF")


@lru_cache(maxsize=65_536)
def _effective(definition: KeyDefinition, typed: tuple[tuple[type, Component], ...]) -> str:
    """The types are part of the cache's key: True is 1 for Python."""
    parts: list[Any] = [_Undefined() if isinstance(part, _Missing) else part for _, part in typed]
    paths = ["/" + "/".join(path) for path in definition.paths]
    key = (
        PartitionKey(path=paths, kind="MultiHash")
        if definition.kind == "MultiHash"
        else PartitionKey(path=paths[0], version=definition.version)
    )
    return str(key._get_effective_partition_key_string(parts))


def _component(value: Any) -> Component:
    if isinstance(value, str) and len(value.encode("utf-8", "surrogatepass")) > _LONGEST:
        raise CosmosError(400, "A partition key is longer than 2,048 bytes.")
    if isinstance(value, int | float) and abs(value) > sys.float_info.max:
        raise CosmosError(400, "A partition key is a number that is out of range.")
    if isinstance(value, str | int | float | bool | _Missing) or value is None:
        return value
    raise CosmosError(400, "A partition key is a text, a number, a boolean or null.", substatus=1001)


def split_path(path: str) -> tuple[str, ...]:
    """Of a path such as /a/"b/c"/d, the names."""
    return tuple(part.strip('"') for part in path.strip("/").split("/"))


def found(item: Any, path: Sequence[str]) -> Any:
    """The value there, MISSING where there is none."""
    for name in path:
        if not isinstance(item, dict) or name not in item:
            return MISSING
        item = item[name]
    return item
