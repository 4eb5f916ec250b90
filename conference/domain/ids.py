"""Identifiers and secrets.

Ids are opaque strings (UUIDs in canonical form), told apart by type and never by content. `Secret` wraps what must not
reach a log line or a traceback; `Redacted` gives entities a repr that shortens ids and leaves personal data out.
"""

import re
from dataclasses import fields
from typing import NewType
from uuid import UUID

UserId = NewType("UserId", str)
TenantId = NewType("TenantId", str)
MeetingId = NewType("MeetingId", str)  # a room's id is its meeting's id: two views of one aggregate
SessionId = NewType("SessionId", str)
ParticipantId = NewType("ParticipantId", str)
ConsentId = NewType("ConsentId", str)
RecordingId = NewType("RecordingId", str)
EventId = NewType("EventId", str)
NodeId = NewType("NodeId", str)
TransportId = NewType("TransportId", str)
TrackId = NewType("TrackId", str)
WebhookId = NewType("WebhookId", str)

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def is_uuid(text: str) -> bool:
    """True for a UUID in canonical lower-case form, the only form that ids take."""
    return _UUID.fullmatch(text) is not None


def canonical_uuid(text: str) -> str:
    """`text` in canonical form. Raises ValueError where it is no UUID."""
    return str(UUID(text))


class Secret:
    """A text that no repr, log line or traceback shows. `reveal()` is the only way to its content."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))


class Redacted:
    """Mixin of entities: the repr shows the class and the first characters of the id, nothing else."""

    __slots__ = ()

    def __repr__(self) -> str:
        first = next(iter(fields(self)), None)  # type: ignore[arg-type]
        shown = str(getattr(self, first.name))[:8] if first else ""
        return f"<{type(self).__name__} {shown}…>"
