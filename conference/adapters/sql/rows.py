"""Rows to entities and back."""

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from conference.domain.consent import ConsentLog, ConsentStatus, ConsentType
from conference.domain.ids import Secret
from conference.domain.meetings import Meeting, MeetingSettings, MeetingStatus, Participant, Role, Session, User
from conference.domain.records import (
    ActionItem,
    AuditAction,
    AuditEvent,
    DomainEvent,
    EventType,
    MeetingMetadata,
    Recording,
    RecordingState,
    Segment,
    StorageTier,
)
from conference.domain.webhooks import (
    AttemptOutcome,
    PauseReason,
    SealedSecret,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookStatus,
)

Row = sa.Row[Any]
Values = dict[str, Any]
E = TypeVar("E")


def _values(entity: Any) -> Values:
    """A dataclass's fields, one level deep; enums as their texts."""
    return {name: getattr(entity, name) for name in entity.__dataclass_fields__}


def _entity(kind: type[E], row: Row, **converted: Any) -> E:
    """The entity of a row that has a column for every field; `converted` replaces those of other types."""
    columns = row._asdict()
    fields: Mapping[str, Any] = kind.__dataclass_fields__  # type: ignore[attr-defined]
    return kind(**{name: converted[name] if name in converted else columns[name] for name in fields})


def user(row: Row) -> User:
    return _entity(User, row)


def meeting(row: Row) -> Meeting:
    return _entity(
        Meeting,
        row,
        password_hash=Secret(row.password_hash) if row.password_hash is not None else None,
        settings=msgspec.convert(row.settings, MeetingSettings),
        status=MeetingStatus(row.status),
    )


def meeting_values(meeting: Meeting) -> Values:
    return _values(meeting) | {
        "listed_at": meeting.listed_at,
        "password_hash": meeting.password_hash.reveal() if meeting.password_hash else None,
        "settings": settings_value(meeting.settings),
    }


def settings_value(settings: MeetingSettings) -> Any:
    return msgspec.to_builtins(settings)


def session(row: Row) -> Session:
    return _entity(Session, row)


def participant(row: Row) -> Participant:
    return _entity(Participant, row, role=Role(row.role))


def consent(row: Row) -> ConsentLog:
    return _entity(ConsentLog, row, consent_type=ConsentType(row.consent_type), status=ConsentStatus(row.status))


def recording(row: Row) -> Recording:
    return _entity(Recording, row, storage_tier=StorageTier(row.storage_tier), state=RecordingState(row.state))


def segment(row: Row) -> Segment:
    return _entity(Segment, row)


def meeting_metadata(row: Row) -> MeetingMetadata:
    return _entity(
        MeetingMetadata,
        row,
        action_items=msgspec.convert(row.action_items, tuple[ActionItem, ...]),
        decisions=msgspec.convert(row.decisions, tuple[ActionItem, ...]),
    )


def meeting_metadata_values(metadata: MeetingMetadata) -> Values:
    return _values(metadata) | {
        "action_items": msgspec.to_builtins(metadata.action_items),
        "decisions": msgspec.to_builtins(metadata.decisions),
    }


def audit_event(row: Row) -> AuditEvent:
    return _entity(AuditEvent, row, action=AuditAction(row.action))


def domain_event(row: Row) -> DomainEvent:
    return _entity(DomainEvent, row, type=EventType(row.type))


def webhook_endpoint(row: Row) -> WebhookEndpoint:
    return _entity(
        WebhookEndpoint,
        row,
        events=tuple(EventType(name) for name in row.events),
        secrets=msgspec.convert(row.secrets, tuple[SealedSecret, ...]),
        status=WebhookStatus(row.status),
        pause_reason=PauseReason(row.pause_reason) if row.pause_reason else None,
    )


def webhook_endpoint_values(endpoint: WebhookEndpoint) -> Values:
    return _values(endpoint) | {
        "events": list(endpoint.events),
        "secrets": msgspec.to_builtins(endpoint.secrets),
    }


def webhook_attempt(row: Row) -> WebhookAttempt:
    return _entity(WebhookAttempt, row, event_type=EventType(row.event_type), outcome=AttemptOutcome(row.outcome))


def values(
    entity: User | Session | Participant | ConsentLog | Segment | AuditEvent | DomainEvent | Recording | WebhookAttempt,
) -> Values:
    """Of an entity whose columns are its fields."""
    return _values(entity)
