"""The checked-in OpenAPI document as a source of requests and as the judge of answers, for property tests.

`bodies` gives a strategy of what an operation's schema allows, over ids that exist; `fault_of` says what an answer has
that the document does not promise. Only the JSON Schema words that our document uses are known; another is an error.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from hypothesis import strategies as st
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

DOCUMENT: Final[dict[str, Any]] = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
OPERATIONS: Final = [
    (method.upper(), path, operation)
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
Ids = Mapping[str, Sequence[str]]  # by the name of the member or parameter that takes them
TEXTS: Final = st.text(max_size=40) | st.sampled_from(
    ["\0", "a\0b", "é" * 500, "\u202e", "' OR 1=1 --", "../..", "%00"]
)
TIMES: Final = st.sampled_from(
    ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00.000001+23:59", "2026-01-01t09:00:00z"]
) | st.datetimes().map(lambda moment: moment.isoformat() + "Z")
WILD: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema that a reference leads to."""
    if "$ref" not in schema:
        return schema
    target: dict[str, Any] = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return target


def values(schema: dict[str, Any], ids: Ids, name: str = "") -> st.SearchStrategy[Any]:
    """What the schema allows; an id, and what else `ids` has under the member's name, is mostly one of those."""
    schema = resolved(schema)
    if "anyOf" in schema:
        return st.one_of([values(choice, ids, name) for choice in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    match schema["type"]:
        case "object":
            members = {name: values(member, ids, name) for name, member in schema["properties"].items()}
            required = {name: members.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(required, optional=members)
        case "array":
            most = min(schema.get("maxItems", 3), 8)
            return st.lists(values(schema["items"], ids, name), min_size=schema.get("minItems", 0), max_size=most)
        case "integer":
            any_number = st.integers(schema.get("minimum"), schema.get("maximum"))
            return st.sampled_from([int(known) for known in ids[name]]) | any_number if name in ids else any_number
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "string":
            return _texts(schema, ids, name)
        case other:
            raise ValueError(f"no strategy for {other}")


def _texts(schema: dict[str, Any], ids: Ids, name: str) -> st.SearchStrategy[str]:
    if schema.get("format") == "uuid":
        return st.sampled_from(ids[name]) if ids.get(name) else st.uuids().map(str)
    if schema.get("format") == "date-time":
        return TIMES
    if name in ids:
        return st.sampled_from(ids[name]) | st.text(max_size=60)
    if "pattern" in schema:
        return st.from_regex(schema["pattern"], fullmatch=True)
    return st.text(min_size=schema.get("minLength", 0), max_size=min(schema.get("maxLength", 60), 60))


def bodies(operation: dict[str, Any], ids: Ids) -> st.SearchStrategy[Any]:
    """Bodies as documented, and with one member that is anything; None where the operation takes none."""
    if "requestBody" not in operation:
        return st.none()
    sound = values(operation["requestBody"]["content"]["application/json"]["schema"], ids)
    return sound | st.builds(_with, sound, TEXTS | st.sampled_from(["settings", "userId", "role"]), WILD)


def _with(body: Any, member: str, value: Any) -> Any:
    if not isinstance(body, dict) or not body:
        return value
    return body | {(member if member in body else next(iter(body))): value}


def fault_of(operation: dict[str, Any], status: int, content_type: str, content: bytes) -> str | None:
    """What is not as the document says; None for an answer that is."""
    promised = operation["responses"].get(str(status))
    if promised is None:
        return f"status {status} is not documented"
    if "content" not in promised:
        return "there is no content at this status" if content else None
    media_type = content_type.partition(";")[0]
    if media_type not in promised["content"]:
        return f"{media_type} is not documented for {status}"
    if not media_type.endswith("json"):
        return None
    errors = _validator(operation["operationId"], str(status), media_type).iter_errors(json.loads(content))
    return next((f"{error.json_path}: {error.message}" for error in errors), None)


@cache
def _validator(operation_id: str, status: str, media_type: str) -> Any:
    operation = next(known for _, _, known in OPERATIONS if known["operationId"] == operation_id)
    schema = operation["responses"][status]["content"][media_type]["schema"]
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})
