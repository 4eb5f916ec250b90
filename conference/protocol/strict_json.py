"""JSON from strangers, read strictly: one meaning or none.

`json.loads` lets a later duplicate of a name win, and takes NaN, lone surrogates and any depth. Two readers that differ
in such a point are how a check is passed with one value and used with another, so tokens, key sets and the bodies of
REST are read here.
"""

import json
from typing import NoReturn


class DuplicateName(ValueError):
    """An object names a member twice (RFC 8259 4 leaves open which one counts)."""


def loads(content: bytes) -> object:
    """The value of a UTF-8 text. Raises DuplicateName, and ValueError for everything else that is wrong."""
    try:
        value: object = json.loads(
            content.decode("utf-8", "strict"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
        json.dumps(value, ensure_ascii=False).encode("utf-8", "strict")  # a lone surrogate fails here, not later
    except RecursionError:
        raise ValueError("nested too deep") from None
    return value


def loads_object(content: bytes) -> dict[str, object]:
    """As `loads`, for a text that has to be an object."""
    value = loads(content)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise DuplicateName("an object names a member twice")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
