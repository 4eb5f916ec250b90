"""The signaling messages of `/v1/signal`, canonical names (contracts.md section 4).

Each payload is a frozen msgspec Struct: camelCase on the wire, unknown fields refused, sizes bounded by annotation.
`CLIENT_MESSAGES` and `SERVER_MESSAGES` map the wire name to the type; docs/asyncapi.json is generated from them. The
snake_case dialect of the specification's part A is in `dialect.py`, framing and limits are in `envelope.py`.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

Id = Annotated[str, Meta(min_length=1, max_length=64)]
TransportRef = Annotated[str, Meta(max_length=64)]  # "": the client's only transport of the direction that fits
Name = Annotated[str, Meta(min_length=1, max_length=64)]
Sdp = Annotated[str, Meta(max_length=200_000)]
Role = Literal["host", "attendee", "viewer"]
Grant = Literal["recording", "ai"]
Kind = Literal["audio", "video"]
Source = Literal["microphone", "camera", "screen", "screenAudio"]
Topology = Literal["mesh", "sfu"]
LeaveReason = Literal["left", "timeout", "removed", "ended", "replaced"]
Quality = Literal["excellent", "good", "poor", "lost"]
MAX_TRACKS: Final = 16  # m-sections one client may publish
MAX_PEERS: Final = 32  # in a mesh, at most
MAX_CHAT: Final = 4_000  # characters of one chat message

SFU: Final = "sfu"  # targetUserId and sourceUserId of the SFU


class Payload(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Base of all payloads."""


# --- parts -----------------------------------------------------------------------------------------------------------
class Capabilities(Payload, frozen=True):
    """What the client's stack can do; absent means the defaults of a browser."""

    codecs: Annotated[list[Annotated[str, Meta(max_length=32)]], Meta(max_length=32)] = []
    simulcast: bool = True
    data_channel: bool = True
    mesh: bool = False  # talks peer to peer, and changes between mesh and SFU when told


class PeerLink(Payload, frozen=True):
    """A peer-to-peer link as one end sees it: the lost fraction of what comes, and the round trip in milliseconds."""

    user_id: Id
    loss: Annotated[float, Meta(ge=0, le=1)]
    rtt: Annotated[float, Meta(ge=0, le=60_000)] = 0.0


class TrackInfo(Payload, frozen=True):
    """A published track. `mid` is the m-section that carries it in the SDP beside it, absent in snapshots."""

    track_id: Id
    kind: Kind
    source: Source
    mid: Annotated[str, Meta(max_length=16)] | UnsetType = UNSET
    participant_id: Id | UnsetType = UNSET
    user_id: Id | UnsetType = UNSET


class Candidate(Payload, frozen=True):
    """RTCIceCandidateInit as browsers give it."""

    candidate: Annotated[str, Meta(max_length=1_024)]
    sdp_mid: Annotated[str, Meta(max_length=16)] | None = None
    sdp_m_line_index: Annotated[int, Meta(ge=0, le=1_024)] | None = msgspec.field(default=None, name="sdpMLineIndex")
    username_fragment: Annotated[str, Meta(max_length=256)] | None = None


class ParticipantInfo(Payload, frozen=True):
    """One person as the others see them."""

    user_id: Id
    participant_id: Id
    display_name: str
    role: Role
    joined_at: str  # RFC 3339, UTC
    is_muted: bool = False
    is_video_on: bool = False
    is_sharing: bool = False
    is_hand_raised: bool = False


class Snapshot(Payload, frozen=True):
    """The room at `RoomJoined.seq`; every event with a higher seq applies on top of it."""

    room_id: Id
    participants: list[ParticipantInfo]
    tracks: list[TrackInfo]
    is_recording: bool = False
    grants: list[Grant] = []


