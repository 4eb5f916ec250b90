"""Bodies of the rooms resource."""

from typing import Annotated

from pydantic import ConfigDict, Field

from conference.domain.meetings import Meeting, MeetingStatus, Role
from functions.meetings.schemas import IceServerOut, ProviderOut
from functions.rooms.use_cases import LiveState
from functions.schemas import EXAMPLE_ID, Id, Password, RoleIn, SettingsIn, SettingsOut, Shape, Time


class RoomIn(Shape):
    """A room that is open at once."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"hostId": EXAMPLE_ID, "settings": {"maxParticipants": 10}}]}
    )

    host_id: Id
    settings: SettingsIn = SettingsIn()
    password: Annotated[Password | None, Field(description="asked of everyone but the host")] = None


class RoomCreated(Shape):
    """The room, and the host's token to enter it."""

    room_id: Id
    join_token: Annotated[
        str,
        Field(
            description="the host's; reserves their place until `expiresAt` and carries no recording or AI grant until "
            "ConsentRequested is answered over signaling"
        ),
    ]
    expires_at: Time
    provider: Annotated[ProviderOut | None, Field(description="only where `mediaProvider` is acs or livekit")] = None


class RoomChange(Shape):
    """Members of `settings` that are left out keep their value."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"settings": {"isRecordingEnabled": True}}]})

    settings: SettingsIn


class LiveOut(Shape):
    """The room at this moment. Without the directory of live rooms, only the number of places is known."""

    participant_count: int
    is_recording: bool | None
    topology: str | None
    epoch: int | None
    sfu_region: str | None


class RoomOut(Shape):
    """State and settings of a room."""

    room_id: Id
    host_id: Id
    region: str
    status: MeetingStatus
    settings: SettingsOut
    live: LiveOut
    created_at: Time

    @classmethod
    def of(cls, meeting: Meeting, live: LiveState) -> "RoomOut":
        return cls.showing(
            meeting,
            room_id=meeting.id,
            settings=SettingsOut.of(meeting.settings),
            live=LiveOut.model_construct(
                participant_count=live.participant_count,
                is_recording=live.view.is_recording if live.view else None,
                topology=live.view.topology if live.view else None,
                epoch=live.view.epoch if live.view else None,
                sfu_region=live.view.sfu_region if live.view else None,
            ),
        )


class RoleChange(Shape):
    role: RoleIn


class ModeratedOut(Shape):
    """Whom the order was about."""

    participant_id: Id
    user_id: Id
    role: Role
    left_at: Time | None


class IceServersIn(Shape):
    """The caller's place, where they want to be sure which: another than the live one is refused."""

    participant_id: Id | None = None


class IceServersOut(Shape):
    ice_servers: list[IceServerOut]
