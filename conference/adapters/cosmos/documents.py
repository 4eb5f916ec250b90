"""Entities to documents and back.

A document's `kind` tells what it is, and its id begins with it: `participant:<id>`. Names are camelCase, moments texts
of one length that sort as they follow each other, and what is empty is left out.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

import msgspec

from conference.adapters.cosmos.client import Document
from conference.adapters.cosmos.containers import WEBHOOK_LOG_S
from conference.domain.consent import ConsentLog
from conference.domain.ids import EventId, MeetingId, Secret, TenantId, UserId, WebhookId
from conference.domain.meetings import Meeting, MeetingSettings, Participant, Session, User
from conference.domain.records import AuditEvent, DomainEvent, MeetingMetadata, Recording, Segment
from conference.domain.webhook_streams import Stream
from conference.domain.webhooks import WebhookAttempt, WebhookEndpoint

E = TypeVar("E")
MEETING: Final = "meeting"
CAPACITY: Final = "capacity"
OUTBOX: Final = "outbox"
METADATA: Final = "metadata"
STREAM: Final = "stream"


def moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def item_id(kind: str, id: str) -> str:
    """Any id of ours, whatever signs it has, as one of an item. Without percent signs: they would meet those of
    URLs."""
    return f"{kind}:{quote(id, safe='-._').replace('%', '=')}"


def own_id(document: Document) -> str:
    return unquote(str(document["id"]).partition(":")[2].replace("=", "%"))


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return dict(value)
    return value if isinstance(value, str | int | float) else msgspec.to_builtins(value)


def _values(entity: Any) -> Document:
    pairs = ((field.name, getattr(entity, field.name)) for field in fields(entity))
    return {camel(name): _plain(value) for name, value in pairs if value is not None}


def _entity(kind: type[E], document: Document, **given: Any) -> E:
    values: Document = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if camel(field.name) in document or field.default is field.default_factory is MISSING:
            values[field.name] = document.get(camel(field.name))
    return msgspec.convert({**values, **given}, kind, dec_hook=_of_type)


def _of_type(kind: type, value: Any) -> Any:
    """What msgspec does not know by itself: secrets, and values of payloads, which are as they are."""
    return Secret(value) if kind is Secret else value


def meeting_document(meeting: Meeting, fingerprint: str) -> Document:
    return _values(meeting) | {"id": MEETING, "meetingId": meeting.id, "kind": MEETING, "fingerprint": fingerprint}


def meeting(document: Document) -> Meeting:
    return _entity(Meeting, document, id=document["meetingId"])


def settings_value(settings: MeetingSettings) -> Any:
    return msgspec.to_builtins(settings)


def session_document(session: Session) -> Document:
    return _item(session, "session", session.room_id) | {"open": session.end_time is None}


def session(document: Document) -> Session:
    return _entity(Session, document, id=own_id(document))


def participant_document(participant: Participant) -> Document:
    """`open` until the stay has ended: what an index can look for."""
    return _item(participant, "participant", participant.meeting_id) | {"open": participant.left_at is None}


def participant(document: Document) -> Participant:
    return _entity(Participant, document, id=own_id(document))


def consent_document(entry: ConsentLog, position: int) -> Document:
    """Its id is the previous hash: a second entry after the same one is refused, so the chain does not fork."""
    values = _values(entry) | {"consentId": entry.id, "kind": "consent", "position": position}
    return values | {"id": item_id("consent", entry.previous_hash)}


def consent(document: Document) -> ConsentLog:
    return _entity(ConsentLog, document, id=document["consentId"])


def decisions_document(meeting_id: MeetingId, user_id: UserId, *, count: int, joins: int) -> Document:
    """How many decisions a user has taken and how often they have joined: what makes the two follow each other."""
    values = {"id": item_id("decisions", user_id), "kind": "decisions", "meetingId": meeting_id, "userId": user_id}
    return values | {"count": count, "joins": joins}


def event_document(event: DomainEvent, audit: AuditEvent | None) -> Document:
    """Of an event without a number yet; `audit` is the entry that goes with it."""
    values = _item(event, "event", event.meeting_id)
    del values["seq"]
    return values if audit is None else values | {"audit": audit_document(audit)}


def event(document: Document) -> DomainEvent:
    return _entity(DomainEvent, document, id=own_id(document))


def user_document(user: User) -> Document:
    return _values(user)


def user(document: Document) -> User:
    return _entity(User, document)


def recording_document(recording: Recording) -> Document:
    return _item(recording, "recording", recording.meeting_id)


def recording(document: Document) -> Recording:
    return _entity(Recording, document, id=own_id(document))


def segment_document(segment: Segment, meeting_id: MeetingId) -> Document:
    return _item(segment, "segment", meeting_id)


def segment(document: Document) -> Segment:
    return _entity(Segment, document, id=own_id(document))


def metadata_document(metadata: MeetingMetadata) -> Document:
    return _values(metadata) | {"id": METADATA, "kind": METADATA}


def metadata(document: Document) -> MeetingMetadata:
    return _entity(MeetingMetadata, document)


def audit_document(entry: AuditEvent) -> Document:
    """The day is of UTC. An entry of no tenant is kept under the empty one."""
    return {"tenantId": "", **_values(entry), "day": moment(entry.at)[:10]}


def audit(document: Document) -> AuditEvent:
    return _entity(AuditEvent, document | {"tenantId": document["tenantId"] or None}, id=EventId(document["id"]))


def webhook_document(endpoint: WebhookEndpoint, fingerprint: str) -> Document:
    return _values(endpoint) | {"fingerprint": fingerprint}


def deleted_webhook_document(document: Document) -> Document:
    """What stands for an endpoint until all is deleted that was its own."""
    return {"id": document["id"], "tenantId": document["tenantId"], "deleted": True}


def webhook(document: Document) -> WebhookEndpoint:
    return _entity(WebhookEndpoint, document)


def webhook_stream_document(
    stream: Stream, tenant_id: TenantId, endpoint_id: WebhookId, meeting_id: MeetingId
) -> Document:
    """One on which nothing waits expires: what is offered later begins it anew."""
    names = {"tenantId": tenant_id, "endpointId": endpoint_id, "meetingId": meeting_id}
    life = {"ttl": WEBHOOK_LOG_S} if stream.next_seq > stream.last_seq else {}
    return _values(stream) | names | life | {"id": STREAM, "kind": STREAM}


def changed_webhook_stream(document: Document, stream: Stream) -> Document:
    """The document with the stream as it is now. `released` names the last lease that was given back."""
    names = document["tenantId"], document["endpointId"], document["meetingId"]
    released = {"released": document["released"]} if "released" in document else {}
    return webhook_stream_document(stream, *names) | released


def webhook_stream(document: Document) -> Stream:
    return _entity(Stream, document)


def webhook_attempt_document(attempt: WebhookAttempt) -> Document:
    return _values(attempt) | {"id": item_id("attempt", attempt.id), "kind": "attempt", "ttl": WEBHOOK_LOG_S}


def webhook_attempt(document: Document) -> WebhookAttempt:
    return _entity(WebhookAttempt, document, id=own_id(document))


def _item(entity: Any, kind: str, meeting_id: MeetingId) -> Document:
    return _values(entity) | {"id": item_id(kind, entity.id), "kind": kind, "meetingId": meeting_id}