class ReceiveTrack(Payload, frozen=True):
    """How a track is shown: CSS pixels times device pixel ratio; `visible` false where scrolled away or hidden."""

    track_id: Id
    width: Annotated[int, Meta(ge=0, le=16_384)] = 0
    height: Annotated[int, Meta(ge=0, le=16_384)] = 0
    visible: bool = True
    pinned: bool = False


class IceServer(Payload, frozen=True):
    """RTCIceServer."""

    urls: list[str]
    username: str | UnsetType = UNSET
    credential: str | UnsetType = UNSET


class ConsentNeeded(Payload, frozen=True):
    """A consent text that needs the person's decision."""

    type: Literal["recording", "ai", "recording_ai"]
    text: str
    version: str


class Speaker(Payload, frozen=True):
    user_id: Id
    level: Annotated[float, Meta(ge=0, le=1)]


class Span(Payload, frozen=True):
    """One span of the client's part of the join trace (W3C trace context ids in hex, epoch milliseconds)."""

    name: Annotated[str, Meta(max_length=64, pattern=r"^[a-zA-Z0-9_. -]+$")]
    span_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
    start_ms: Annotated[float, Meta(ge=0)]
    end_ms: Annotated[float, Meta(ge=0)]
    parent_span_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")] | UnsetType = UNSET


# --- client to server ------------------------------------------------------------------------------------------------
class JoinRoom(Payload, frozen=True):
    """First message of a connection. `token` may be absent where it came as a subprotocol `token.<jwt>`."""

    room_id: Id
    token: Annotated[str, Meta(max_length=8_192)] | UnsetType = UNSET
    display_name: Name | UnsetType = UNSET
    capabilities: Capabilities = Capabilities()


class SendOffer(Payload, frozen=True):
    target_user_id: Id
    sdp: Sdp
    transport_id: TransportRef = ""
    negotiation_id: Annotated[int, Meta(ge=0, le=2**31)] = 0
    tracks: Annotated[list[TrackInfo], Meta(max_length=MAX_TRACKS)] = []
    epoch: Annotated[int, Meta(ge=0)] = 0


class SendAnswer(Payload, frozen=True):
    target_user_id: Id
    sdp: Sdp
    transport_id: TransportRef = ""
    negotiation_id: Annotated[int, Meta(ge=0, le=2**31)] = 0
    tracks: Annotated[list[TrackInfo], Meta(max_length=MAX_TRACKS)] = []
    epoch: Annotated[int, Meta(ge=0)] = 0


class SendIceCandidate(Payload, frozen=True):
    """`candidate` null is the end of candidates."""

    target_user_id: Id
    candidate: Candidate | None
    transport_id: TransportRef = ""
    epoch: Annotated[int, Meta(ge=0)] = 0


class UpdateState(Payload, frozen=True):
    is_muted: bool | UnsetType = UNSET
    is_video_on: bool | UnsetType = UNSET
    is_sharing: bool | UnsetType = UNSET
    is_hand_raised: bool | UnsetType = UNSET


class KeepAlive(Payload, frozen=True):
    pass


class Resume(Payload, frozen=True):
    """Takes up a dropped connection within 45 s. The newest and the previous secret are valid."""

    participant_id: Id
    resume_secret: Annotated[str, Meta(max_length=256)]
    generation: Id
    last_seq: Annotated[int, Meta(ge=0)]


class Leave(Payload, frozen=True):
    pass


class SetReceive(Payload, frozen=True):
    tracks: Annotated[list[ReceiveTrack], Meta(max_length=2_000)]


class TopologyReady(Payload, frozen=True):
    """The client decodes these people (or has nothing to decode of them) by the topology of `epoch`. Says all of them
    each time; with nobody it says that it is connected."""

    epoch: Annotated[int, Meta(ge=1)]
    peers: Annotated[list[Id], Meta(max_length=MAX_PEERS)]


class LinkReport(Payload, frozen=True):
    """Of a mesh, every two seconds."""

    peers: Annotated[list[PeerLink], Meta(max_length=MAX_PEERS)]


