"""What an expression of the query language is for an item: closures over its syntax tree.

Values are JSON's and `UNDEFINED`. Comparisons of different types, and arithmetic on what is no number, are undefined;
AND, OR and NOT have three values; WHERE takes an item only where it is true.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from local.cosmos.lexing import QueryError
from local.cosmos.parsing import (
    AGGREGATES,
    ArrayOf,
    Constant,
    Expression,
    Member,
    ObjectOf,
    Operation,
    Parameter,
    Root,
)

Value = Any
Parameters = Mapping[str, Value]
Evaluate = Callable[[Value, Parameters], Value]


class _Undefined:
    def __repr__(self) -> str:
        return "undefined"

    def __bool__(self) -> bool:
        return False


UNDEFINED: Final = _Undefined()
_BOOLEAN, _NUMBER, _STRING = 2, 3, 4


def rank(value: Value) -> int:
    """Where the value's type stands in ORDER BY."""
    if value is UNDEFINED:
        return 0
    if value is None:
        return 1
    if isinstance(value, bool):
        return _BOOLEAN
    if isinstance(value, int | float):
        return _NUMBER
    if isinstance(value, str):
        return _STRING
    return 5 if isinstance(value, list) else 6


def sort_key(value: Value) -> tuple[int, Any]:
    """Of ORDER BY: by type, then by value; arrays and objects of one type are equal."""
    place = rank(value)
    return place, (value if place in (_BOOLEAN, _NUMBER, _STRING) else 0)


def equal(left: Value, right: Value) -> Value:
    """True, False or undefined."""
    if left is UNDEFINED or right is UNDEFINED:
        return UNDEFINED
    return bool(same(left, right))


def same(left: Value, right: Value) -> bool:
    """Whether two JSON values are one: 1 is 1.0 and is not true."""
    if rank(left) != rank(right):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Value, Value], Value]:
    def evaluate(left: Value, right: Value) -> Value:
        if rank(left) != rank(right) or rank(left) not in (_BOOLEAN, _NUMBER, _STRING):
            return UNDEFINED
        return compare(left, right)

    return evaluate


def _negation(value: Value) -> Value:
    return not value if isinstance(value, bool) else UNDEFINED


