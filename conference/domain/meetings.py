"""The meeting aggregate: Meeting (= Room), its settings, Session and Participant.

A meeting to its host is a room to the media: one id, two views (contracts.md section 1). Life is
SCHEDULED -> ACTIVE -> COMPLETED, and a completed meeting never reopens. A participant's place is held by a lease: live
means `left_at` is empty and `lease_until` is in the future, so a lost client frees its place by itself.
"""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from conference.domain.ids import MeetingId, ParticipantId, Redacted, Secret, SessionId, TenantId, UserId


class MeetingStatus(StrEnum):
    SCHEDULED = "SCHEDULED"
    ACTIVE = "ACTIVE"
    COMPLETED = "COMPLETED"


class Role(StrEnum):
    HOST = "host"
    ATTENDEE = "attendee"
    VIEWER = "viewer"


class TopologyMode(StrEnum):
    AUTO = "auto"
    MESH = "mesh"
    SFU = "sfu"


class MediaProvider(StrEnum):
    PARLEY = "parley"
    ACS = "acs"
    LIVEKIT = "livekit"


# Names that the specification's parts use for the same role.
ROLE_ALIASES = {"guest": Role.ATTENDEE, "participant": Role.ATTENDEE}
MIN_PARTICIPANTS, DEFAULT_PARTICIPANTS, MAX_PARTICIPANTS = 2, 50, 2_000


def parse_role(text: str) -> Role:
    """The role of that name or alias. Raises ValueError."""
    return ROLE_ALIASES.get(text) or Role(text)


@dataclass(frozen=True, slots=True)
class MeetingSettings:
    """What the host chose. Combinations are judged by `policies.check_settings`."""

    ai_enabled: bool = False
    is_recording_enabled: bool = False
    max_participants: int = DEFAULT_PARTICIPANTS
    allowed_roles: tuple[Role, ...] = (Role.HOST, Role.ATTENDEE, Role.VIEWER)
    e2ee: bool = False
    waiting_room: bool = False
    topology: TopologyMode = TopologyMode.AUTO
    media_provider: MediaProvider = MediaProvider.PARLEY
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class User(Redacted):
    """A person, keyed by the identity provider's tenant and object id (see `policies.user_id_of`)."""

    id: UserId
    tenant_id: TenantId
    email: str
    display_name: str
    created_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class Meeting(Redacted):
    """A meeting. `version` grows with every change and is the ETag."""

    id: MeetingId
    host_id: UserId
    tenant_id: TenantId
    region: str
    created_at: datetime
    scheduled_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    password_hash: Secret | None = None
    settings: MeetingSettings = field(default_factory=MeetingSettings)
    status: MeetingStatus = MeetingStatus.SCHEDULED
    version: int = 1
    provider_room: str | None = None  # the room's id at ACS or LiveKit, where the media is theirs

    @property
    def listed_at(self) -> datetime:
        """Where the meeting stands in its host's list."""
        return self.start_time or self.scheduled_time or self.created_at


@dataclass(frozen=True, slots=True, repr=False)
class Session(Redacted):
    """One run of a room, from the first join to its end."""

    id: SessionId
    room_id: MeetingId
    start_time: datetime
    end_time: datetime | None = None
    recording_url: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Participant(Redacted):
    """A user's stay in a session. `joined_at` is empty until JoinRoom; `lease_until` holds the place until then."""

    id: ParticipantId
    meeting_id: MeetingId
    session_id: SessionId
    user_id: UserId
    role: Role
    created_at: datetime
    lease_until: datetime
    joined_at: datetime | None = None
    left_at: datetime | None = None

    def is_live(self, now: datetime) -> bool:
        """True while the participant holds a place in the room."""
        return self.left_at is None and self.lease_until > now
