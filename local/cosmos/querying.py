"""A query over the items of one range of partitions, a page at a time.

A continuation names the last row given, by what it is ordered by, so a page goes on in the right place whatever was
written meanwhile; of rows that are no items (DISTINCT, aggregates) it counts. ORDER BY two keys needs a composite
index.
"""

import base64
import binascii
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import msgspec

from local.cosmos.containers import Item
from local.cosmos.errors import CosmosError
from local.cosmos.evaluating import UNDEFINED, Evaluate, Parameters, compiled, rank, same, sort_key
from local.cosmos.lexing import QueryError
from local.cosmos.parsing import AGGREGATES, Constant, Expression, Member, ObjectOf, Operation, Root, Select, parse
from local.cosmos.partition_keys import split_path

MOST_ITEMS: Final = 1_000  # of a page, where the client does not say


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Any]
    continuation: str | None


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A query and its compiled parts."""

    select: Select
    shape: Evaluate | None
    where: Evaluate | None
    order: tuple[tuple[Evaluate, bool], ...]


class _Row:
    """A row's place in the order: each key with its direction, then the item's number."""

    __slots__ = ("keys", "number")

    def __init__(self, keys: list[tuple[tuple[int, Any], bool]], number: int) -> None:
        self.keys = keys
        self.number = number

    def __lt__(self, other: "_Row") -> bool:
        for (mine, descending), (theirs, _) in zip(self.keys, other.keys, strict=True):
            if mine != theirs:
                return (theirs < mine) if descending else (mine < theirs)
        return self.number < other.number


class _Where(msgspec.Struct, array_like=True):
    """A continuation's content: `given` rows so far; the last row's keys and number where rows are items."""

    given: int
    keys: list[tuple[int, Any]]
    number: int


def run(
    text: str, parameters: Parameters, items: Iterable[Item], policy: Any, limit: int, continuation: str | None
) -> Page:
    """At most `limit` rows. `policy` is the container's indexing policy. Raises CosmosError 400."""
    try:
        prepared = _prepare(text)
        _check_indexes(prepared.select, policy)
        return _page(prepared, parameters, items, limit, _read(continuation))
    except QueryError as error:
        raise CosmosError(400, f"Syntax error: {error}") from None


@lru_cache(maxsize=1_024)
def _prepare(text: str) -> _Prepared:
    select = parse(text)
    aggregates = _aggregates(select)
    shape = None if select.shape is None or aggregates else compiled(select.shape)
    where = compiled(select.where) if select.where is not None else None
    return _Prepared(select, shape, where, tuple((compiled(key), descending) for key, descending in select.order))


def _page(prepared: _Prepared, parameters: Parameters, items: Iterable[Item], limit: int, after: _Where | None) -> Page:
    select, where = prepared.select, prepared.where
    found = [item for item in items if where is None or where(item.document, parameters) is True]
    if aggregates := _aggregates(select):
        return Page(_aggregated(select, aggregates, found, parameters), None)
    ranked = [(_place(prepared, item, parameters), item) for item in found]
    ranked.sort(key=lambda row: row[0])
    first, most = _slice(select, parameters)
    if select.distinct:
        return _counted_page(_distinct(prepared, [item for _, item in ranked], parameters), first, most, limit, after)
    given = after.given if after else 0
    ranked = ranked[first:] if after is None else _following(ranked, after, select)
    rows = ranked[: max(0, min(limit, most - given))]
    shaped = (_shaped(prepared, item, parameters) for _, item in rows)
    page = [row for row in shaped if row is not UNDEFINED]
    if len(ranked) == len(rows) or given + len(rows) >= most:
        return Page(page, None)
    place = rows[-1][0]
    return Page(page, _written(_Where(given + len(rows), [key for key, _ in place.keys], place.number)))


def _following(ranked: list[tuple[_Row, Item]], after: _Where, select: Select) -> list[tuple[_Row, Item]]:
    """The rows after the last one given. Raises CosmosError 400 for a continuation of another query."""
    try:
        directions = [descending for _, descending in select.order]
        last = _Row([(key, down) for key, down in zip(after.keys, directions, strict=True)], after.number)
        return [row for row in ranked if last < row[0]]
    except (ValueError, TypeError):
        raise CosmosError(400, "The continuation token is of another query.") from None


def _place(prepared: _Prepared, item: Item, parameters: Parameters) -> _Row:
    keys = [(sort_key(key(item.document, parameters)), descending) for key, descending in prepared.order]
    return _Row(keys, item.number)