class SendMessage(Payload, frozen=True):
    """A chat message. The client's `messageId` makes a retry after a resume harmless."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_CHAT)]
    message_id: Id


class Moderate(Payload, frozen=True):
    """Host only. `role` goes with action role."""

    action: Literal["admit", "deny", "mute", "remove", "role"]
    target_user_id: Id
    role: Role | UnsetType = UNSET


class Stats(Payload, frozen=True):
    """getStats deltas, every 10 to 30 s, while the DataChannel is not open."""

    report: dict[str, Any]


class ReportTrace(Payload, frozen=True):
    """The client's spans of its join, once; signaling exports them into the trace that the envelope names."""

    spans: Annotated[list[Span], Meta(max_length=32)]


class StartRecording(Payload, frozen=True):
    pass


class StopRecording(Payload, frozen=True):
    pass


class RequestTunnel(Payload, frozen=True):
    """Asks for a token with which media goes by the HTTP tunnel while signaling stays where it is."""


class SetCaptionLanguage(Payload, frozen=True):
    language: Annotated[str, Meta(max_length=35)] | None = None


class Simulate(Payload, frozen=True):
    """Debug hook, known only where the setting allows it: makes a fault happen to this connection or its SFU node."""

    scenario: Literal["signal-drop", "signal-drop-lossy", "node-failure", "drain", "bandwidth-cap", "drop-transports"]
    bitrate_bps: Annotated[int, Meta(ge=1_000)] | UnsetType = UNSET


# --- server to client ------------------------------------------------------------------------------------------------
class RoomJoined(Payload, frozen=True):
    participant_id: Id
    user_id: Id
    snapshot: Snapshot
    resume_secret: str
    topology: Topology
    epoch: int
    generation: Id
    seq: int
    role: Role = "attendee"
    ping_interval_ms: int = 20_000
    resume_window_ms: int = 45_000


class Resumed(Payload, frozen=True):
    """What was missed follows in order, unless `snapshot` is there: then it replaces all that the client knew."""

    participant_id: Id
    resume_secret: str
    generation: Id
    seq: int
    topology: Topology
    epoch: int
    snapshot: Snapshot | UnsetType = UNSET


class ReceiveOffer(Payload, frozen=True):
    source_user_id: Id
    transport_id: Id
    negotiation_id: int
    sdp: Sdp
    tracks: list[TrackInfo] = []
    epoch: int = 0


class ReceiveAnswer(Payload, frozen=True):
    source_user_id: Id
    transport_id: Id
    negotiation_id: int
    sdp: Sdp
    tracks: list[TrackInfo] = []
    epoch: int = 0


class IceCandidate(Payload, frozen=True):
    source_user_id: Id
    transport_id: Id
    candidate: Candidate | None
    epoch: int = 0


class StateChanged(Payload, frozen=True):
    """Only what changed is there. `grants` goes to the person themselves only."""

    user_id: Id
    is_muted: bool | UnsetType = UNSET
    is_video_on: bool | UnsetType = UNSET
    is_sharing: bool | UnsetType = UNSET
    is_hand_raised: bool | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    grants: list[Grant] | UnsetType = UNSET


class KeepAliveAck(Payload, frozen=True):
    server_time: str


class ParticipantJoined(ParticipantInfo, frozen=True):
    pass


class ParticipantLeft(Payload, frozen=True):
    user_id: Id
    participant_id: Id
    reason: LeaveReason


class SfuEndpoint(Payload, frozen=True):
    """One transport of the client on its SFU node. The client offers on `publish`; the SFU offers on `subscribe`."""

    ip: str
    port: int
    transport_id: Id
    node_id: Id
    direction: Literal["publish", "subscribe"]


class ConsentRequested(Payload, frozen=True):
    consent_required: list[ConsentNeeded]


class RecordingStarted(Payload, frozen=True):
    started_at: str


class RecordingStopped(Payload, frozen=True):
    stopped_at: str


