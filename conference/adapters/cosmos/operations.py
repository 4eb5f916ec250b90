"""Operations of a transactional batch, and the conditions of patches."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from conference.adapters.cosmos.client import Document, Operation


def create(document: Document) -> Operation:
    return ("create", (document,))


def delete(id: str) -> Operation:
    return ("delete", (id,))


def replace(document: Document, etag: str) -> Operation:
    """Where it still is as it was read."""
    return ("replace", (document["id"], document), {"if_match_etag": etag})


def patch(
    id: str,
    *,
    set: Mapping[str, Any] | None = None,
    add: Mapping[str, int] | None = None,
    remove: tuple[str, ...] = (),
    where: str = "",
    etag: str | None = None,
) -> Operation:
    """`set` and `remove` properties, `add` to numbers; only where the item meets `where` or still has that `etag`."""
    changes = [
        *({"op": "set", "path": f"/{path}", "value": value} for path, value in (set or {}).items()),
        *({"op": "incr", "path": f"/{path}", "value": value} for path, value in (add or {}).items()),
        *({"op": "remove", "path": f"/{path}"} for path in remove),
    ]
    conditions: dict[str, str] = {}
    if where:
        conditions["filter_predicate"] = f"FROM c WHERE {where}"
    if etag is not None:
        conditions["if_match_etag"] = etag
    return ("patch", (id, changes), conditions)


def one_of(ids: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The condition of a query that an item's id is one of these, and its parameters: as IN, which the index serves."""
    given = {f"id{number}": id for number, id in enumerate(ids)}
    return f"c.id IN ({', '.join(f'@{name}' for name in given)})", given


def literal(value: str | int) -> str:
    """A value as it stands in a condition, which takes no parameters."""
    return json.dumps(value)
