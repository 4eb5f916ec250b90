"""Partial updates: the six operations of a patch, at most ten at once, on a copy of the item."""

from typing import Any, Final

import msgspec

from local.cosmos.errors import CosmosError

MOST_OPERATIONS: Final = 10
SYSTEM: Final = frozenset({"_rid", "_self", "_etag", "_ts", "_attachments"})


def patched(item: dict[str, Any], operations: Any, fixed: frozenset[str]) -> dict[str, Any]:
    """The item after the operations; `fixed` are first names that no patch may touch. Raises CosmosError 400."""
    if not isinstance(operations, list) or not operations:
        raise CosmosError(400, "A patch needs operations.")
    if len(operations) > MOST_OPERATIONS:
        raise CosmosError(400, f"The number of patch operations can't exceed '{MOST_OPERATIONS}'.")
    result: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(item))
    for operation in operations:
        if not isinstance(operation, dict):
            raise CosmosError(400, "A patch operation is an object.")
        _apply(result, operation, fixed)
    return result


def _apply(item: dict[str, Any], operation: dict[str, Any], fixed: frozenset[str]) -> None:
    path = _path(operation.get("path"), fixed)
    parent, name = _parent(item, path), path[-1]
    match operation.get("op"):
        case "add":
            _set(parent, name, _value(operation), insert=True)
        case "set":
            _set(parent, name, _value(operation), insert=False)
        case "replace":
            _get(parent, name)
            _set(parent, name, _value(operation), insert=False)
        case "remove":
            _remove(parent, name)
        case "incr":
            _increment(parent, name, _value(operation))
        case "move":
            source = _path(operation.get("from"), fixed)
            if path[: len(source)] == source:
                raise CosmosError(400, "A value cannot move into itself.")
            origin = _parent(item, source)
            value = _get(origin, source[-1])
            _remove(origin, source[-1])
            _set(_parent(item, path), name, value, insert=True)
        case _:
            raise CosmosError(400, "The patch operation is not one of add, set, replace, remove, incr and move.")


def _path(given: Any, fixed: frozenset[str]) -> list[str]:
    if not isinstance(given, str) or not given.startswith("/") or len(given) < 2:
        raise CosmosError(400, "A patch operation needs a path that begins with a slash.")
    path = [part.replace("~1", "/").replace("~0", "~") for part in given[1:].split("/")]
    if path[0] in fixed or path[0] in SYSTEM:
        raise CosmosError(400, f"/{path[0]} cannot be patched.")
    return path


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise CosmosError(400, "A patch operation lacks its value.")
    return operation["value"]


def _parent(item: Any, path: list[str]) -> Any:
    for name in path[:-1]:
        item = _get(item, name)
    if not isinstance(item, dict | list):
        raise CosmosError(400, f"There is no object or array above /{'/'.join(path)}.")
    return item


def _index(array: list[Any], name: str, *, most: int) -> int:
    if not name.isdecimal() or not name.isascii() or len(name) > 9 or int(name) > most:
        raise CosmosError(400, "There is no such place in the array.")
    return int(name)


def _get(parent: Any, name: str) -> Any:
    if isinstance(parent, list):
        return parent[_index(parent, name, most=len(parent) - 1)]
    if not isinstance(parent, dict) or name not in parent:
        raise CosmosError(400, f"The path of a patch operation does not exist: {name}")
    return parent[name]


def _set(parent: Any, name: str, value: Any, *, insert: bool) -> None:
    if isinstance(parent, dict):
        parent[name] = value
    elif name == "-":
        parent.append(value)
    elif insert:
        parent.insert(_index(parent, name, most=len(parent)), value)
    else:
        parent[_index(parent, name, most=len(parent) - 1)] = value


def _remove(parent: Any, name: str) -> None:
    _get(parent, name)
    if isinstance(parent, list):
        del parent[int(name)]
    else:
        del parent[name]


def _increment(parent: Any, name: str, by: Any) -> None:
    before = parent.get(name, 0) if isinstance(parent, dict) else _get(parent, name)
    for number in (before, by):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise CosmosError(400, "incr needs numbers.")
    _set(parent, name, before + by, insert=False)