def _arithmetic(calculate: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def evaluate(left: Value, right: Value) -> Value:
        if rank(left) != _NUMBER or rank(right) != _NUMBER:
            return UNDEFINED
        try:
            return calculate(left, right)
        except (ZeroDivisionError, OverflowError):
            return UNDEFINED

    return evaluate


def _joined(left: Value, right: Value) -> Value:
    return left + right if isinstance(left, str) and isinstance(right, str) else UNDEFINED


def _text(function: Callable[..., Value]) -> Callable[..., Value]:
    """A function of texts: anything else makes it undefined."""
    return lambda *given: function(*given) if all(isinstance(value, str) for value in given) else UNDEFINED


def _array_contains(array: Value, wanted: Value, partial: Value = False) -> Value:
    if not isinstance(array, list) or wanted is UNDEFINED:
        return UNDEFINED
    if partial is True and isinstance(wanted, dict):
        return any(
            isinstance(item, dict) and all(key in item and same(item[key], wanted[key]) for key in wanted)
            for item in array
        )
    return any(same(item, wanted) for item in array)


def _between(value: Value, low: Value, high: Value) -> Value:
    return _all_of([_AT_LEAST(value, low), _AT_MOST(value, high)])


def _one_of(value: Value, *wanted: Value) -> Value:
    return UNDEFINED if value is UNDEFINED else any(same(value, one) for one in wanted)


def _all_of(values: list[Value]) -> Value:
    if any(value is False for value in values):
        return False
    return True if all(value is True for value in values) else UNDEFINED


_AT_LEAST: Final = _ordered(operator.ge)
_AT_MOST: Final = _ordered(operator.le)

# Name -> (function, fewest and most arguments).
_FUNCTIONS: Final[dict[str, tuple[Callable[..., Value], int, int]]] = {
    "=": (equal, 2, 2),
    "!=": (lambda left, right: _negation(equal(left, right)), 2, 2),
    "<": (_ordered(operator.lt), 2, 2),
    "<=": (_AT_MOST, 2, 2),
    ">": (_ordered(operator.gt), 2, 2),
    ">=": (_AT_LEAST, 2, 2),
    "NOT": (_negation, 1, 1),
    "IN": (_one_of, 2, 10_000),
    "BETWEEN": (_between, 3, 3),
    "+": (_arithmetic(operator.add), 2, 2),
    "-": (_arithmetic(operator.sub), 2, 2),
    "*": (_arithmetic(operator.mul), 2, 2),
    "/": (_arithmetic(operator.truediv), 2, 2),
    "%": (_arithmetic(operator.mod), 2, 2),
    "0-": (lambda value: -value if rank(value) == _NUMBER else UNDEFINED, 1, 1),
    "0+": (lambda value: value if rank(value) == _NUMBER else UNDEFINED, 1, 1),
    "||": (_joined, 2, 2),
    "??": (lambda first, second: second if first is UNDEFINED else first, 2, 2),
    "?": (lambda condition, then, other: then if condition is True else other, 3, 3),
    "UNDEFINED": (lambda: UNDEFINED, 0, 0),
    "IS_DEFINED": (lambda value: value is not UNDEFINED, 1, 1),
    "IS_NULL": (lambda value: value is None, 1, 1),
    "IS_STRING": (lambda value: isinstance(value, str), 1, 1),
    "IS_NUMBER": (lambda value: rank(value) == _NUMBER, 1, 1),
    "IS_BOOL": (lambda value: isinstance(value, bool), 1, 1),
    "IS_ARRAY": (lambda value: isinstance(value, list), 1, 1),
    "IS_OBJECT": (lambda value: isinstance(value, dict), 1, 1),
    "STARTSWITH": (_text(str.startswith), 2, 2),
    "ENDSWITH": (_text(str.endswith), 2, 2),
    "CONTAINS": (_text(lambda text, part: part in text), 2, 2),
    "UPPER": (_text(str.upper), 1, 1),
    "LOWER": (_text(str.lower), 1, 1),
    "LENGTH": (_text(len), 1, 1),
    "CONCAT": (_text(lambda *texts: "".join(texts)), 2, 1_000),
    "ABS": (lambda value: abs(value) if rank(value) == _NUMBER else UNDEFINED, 1, 1),
    "ARRAY_CONTAINS": (_array_contains, 2, 3),
    "ARRAY_LENGTH": (lambda value: len(value) if isinstance(value, list) else UNDEFINED, 1, 1),
}


def compiled(expression: Expression) -> Evaluate:
    """The expression as a function of an item and the query's parameters. Raises QueryError for unknown functions, and
    the function does so for unknown parameters."""
    match expression:
        case Constant(value):
            return lambda item, parameters: value
        case Parameter(name):
            return lambda item, parameters: _parameter(name, parameters)
        case Root():
            return lambda item, parameters: item
        case Member(of, key):
            return _member(compiled(of), key)
        case ArrayOf(items):
            parts = [compiled(part) for part in items]
            return lambda item, parameters: [
                value for part in parts if (value := part(item, parameters)) is not UNDEFINED
            ]
        case ObjectOf(members):
            named = [(name, compiled(part)) for name, part in members]
            return lambda item, parameters: {
                name: value for name, part in named if (value := part(item, parameters)) is not UNDEFINED
            }
        case Operation(name, arguments):
            return _operation(name, [compiled(argument) for argument in arguments])


def _parameter(name: str, parameters: Parameters) -> Value:
    if name not in parameters:
        raise QueryError(f"there is no parameter {name}")
    return parameters[name]


def _member(of: Evaluate, key: Expression) -> Evaluate:
    if isinstance(key, Constant) and isinstance(key.value, str):
        name = key.value

        def named(item: Value, parameters: Parameters) -> Value:
            found = of(item, parameters)
            return found.get(name, UNDEFINED) if isinstance(found, dict) else UNDEFINED

        return named
    which = compiled(key)

    def at(item: Value, parameters: Parameters) -> Value:
        found, place = of(item, parameters), which(item, parameters)
        if isinstance(found, dict) and isinstance(place, str):
            return found.get(place, UNDEFINED)
        is_index = isinstance(found, list) and isinstance(place, int) and not isinstance(place, bool)
        return found[place] if is_index and 0 <= place < len(found) else UNDEFINED

    return at


def _operation(name: str, parts: list[Evaluate]) -> Evaluate:
    if name == "AND":
        return _conjunction(parts, False)
    if name == "OR":
        return _conjunction(parts, True)
    if name in AGGREGATES:
        raise QueryError(f"{name} may only stand alone in SELECT")
    function, fewest, most = _FUNCTIONS.get(name, (None, 0, 0))
    if function is None:
        raise QueryError(f"{name} is not a function here")
    if not fewest <= len(parts) <= most:
        raise QueryError(f"{name} takes {fewest} to {most} arguments")
    if len(parts) == 2:
        first, second = parts
        return lambda item, parameters: function(first(item, parameters), second(item, parameters))
    return lambda item, parameters: function(*(part(item, parameters) for part in parts))


def _conjunction(parts: list[Evaluate], decides: bool) -> Evaluate:
    """AND (`decides` False) and OR (True): one deciding part is enough, whatever the others are."""

    def evaluate(item: Value, parameters: Parameters) -> Value:
        known = True
        for part in parts:
            value = part(item, parameters)
            if value is decides:
                return decides
            known = known and isinstance(value, bool)
        return (not decides) if known else UNDEFINED

    return evaluate
