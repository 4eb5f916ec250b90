"""The four error families. Everything that can go wrong is one of these three, or a bug.

`ProtocolError`: the peer broke the wire. `Refused`: policy said no; policies *return* it, use cases may raise it.
`Unavailable`: a dependency failed. Anything else is a bug, and none of its text leaves the process.
`functions/problems.py` and `conference/protocol/session.py` (`close_code`) are the two edges that map them, once each.
"""

from dataclasses import dataclass, field
from typing import Final


class ParleyError(Exception):
    """Base of the documented errors."""


class ProtocolError(ParleyError):
    """The peer's message breaks the protocol: `code` is a stable slug, `detail` a sentence for a developer."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


@dataclass(eq=True, unsafe_hash=True)
class Refused(ParleyError):  # not frozen: contextlib sets __traceback__ on what passes through it
    """A policy's no. `reason` is a slug of `REASONS`; `detail` is a sentence a person understands."""

    reason: str
    detail: str = ""
    # Extra members for the problem document or the Error message (for example the consent types that are missing).
    extra: dict[str, object] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"unknown reason {self.reason}")

    def __str__(self) -> str:
        return self.detail or REASONS[self.reason]


class Unavailable(ParleyError):
    """A dependency did not answer. `after_s` says when a retry may help; None where none will."""

    def __init__(self, what: str, *, retryable: bool = True, after_s: float | None = 1.0) -> None:
        super().__init__(f"{what} is unavailable")
        self.what = what
        self.retryable = retryable
        self.after_s = after_s


@dataclass(frozen=True)
class Allowed:
    """A policy's yes."""


ALLOWED: Final = Allowed()

# Every reason a policy may give, with the sentence shown where the policy adds none.
REASONS: Final[dict[str, str]] = {
    "unauthenticated": "Sign in first.",
    "token-refused": "The sign-in has expired or is not valid here. Sign in again.",
    "forbidden": "You may not do this.",
    "not-found": "There is no such thing here.",
    "method-not-allowed": "This address does not take that method.",
    "not-host": "Only the host can do this.",
    "not-a-participant": "You are not a participant of this meeting.",
    "consent-required": "Decide on recording and AI processing before you join.",
    "consent-token-refused": "The consent has expired. Decide again.",
    "room-full": "The room is full. Try again when somebody has left.",
    "wrong-password": "The password is not right.",
    "password-required": "This meeting has a password.",
    "too-many-tries": "Too many tries. Wait a minute and try again.",
    "not-started": "The meeting has not opened yet. Others can join from 15 minutes before it starts.",
    "meeting-ended": "The meeting has ended.",
    "role-not-allowed": "Your role may not join this meeting.",
    "removed": "The host has removed you from this meeting.",
    "not-available": "This is not available here yet.",
    "e2ee-excludes": "End-to-end encryption excludes recording and AI processing.",
    "malformed-json": "The request is not JSON that can be read.",
    "invalid-parameter": "A parameter or header does not have the expected form.",
    "invalid-body": "The request does not have the expected form.",
    "body-too-large": "The request is too large.",
    "unsupported-media-type": "Send JSON (content type application/json).",
    "not-acceptable": "None of the formats you accept is available.",
    "idempotency-conflict": "This Idempotency-Key was used with another body.",
    "precondition-failed": "It has changed since you read it. Read it again.",
    "precondition-required": "Send If-Match with the ETag you read.",
    "too-many-webhooks": "The tenant has as many webhooks as it may have. Delete one first.",
    "rate-limited": "Too many requests. Wait a moment and try again.",
    "recorder-unavailable": "No recorder is available at the moment.",
    "provider-unavailable": "The media provider of this meeting does not answer. Try again in a moment.",
    "sfu-unavailable": "No media server is available at the moment. Trying again.",
    "room-ended": "The meeting has ended.",
    "duplicate": "You have joined from another window.",
}