def _shaped(prepared: _Prepared, item: Item, parameters: Parameters) -> Any:
    return item.document if prepared.shape is None else prepared.shape(item.document, parameters)


def _distinct(prepared: _Prepared, items: list[Item], parameters: Parameters) -> list[Any]:
    rows: list[Any] = []
    for item in items:
        row = _shaped(prepared, item, parameters)
        if row is not UNDEFINED and not any(same(row, known) for known in rows):
            rows.append(row)
    return rows


def _counted_page(rows: list[Any], first: int, most: int, limit: int, after: _Where | None) -> Page:
    given = after.given if after else 0
    wanted = rows[first : first + most]
    page = wanted[given : given + limit]
    more = given + len(page) < len(wanted)
    return Page(page, _written(_Where(given + len(page), [], 0)) if more else None)


def _slice(select: Select, parameters: Parameters) -> tuple[int, int]:
    def amount(expression: Expression | None, default: int) -> int:
        value = default if expression is None else compiled(expression)(None, parameters)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise QueryError("TOP, OFFSET and LIMIT take whole numbers")
        return value

    unlimited = 1 << 40
    return amount(select.offset, 0), min(amount(select.limit, unlimited), amount(select.top, unlimited))


# --- aggregates ---


def _aggregates(select: Select) -> list[tuple[str, Operation]]:
    """Of SELECT, with their names (empty for VALUE). Raises QueryError where they are mixed with other columns."""
    shape = select.shape
    if isinstance(shape, Operation) and shape.name in AGGREGATES:
        return [("", shape)]
    if not select.named_aggregates or not isinstance(shape, ObjectOf):
        return []
    found = [(name, part) for name, part in shape.members if isinstance(part, Operation) and part.name in AGGREGATES]
    if len(found) < len(shape.members):
        raise QueryError("aggregates and other columns need GROUP BY, which is not supported here")
    return found


def _aggregated(
    select: Select, aggregates: list[tuple[str, Operation]], items: list[Item], parameters: Parameters
) -> list[Any]:
    results = {name: _aggregate(operation, items, parameters) for name, operation in aggregates}
    if select.named_aggregates:
        return [{name: value for name, value in results.items() if value is not UNDEFINED}]
    return [value for value in results.values() if value is not UNDEFINED]


def _aggregate(operation: Operation, items: list[Item], parameters: Parameters) -> Any:
    if len(operation.arguments) != 1:
        raise QueryError(f"{operation.name} takes one argument")
    argument = compiled(operation.arguments[0])
    values = [value for item in items if (value := argument(item.document, parameters)) is not UNDEFINED]
    if operation.name == "COUNT":
        return len(values)
    if operation.name in ("MIN", "MAX"):
        comparable = [value for value in values if not isinstance(value, list | dict)]
        if not comparable:
            return UNDEFINED
        return (min if operation.name == "MIN" else max)(comparable, key=sort_key)
    if any(rank(value) != rank(0) for value in values):
        return UNDEFINED
    if operation.name == "SUM":
        return sum(values)
    return sum(values) / len(values) if values else UNDEFINED


# --- indexes ---


def _check_indexes(select: Select, policy: Any) -> None:
    """Raises CosmosError 400 where ORDER BY needs a composite index that the container does not have."""
    if len(select.order) < 2:
        return
    wanted = [(_path(key), descending) for key, descending in select.order]
    for index in (policy or {}).get("compositeIndexes", ()):
        have = [(split_path(part["path"]), part.get("order", "ascending") == "descending") for part in index]
        if have == wanted or [(path, not descending) for path, descending in have] == wanted:
            return
    raise CosmosError(
        400, "The order by query does not have a corresponding composite index that it can be served from."
    )


def _path(expression: Expression) -> tuple[str, ...]:
    if isinstance(expression, Member) and isinstance(expression.key, Constant):
        return (*_path(expression.of), str(expression.key.value))
    if isinstance(expression, Root):
        return ()
    raise QueryError("ORDER BY takes properties of the item")


# --- continuations ---


def _written(where: _Where) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(where)).decode()


def _read(continuation: str | None) -> _Where | None:
    """Raises CosmosError 400 for what is no continuation of ours."""
    if continuation is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(continuation), type=_Where)
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError):
        raise CosmosError(400, "Invalid continuation token.") from None


def parameters_of(given: Any) -> Parameters:
    """Of a query's body: [{name, value}]. Raises CosmosError 400."""
    if not isinstance(given, list) or not all(isinstance(one, dict) and {"name", "value"} <= set(one) for one in given):
        raise CosmosError(400, "The parameters of a query are names with values.")
    return {str(one["name"]): one["value"] for one in given}
