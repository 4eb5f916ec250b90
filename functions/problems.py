"""The edge of REST: every refusal becomes an RFC 9457 problem document here, once, by one table.

`type` is `/docs/problems/<reason>`, a page that explains it; its last segment is the reason that clients switch on.
A bug becomes status 500 with nothing of its text.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from conference.domain.errors import REASONS, ProtocolError, Refused, Unavailable

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "/docs/problems/"

# Refused.reason -> status.
STATUS: Final[dict[str, int]] = {
    "unauthenticated": 401,
    "token-refused": 401,
    "forbidden": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "not-host": 403,
    "not-a-participant": 403,
    "consent-required": 403,
    "consent-token-refused": 403,
    "room-full": 409,
    "wrong-password": 403,
    "password-required": 403,
    "too-many-tries": 429,
    "not-started": 403,
    "meeting-ended": 410,
    "role-not-allowed": 403,
    "removed": 403,
    "not-available": 422,
    "e2ee-excludes": 422,
    "malformed-json": 400,
    "invalid-body": 422,
    "invalid-parameter": 422,
    "body-too-large": 413,
    "unsupported-media-type": 415,
    "not-acceptable": 406,
    "idempotency-conflict": 422,
    "precondition-failed": 412,
    "precondition-required": 428,
    "too-many-webhooks": 409,
    "rate-limited": 429,
    "recorder-unavailable": 503,
    "sfu-unavailable": 503,
    "provider-unavailable": 503,
    "room-ended": 410,
    "duplicate": 409,
}

# What is no refusal of a policy.
UNAVAILABLE_TITLE: Final = "The service is busy. Try again in a moment."
INTERNAL_TITLE: Final = "Something went wrong on our side."
OTHER_TITLES: Final = {
    "unavailable": UNAVAILABLE_TITLE,
    "internal": INTERNAL_TITLE,
    "invalid-cursor": "The cursor is not one that a former page gave.",
}
_RETRY_MEMBER: Final = "retryAfterS"  # a Refused's extra that becomes the Retry-After header
_DEFAULT_RETRY_S: Final = {"recorder-unavailable": 30.0, "sfu-unavailable": 5.0, "provider-unavailable": 5.0}


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document and the headers that go with it."""

    status: int
    reason: str
    title: str
    detail: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)

    def body(self, trace_id: str | None = None) -> bytes:
        """The document as JSON."""
        members: dict[str, object] = {
            "type": TYPE_PREFIX + self.reason,
            "title": self.title,
            "status": self.status,
            **({"detail": self.detail} if self.detail else {}),
            **self.extra,
            **({"traceId": trace_id} if trace_id else {}),
        }
        return json.dumps(members, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")


def of_refused(refused: Refused) -> Problem:
    """The problem of a policy's no."""
    extra = {name: value for name, value in refused.extra.items() if name != _RETRY_MEMBER and name != "cause"}
    retry = refused.extra.get(_RETRY_MEMBER, _DEFAULT_RETRY_S.get(refused.reason))
    headers = _retry_header(retry) if isinstance(retry, int | float) else {}
    if STATUS[refused.reason] == 401:
        headers |= _challenge(refused.reason)
    title = REASONS[refused.reason]
    return Problem(STATUS[refused.reason], refused.reason, title, refused.detail or None, extra, headers)


def of_protocol_error(error: ProtocolError) -> Problem:
    """The problem of a request that breaks the protocol, for example a cursor that no page gave."""
    return Problem(400, error.code, OTHER_TITLES.get(error.code, "The request cannot be read."), error.detail)


def of_unavailable(error: Unavailable) -> Problem:
    """503 with Retry-After; names no dependency."""
    return Problem(503, "unavailable", UNAVAILABLE_TITLE, headers=_retry_header(error.after_s or 5.0))


def internal() -> Problem:
    """A bug's answer; none of its text leaves the process."""
    return Problem(500, "internal", INTERNAL_TITLE)


def titles() -> dict[str, tuple[int, str]]:
    """Every problem type: reason -> status and title."""
    known = {reason: (status, REASONS[reason]) for reason, status in STATUS.items()}
    other = {"unavailable": 503, "internal": 500, "invalid-cursor": 400}
    return known | {reason: (status, OTHER_TITLES[reason]) for reason, status in other.items()}


def _retry_header(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def _challenge(reason: str) -> dict[str, str]:
    """RFC 6750 section 3: no error code where no token was sent."""
    error = ', error="invalid_token"' if reason == "token-refused" else ""
    return {"WWW-Authenticate": f'Bearer realm="parley"{error}'}
