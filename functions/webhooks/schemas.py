"""Bodies of the webhooks resource."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import ConfigDict, Field, StrictBool, StrictInt

from conference.domain.ids import Secret
from conference.domain.records import EventType
from conference.domain.webhooks import (
    MAX_URL,
    AttemptOutcome,
    PauseReason,
    WebhookAttempt,
    WebhookEndpoint,
    WebhookStatus,
)
from functions.schemas import EXAMPLE_ID, Id, Shape, Time

_MAX_SEQ = 2**31 - 1
Url = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_URL,
        description="https, of a host on the public internet, without user name and fragment",
        examples=["https://hooks.example.com/parley"],
    ),
]
Events = Annotated[
    list[EventType],
    Field(min_length=1, max_length=64, description="types to send", examples=[[EventType.MEETING_ENDED]]),
]
Description = Annotated[str, Field(max_length=200, examples=["Our calendar"])]
SigningSecret = Annotated[
    str | None,
    Field(
        description="Signs deliveries. Shown here only, and to a retry under the same Idempotency-Key.",
        examples=["whsec_6yWk1rX3m0wq0Jm4VvQbq9mVYV0pLxkQv8m5d1cY2aA"],
    ),
]


class WebhookIn(Shape):
    """A webhook to be. Without `events` it is sent every type, also those that come later."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"url": "https://hooks.example.com/parley", "events": ["MeetingEnded"]}]}
    )

    url: Url
    events: Events | None = None
    description: Description = ""


class WebhookChange(Shape):
    """Members to change; `events` null means every type."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": ["MeetingEnded", "RecordingReady"]}]})

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None

    def chosen(self) -> dict[str, Any]:
        """The members that were given, in the domain's words. A null url or description changes nothing."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        chosen = {name: value for name, value in given.items() if value is not None and name != "events"}
        return chosen | ({"events": in_order(given["events"])} if "events" in given else {})


class WebhookOut(Shape):
    """A webhook of the tenant. `paused` by an admin, or because an event was refused for three days."""

    id: Id
    url: str
    events: list[EventType] | None
    description: str
    status: WebhookStatus
    pause_reason: PauseReason | None
    paused_at: Time | None
    previous_secret_expires_at: Annotated[
        Time | None, Field(description="until then deliveries are signed with the former secret too")
    ]
    created_at: Time

    @classmethod
    def members(cls, endpoint: WebhookEndpoint, now: datetime) -> dict[str, Any]:
        """What the entity does not have under the same name."""
        expires_at = endpoint.previous_secret_expires_at(now)
        return {"events": list(endpoint.events) or None, "previous_secret_expires_at": expires_at}

    @classmethod
    def of(cls, endpoint: WebhookEndpoint, now: datetime) -> "WebhookOut":
        return cls.showing(endpoint, **cls.members(endpoint, now))


class WebhookCreated(WebhookOut):
    secret: SigningSecret

    @classmethod
    def with_secret(cls, endpoint: WebhookEndpoint, secret: Secret | None, now: datetime) -> "WebhookCreated":
        shown = secret.reveal() if secret else None
        return cls.showing(endpoint, secret=shown, **cls.members(endpoint, now))


class WebhookList(Shape):
    items: list[WebhookOut]


class SecretIn(Shape):
    """With `keepPrevious` the former secret stays valid for a day: give the receiver the new one meanwhile."""

    keep_previous: StrictBool = True


class SecretOut(Shape):
    secret: SigningSecret
    previous_expires_at: Time | None

    @classmethod
    def of(cls, endpoint: WebhookEndpoint, secret: Secret | None, now: datetime) -> "SecretOut":
        return cls.model_construct(
            secret=secret.reveal() if secret else None, previous_expires_at=endpoint.previous_secret_expires_at(now)
        )


class ResumeIn(Shape):
    """An event that was given up is sent again first, or with `skipDead` passed over."""

    skip_dead: StrictBool = False


class ReplayIn(Shape):
    """A room's events, from a number on."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"meetingId": EXAMPLE_ID, "fromSeq": 1}]})

    meeting_id: Id
    from_seq: Annotated[StrictInt, Field(ge=1, le=_MAX_SEQ, description="`seq` of the first event to send again")]


class ReplayOut(Shape):
    meeting_id: Id
    from_seq: int
    to_seq: Annotated[int, Field(description="`seq` of the room's last event at this moment")]


class AttemptOut(Shape):
    """One try to deliver one event."""

    id: Id
    meeting_id: Id
    seq: int
    event_id: Id
    event_type: EventType
    at: Time
    attempt: Annotated[int, Field(description="counts from 1")]
    outcome: Annotated[AttemptOutcome, Field(description="`failed` is tried again, `dead` was the last try")]
    status: Annotated[int | None, Field(description="HTTP status of the receiver, where one came")]
    error: Annotated[str | None, Field(examples=["timeout"])]
    duration_ms: int

    @classmethod
    def of(cls, attempt: WebhookAttempt) -> "AttemptOut":
        return cls.showing(attempt)


class AttemptPageOut(Shape):
    items: list[AttemptOut]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null on the last")]


def in_order(events: list[EventType] | None) -> tuple[EventType, ...]:
    """Each type once; empty for every type."""
    return tuple(dict.fromkeys(events or ()))
