"""Domain events as text: the body of queue messages and of webhooks.

`{id, meetingId, seq, type, at, payload}`; `at` is RFC 3339 in UTC. Handlers are idempotent by `id`.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from conference.domain.errors import ProtocolError
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent, EventType

MAX_EVENT_BYTES: Final = 64 * 1024  # the most that an Azure Storage Queue message holds


class _Event(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    id: str
    meeting_id: str
    seq: Annotated[int, Meta(ge=1)]
    type: EventType
    at: Annotated[datetime, Meta(tz=True)]
    payload: dict[str, Any]


_decoder: Final = msgspec.json.Decoder(_Event)
_encoder: Final = msgspec.json.Encoder()


def encode_event(event: DomainEvent) -> str:
    at = event.at.astimezone(UTC)
    return _encoder.encode(_Event(event.id, event.meeting_id, event.seq, event.type, at, dict(event.payload))).decode()


def decode_event(text: str | bytes) -> DomainEvent:
    """The event in `text`. Raises ProtocolError("invalid-event")."""
    if len(text) > MAX_EVENT_BYTES:
        raise ProtocolError("invalid-event", f"an event has at most {MAX_EVENT_BYTES} bytes")
    try:
        event = _decoder.decode(text)
        at = event.at.astimezone(UTC)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError) as error:
        raise ProtocolError("invalid-event", str(error)) from None
    return DomainEvent(EventId(event.id), MeetingId(event.meeting_id), event.seq, event.type, at, event.payload)
