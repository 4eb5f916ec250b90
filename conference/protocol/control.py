"""The control link between a signaling process and an SFU node: a WebSocket at the node's `/control`.

Same envelope as signaling (`{type, id?, replyTo?, payload, traceparent?}`), a service token in the Authorization header
at the handshake. Signaling dials; one link per (signaling process, node). The link that opened or attached a session
owns it: what concerns one participant goes to its owner; what concerns a room (`ActiveSpeakers`, `QualityChanged`) goes
to every link with a session in it. Sessions and media survive the loss of a link: the node keeps them for
`orphan_timeout_s` (90 s) and signaling attaches again; `Hello` lists what the node holds.

Taps and pipes (docs/media-transports.md) are in `control_plain.py`; the link that opened one owns it.
"""

from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from conference.protocol.control_plain import FROM_SFU_PLAIN, TO_SFU_PLAIN, MediaAddress
from conference.protocol.messages import (
    Candidate,
    Capabilities,
    Grant,
    Id,
    Kind,
    Payload,
    Quality,
    ReceivedTrack,
    ReceiveTrack,
    Role,
    Sdp,
    Source,
    TrackInfo,
)


class Endpoint(Payload, frozen=True):
    """Where one transport of a session is reached (ICE-lite, UDP)."""

    ip: str
    port: int
    transport_id: Id
    direction: Literal["publish", "subscribe"]


class SessionRef(Payload, frozen=True):
    room_id: Id
    participant_id: Id
    user_id: Id


class Level(Payload, frozen=True):
    participant_id: Id
    user_id: Id
    level: Annotated[float, Meta(ge=0, le=1)]


# --- signaling to SFU ------------------------------------------------------------------------------------------------
class OpenSession(Payload, frozen=True):
    """A participant comes in. An older session of the same participant is closed first. Answer: SessionOpened."""

    room_id: Id
    participant_id: Id
    user_id: Id
    role: Role
    grants: list[Grant] = []
    capabilities: Capabilities = Capabilities()


class AttachSession(Payload, frozen=True):
    """Takes over a living session (resume on another process, or this link was down). Answer: SessionOpened."""

    room_id: Id
    participant_id: Id


class UpdateSession(Payload, frozen=True):
    """Role or grants changed; a viewer's published tracks end. Answer: Ok."""

    participant_id: Id
    role: Role
    grants: list[Grant] = []


class CloseSession(Payload, frozen=True):
    """Closes both transports at once. Answer: Ok, also where there is no such session."""

    participant_id: Id


class CloseRoom(Payload, frozen=True):
    room_id: Id


class Offer(Payload, frozen=True):
    """The client's offer on its publish transport (answer: Answer), or from the SFU its offer on subscribe."""

    participant_id: Id
    transport_id: Id
    negotiation_id: int
    sdp: Sdp
    tracks: list[TrackInfo] = []


class Answer(Payload, frozen=True):
    participant_id: Id
    transport_id: Id
    negotiation_id: int
    sdp: Sdp
    tracks: list[TrackInfo] = []


class AddCandidate(Payload, frozen=True):
    participant_id: Id
    transport_id: Id
    candidate: Candidate | None


class SelectTracks(Payload, frozen=True):
    """SetReceive of one participant."""

    participant_id: Id
    tracks: list[ReceiveTrack]


class MuteTracks(Payload, frozen=True):
    """Stops (or resumes) forwarding a participant's tracks of the given sources; a moderator's mute holds here too."""

    participant_id: Id
    sources: list[Source]
    muted: bool


class Simulate(Payload, frozen=True):
    """Debug hooks; refused with `not-available` unless the setting allows them."""

    scenario: Literal["node-failure", "drain", "bandwidth-cap", "drop-transports"]
    participant_id: Id | UnsetType = UNSET
    bitrate_bps: int | UnsetType = UNSET


# --- SFU to signaling ------------------------------------------------------------------------------------------------
class Hello(Payload, frozen=True):
    """First message on a link."""

    node_id: Id
    region: str
    sessions: list[SessionRef]
    draining: bool = False
    media: list[MediaAddress] = []  # of each packet worker: where taps and pipes are reached
    taps: list[Id] = []
    pipes: list[Id] = []


class SessionOpened(Payload, frozen=True):
    """`tracks` are those that the room already has."""

    participant_id: Id
    node_id: Id
    endpoints: list[Endpoint]
    tracks: list[TrackInfo]


class Ok(Payload, frozen=True):
    pass


class TrackAdded(Payload, frozen=True):
    """The publisher's track is negotiated. Goes to the publisher's owner link, which tells the room."""

    room_id: Id
    participant_id: Id
    user_id: Id
    track: TrackInfo


class TrackRemoved(Payload, frozen=True):
    room_id: Id
    participant_id: Id
    user_id: Id
    track_id: Id
    kind: Kind


class TransportChanged(Payload, frozen=True):
    participant_id: Id
    transport_id: Id
    direction: Literal["publish", "subscribe"]
    state: Literal["connecting", "connected", "disconnected", "failed", "closed"]


class SpeakersChanged(Payload, frozen=True):
    room_id: Id
    speakers: list[Level]


class ConnectionQuality(Payload, frozen=True):
    room_id: Id
    participant_id: Id
    user_id: Id
    quality: Quality


class FirstPacket(Payload, frozen=True):
    """The first media packet was forwarded to this participant: the end of the join trace."""

    participant_id: Id
    track_id: Id


class DataReceived(Payload, frozen=True):
    """A message of the client's DataChannel (telemetry)."""

    participant_id: Id
    message: dict[str, Any]


class ChangeSend(Payload, frozen=True):
    """Dynacast: which layers of the participant's own track are wanted."""

    participant_id: Id
    track_id: Id
    layers: dict[str, bool]


class ReceiveChanged(Payload, frozen=True):
    """Which videos reach a participant, where that has changed; `none` at first."""

    participant_id: Id
    tracks: list[ReceivedTrack]


class SessionClosed(Payload, frozen=True):
    """The node ended a session by itself (consent lost for 30 s, orphaned, shutdown)."""

    room_id: Id
    participant_id: Id
    reason: Literal["consent-expired", "orphaned", "shutdown", "failed"]


class Draining(Payload, frozen=True):
    node_id: Id


class ControlError(Payload, frozen=True):
    code: str
    message: str
    retryable: bool = False


_TO_SFU: Final[tuple[type[Payload], ...]] = (
    OpenSession,
    AttachSession,
    UpdateSession,
    CloseSession,
    CloseRoom,
    Offer,
    Answer,
    AddCandidate,
    SelectTracks,
    MuteTracks,
    Simulate,
    *TO_SFU_PLAIN,
)
_FROM_SFU: Final[tuple[type[Payload], ...]] = (
    Hello,
    SessionOpened,
    Ok,
    Offer,
    Answer,
    TrackAdded,
    TrackRemoved,
    TransportChanged,
    SpeakersChanged,
    ConnectionQuality,
    FirstPacket,
    DataReceived,
    ChangeSend,
    ReceiveChanged,
    SessionClosed,
    Draining,
    ControlError,
    *FROM_SFU_PLAIN,
)
TO_SFU: Final[dict[str, type[Payload]]] = {struct.__name__: struct for struct in _TO_SFU}
FROM_SFU: Final[dict[str, type[Payload]]] = {struct.__name__: struct for struct in _FROM_SFU}