class MessageReceived(Payload, frozen=True):
    message_id: Id
    user_id: Id
    display_name: str
    text: str
    sent_at: str


class Moderated(Payload, frozen=True):
    action: Literal["admit", "deny", "mute", "remove", "role"]
    user_id: Id
    by_user_id: Id
    role: Role | UnsetType = UNSET


class ActiveSpeakers(Payload, frozen=True):
    """Loudest first; empty when nobody speaks. Carries no seq: the latest wins."""

    speakers: list[Speaker]


class TrackPublished(Payload, frozen=True):
    track: TrackInfo


class TrackUnpublished(Payload, frozen=True):
    track_id: Id
    participant_id: Id
    user_id: Id


class QualityChanged(Payload, frozen=True):
    user_id: Id
    quality: Quality


class ReceivedTrack(Payload, frozen=True):
    """Whether a track comes, and why not: it is not shown, beyond the last N videos, the network does not carry it, or
    the client cannot decode it."""

    track_id: Id
    paused: Literal["none", "hidden", "last-n", "bandwidth", "unsupported"]


class ReceiveChanged(Payload, frozen=True):
    """What has changed in what this client receives. Carries no seq: the latest of a track wins; `none` at first."""

    tracks: list[ReceivedTrack]


class SetSend(Payload, frozen=True):
    track_id: Id
    layers: dict[str, bool]


class IceServers(Payload, frozen=True):
    ice_servers: list[IceServer]


class TunnelToken(Payload, frozen=True):
    """The answer to RequestTunnel, for `POST url` (docs/tunnel-protocol.md) or for Authorise: once, until `expiresAt`,
    and for the media nodes of now."""

    token: str
    url: str
    expires_at: str  # RFC 3339, UTC


class SwitchTopology(Payload, frozen=True):
    """The room moves, make before break: connect by `to` while the former topology plays, say TopologyReady, and give
    up each pair of the former one when both ends are ready. Whoever is not connected after `deadlineMs` keeps what they
    have and is told again. Of the SFU the endpoints follow as SfuEndpoint."""

    to: Topology
    epoch: int
    deadline_ms: int
    reason: Literal["setting", "size", "capability", "recording", "captions", "live", "loss", "unreachable", "calm"]


class PeerReady(Payload, frozen=True):
    """What somebody said by TopologyReady."""

    user_id: Id
    epoch: int
    peers: list[Id]


class Moving(Payload, frozen=True):
    """The server drains: reconnect after `retryInMs` plus a random part of `spreadMs`."""

    retry_in_ms: int
    spread_ms: int


class Error(Payload, frozen=True):
    """Answer to a message that could not be served (`replyTo` names it). `code` is a stable slug."""

    code: str
    message: str
    retryable: bool = False


CLIENT_MESSAGES: Final[dict[str, type[Payload]]] = {
    t.__name__: t
    for t in (
        JoinRoom, SendOffer, SendAnswer, SendIceCandidate, UpdateState, KeepAlive, Resume, Leave, SetReceive,
        TopologyReady, LinkReport, SendMessage, Moderate, Stats, ReportTrace, StartRecording, StopRecording,
        SetCaptionLanguage, RequestTunnel,
    )
}  # fmt: skip
DEBUG_MESSAGES: Final[dict[str, type[Payload]]] = {"Simulate": Simulate}
SERVER_MESSAGES: Final[dict[str, type[Payload]]] = {
    t.__name__: t
    for t in (
        RoomJoined, Resumed, ReceiveOffer, ReceiveAnswer, IceCandidate, StateChanged, KeepAliveAck, ParticipantJoined,
        ParticipantLeft, SfuEndpoint, ConsentRequested, RecordingStarted, RecordingStopped, MessageReceived, Moderated,
        ActiveSpeakers, TrackPublished, TrackUnpublished, QualityChanged, ReceiveChanged, SetSend, IceServers, Moving,
        SwitchTopology, PeerReady, TunnelToken, Error,
    )
}  # fmt: skip
