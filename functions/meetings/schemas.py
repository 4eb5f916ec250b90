"""Bodies of the meetings resource."""

from typing import Annotated

from pydantic import ConfigDict, Field

from conference.domain.consent import ConsentLog, ConsentStatus, ConsentType, Grant, consent_required
from conference.domain.meetings import MediaProvider, Meeting, Participant, Role
from conference.ports.media_provider import ProviderAccess
from conference.ports.tokens import IceServer
from functions.joining import Admission, JoinWish
from functions.schemas import (
    EXAMPLE_ID,
    EXAMPLE_TIME,
    Id,
    MeetingOut,
    Password,
    RoleIn,
    SettingsIn,
    SettingsOut,
    Shape,
    Time,
    TimeIn,
)


class MeetingIn(Shape):
    """A meeting to be. Without `scheduledTime` it is open at once."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "hostId": EXAMPLE_ID,
                    "scheduledTime": EXAMPLE_TIME,
                    "settings": {"aiEnabled": True, "isRecordingEnabled": True},
                    "password": "correct horse",
                }
            ]
        }
    )

    host_id: Id
    scheduled_time: TimeIn | None = None
    settings: SettingsIn = SettingsIn()
    password: Annotated[Password | None, Field(description="asked of everyone but the host")] = None


class ConsentNeededOut(Shape):
    """A text to decide on before joining."""

    type: Grant
    text: str
    version: str


class MeetingDetails(MeetingOut):
    """A meeting, and what the caller needs to join it."""

    consent_required: list[ConsentNeededOut]
    requires_password: bool
    is_host: bool

    @classmethod
    def for_caller(cls, meeting: Meeting, user_id: str) -> "MeetingDetails":
        is_host = meeting.host_id == user_id
        return cls.showing(
            meeting,
            settings=SettingsOut.of(meeting.settings),
            consent_required=[ConsentNeededOut.showing(needed) for needed in consent_required(meeting.settings)],
            requires_password=meeting.password_hash is not None and not is_host,
            is_host=is_host,
        )


class MeetingPage(Shape):
    items: list[MeetingOut]
    next_cursor: Annotated[str | None, Field(description="`cursor` of the next page; null on the last")]


class JoinIn(Shape):
    """A request for a place."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"userId": EXAMPLE_ID, "password": "correct horse"}]})

    user_id: Id
    password: Password | None = None
    consent_token: Annotated[
        str | None, Field(max_length=4096, description="of POST /v1/users/consent; join looks at the entry it names")
    ] = None
    role: RoleIn | None = None

    def wish(self) -> JoinWish:
        return JoinWish(self.user_id, self.password, self.consent_token, self.role)


class IceServerOut(Shape):
    """RTCIceServer of the WebRTC API."""

    urls: Annotated[list[str], Field(examples=[["turn:turn.example.com:3478?transport=udp"]])]
    username: str | None = None
    credential: str | None = None

    @classmethod
    def of(cls, server: IceServer) -> "IceServerOut":
        credential = server.credential.reveal() if server.credential else None
        return cls.showing(server, urls=list(server.urls), credential=credential)


class ProviderOut(Shape):
    """The way into the room of another media provider, for that provider's client. Joining again gives a new one."""

    name: Annotated[MediaProvider, Field(examples=["acs"])]
    room_id: Annotated[str, Field(examples=["99445276259151407"])]
    identity: Annotated[str, Field(description="the user's name in that room", examples=["8:acs:3f1d7a52_5d0e"])]
    endpoint: Annotated[str, Field(examples=["https://parley.communication.azure.com"])]
    token: str
    expires_at: Time

    @classmethod
    def of(cls, name: MediaProvider, access: ProviderAccess) -> "ProviderOut":
        return cls.showing(access, name=name, token=access.token.reveal())


class JoinOut(Shape):
    """A place and the token to take it: connect to `signalingUrl` and send it in JoinRoom before `expiresAt`."""

    participant_id: Id
    token: Annotated[str, Field(description="single use; a lost RoomJoined is repaired by joining again")]
    signaling_token: Annotated[str, Field(description="the same value, under part F's name")]
    signaling_url: Annotated[str, Field(examples=["wss://meet.example.com/v1/signal"])]
    ice_servers: list[IceServerOut]
    expires_at: Time
    role: Role
    grants: list[Grant]
    declined: Annotated[list[Grant], Field(description="asked for by the meeting and not granted by the user")]
    provider: Annotated[ProviderOut | None, Field(description="only where `mediaProvider` is acs or livekit")] = None

    @classmethod
    def of(cls, admission: Admission) -> "JoinOut":
        joined = admission.joined
        return cls.showing(
            admission,
            participant_id=joined.participant.id,
            signaling_token=admission.token,
            ice_servers=[IceServerOut.of(server) for server in admission.ice_servers],
            role=joined.participant.role,
            grants=sorted(joined.grants),
            declined=sorted(joined.declined),
            provider=provider_out(admission),
        )


def provider_out(admission: Admission) -> ProviderOut | None:
    """The way into the provider's room, where there is one."""
    return ProviderOut.of(admission.media_provider, admission.provider) if admission.provider else None


class ParticipantOut(Shape):
    """A stay. `joinedAt` is null until the connection is made."""

    participant_id: Id
    user_id: Id
    display_name: str
    role: Role
    session_id: Id
    joined_at: Time | None
    left_at: Time | None

    @classmethod
    def of(cls, participant: Participant, display_name: str) -> "ParticipantOut":
        return cls.showing(participant, participant_id=participant.id, display_name=display_name)


class ParticipantPageOut(Shape):
    items: list[ParticipantOut]
    next_cursor: str | None


class ConsentEntryOut(Shape):
    """An entry of the append-only chain: `hash` covers the entry and `previousHash`."""

    consent_id: Id
    user_id: Id
    participant_id: Id | None
    consent_type: ConsentType
    status: ConsentStatus
    text_version: str
    timestamp: Time
    previous_hash: str
    hash: str

    @classmethod
    def of(cls, entry: ConsentLog) -> "ConsentEntryOut":
        return cls.showing(entry, consent_id=entry.id)


class ConsentPage(Shape):
    items: list[ConsentEntryOut]
    next_cursor: str | None
