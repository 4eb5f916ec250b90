"""Preconditions of a request: Idempotency-Key, ETag and If-Match (RFC 9110 sections 8.8.3 and 13.1.1)."""

import hashlib
import json
import re
from typing import Annotated, Final, Protocol

from fastapi import Header

from conference.domain.claims import Caller
from conference.domain.errors import Refused
from conference.domain.policies import created_id
from conference.ports.clock import Ids

_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_ETAG: Final = re.compile(r'(W/)?"([\x21\x23-\x7e]*)"')

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Makes a retry safe: the same key and body give the same item, another body under it is refused "
        "with 422. 1 to 255 visible ASCII characters, for example a UUID.",
        examples=["0b0f7f0e-54ad-4d3c-9d0a-2f64c2d5a3a7"],
    ),
]
IfMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="The ETag that you read; required.", examples=['"3"']),
]
MayMatch = Annotated[
    str | None,
    Header(alias="If-Match", description="An ETag that you read: only while it stands.", examples=['"3"']),
]


def id_for(caller: Caller, route: str, key: str | None, ids: Ids) -> str:
    """The id of what this request creates: derived from the key where there is one, else fresh."""
    if key is None:
        return ids.new()
    if not _KEY.fullmatch(key):
        raise Refused("invalid-parameter", "Idempotency-Key has 1 to 255 visible ASCII characters.")
    return created_id(caller.user_id, route, key)


def fingerprint(content: object) -> str:
    """SHA-256 of a request's content, which must hold no password: the digest is stored in the clear."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Versioned(Protocol):
    """What changes under a version: a meeting, a webhook."""

    @property
    def version(self) -> int: ...


def etag(item: Versioned) -> str:
    """The strong ETag of an item: its version."""
    return f'"{item.version}"'


def expected_version(if_match: str | None, item: Versioned) -> int:
    """The version that the caller means to change. Raises Refused: precondition-required, precondition-failed."""
    if if_match is None:
        raise Refused("precondition-required")
    if if_match.strip() == "*":
        return item.version
    tags = _ETAG.findall(if_match)
    # If-Match compares strongly: a weak tag never matches.
    if any(not weak and f'"{opaque}"' == etag(item) for weak, opaque in tags):
        return item.version
    raise Refused("precondition-failed")
