"""Shapes that every resource shares: the JSON conventions, ids, times, and a meeting with its settings.

JSON is camelCase; unknown members are refused; times are RFC 3339 with a zone and answered in UTC; nothing is coerced
(a number is no text, "yes" no boolean).
"""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal, Self, cast

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, StrictBool, StrictInt

from conference.domain.meetings import (
    DEFAULT_PARTICIPANTS,
    MAX_PARTICIPANTS,
    MIN_PARTICIPANTS,
    ROLE_ALIASES,
    MediaProvider,
    Meeting,
    MeetingSettings,
    MeetingStatus,
    Role,
    TopologyMode,
    parse_role,
)

EXAMPLE_ID = "3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11"
EXAMPLE_TIME = "2026-12-01T09:00:00Z"


def camel(name: str) -> str:
    """The JSON name of a field. Pydantic's own makes `e2Ee` of `e2ee`."""
    first, *others = name.split("_")
    return first + "".join(word.capitalize() for word in others)


class Shape(BaseModel):
    """Base of every body, in and out."""

    model_config = ConfigDict(alias_generator=camel, extra="forbid", frozen=True, serialize_by_alias=True)

    @classmethod
    def showing(cls, entity: object, **others: object) -> Self:
        """A body made of `others` and, for every other member, of what the entity has under that name. It is not
        validated: what is ours is right already."""
        shown: dict[str, Any] = {
            name: others[name] if name in others else getattr(entity, name) for name in cls.model_fields
        }
        return cast(Self, cls.model_construct(**shown))  # Pydantic's plugin for mypy says Shape


_ROLE_NAMES: Final = (*Role, *ROLE_ALIASES)
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _rfc_3339(value: Any) -> Any:
    """Pydantic alone would take numbers of seconds too, also as text."""
    if not isinstance(value, str) or not _RFC_3339.fullmatch(value):
        raise ValueError("has to be a text in RFC 3339 form")
    return value


def _to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("is outside of the calendar") from None


def _a_role(value: Any) -> Any:
    if not isinstance(value, str) or value not in _ROLE_NAMES:
        raise ValueError("has to be one of " + ", ".join(_ROLE_NAMES))
    return parse_role(value)


Time = Annotated[AwareDatetime, AfterValidator(_to_utc), Field(examples=[EXAMPLE_TIME])]
TimeIn = Annotated[AwareDatetime, BeforeValidator(_rfc_3339), AfterValidator(_to_utc), Field(examples=[EXAMPLE_TIME])]
Id = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        json_schema_extra={"format": "uuid"},
        examples=[EXAMPLE_ID],
    ),
]
RoleIn = Annotated[
    Role,
    BeforeValidator(_a_role, json_schema_input_type=Literal[_ROLE_NAMES]),
    Field(description="guest and participant mean attendee", examples=["attendee"]),
]
Language = Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$", examples=["en-US"])]
Password = Annotated[str, Field(min_length=1, max_length=128, examples=["correct horse"])]


class SettingsIn(Shape):
    """What the host may choose; what is left out keeps its default (or, in a change, its value)."""

    ai_enabled: StrictBool | None = None
    is_recording_enabled: StrictBool | None = None
    max_participants: Annotated[StrictInt, Field(ge=MIN_PARTICIPANTS, le=MAX_PARTICIPANTS)] | None = None
    allowed_roles: Annotated[list[RoleIn], Field(min_length=1, max_length=8)] | None = None
    e2ee: StrictBool | None = None
    waiting_room: StrictBool | None = None
    topology: TopologyMode | None = None
    media_provider: MediaProvider | None = None
    languages: Annotated[list[Language], Field(max_length=16)] | None = None

    def chosen(self) -> dict[str, Any]:
        """The members that were given, in the domain's words."""
        given = {name: getattr(self, name) for name in self.model_fields_set if getattr(self, name) is not None}
        if "allowed_roles" in given:
            given["allowed_roles"] = tuple(dict.fromkeys(given["allowed_roles"]))
        if "languages" in given:
            given["languages"] = tuple(dict.fromkeys(given["languages"]))
        return given


class SettingsOut(Shape):
    ai_enabled: bool
    is_recording_enabled: bool
    max_participants: Annotated[int, Field(examples=[DEFAULT_PARTICIPANTS])]
    allowed_roles: list[Role]
    e2ee: bool
    waiting_room: bool
    topology: TopologyMode
    media_provider: MediaProvider
    languages: list[str]

    @classmethod
    def of(cls, settings: MeetingSettings) -> "SettingsOut":
        return cls.showing(settings, allowed_roles=list(settings.allowed_roles), languages=list(settings.languages))


class MeetingOut(Shape):
    """A meeting as everybody who may see it sees it."""

    id: Id
    host_id: Id
    tenant_id: str
    region: str
    scheduled_time: Time | None
    start_time: Time | None
    end_time: Time | None
    settings: SettingsOut
    status: MeetingStatus
    created_at: Time

    @classmethod
    def of(cls, meeting: Meeting) -> "MeetingOut":
        return MeetingOut.showing(meeting, settings=SettingsOut.of(meeting.settings))
