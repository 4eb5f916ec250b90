"""The data plane of an SFU node: sockets, ICE-lite, SRTP, RTP and RTCP, forwarding. Commands in, events out.

The engine knows transports, tracks (what a transport receives) and senders (a track on its way to one subscriber); it
knows no rooms, no SDP and no DTLS. DTLS datagrams come out as events and go in as commands, keys follow. Nothing
crosses this boundary per media packet, so that an engine with its own threads can stand behind it: `apply` takes a
batch and never blocks, `poll_events` drains a bounded queue after a wake-up. Commands that name something that is gone
are ignored: the engine ends transports by itself, and its event may still be on the way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

SrtpProfile = Literal["AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES128_CM_SHA1_80"]
CONSENT_TIMEOUT_S: Final = 30.0  # RFC 7675 5.1


# --- parts -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TrackCodec:
    """How a track's packets look. Payload types are the publisher's; `name` is VP8, VP9, H264, AV1 or opus."""

    name: str
    payload_type: int
    clock_rate: int
    rtx_payload_type: int | None = None
    has_nack: bool = False


@dataclass(frozen=True, slots=True)
class ExtensionIds:
    """Ids of the header extensions in use on one m-section; None where not negotiated."""

    mid: int | None = None
    rid: int | None = None
    repaired_rid: int | None = None
    audio_level: int | None = None
    transport_cc: int | None = None
    dependency_descriptor: int | None = None
    orientation: int | None = None
    abs_send_time: int | None = None


# --- commands --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class AddTransport:
    """A new ICE-lite transport on a packet worker (modulo their number). `ice_ufrag` is unique in the node."""

    transport_id: str
    ice_ufrag: str
    ice_pwd: str = field(repr=False)
    worker: int = 0


@dataclass(frozen=True, slots=True)
class AddPlainTransport:
    """A transport without ICE and DTLS: SRTP with keys of the control layer's, to and from one address that it
    vouches for (a tap to a recorder or an AI worker, a pipe to another node). `IceChanged` tells `connected` with the
    first authentic packet of the peer and `disconnected` after 3 s without one; each end sends RTCP every second."""

    transport_id: str
    address: tuple[str, int]
    profile: SrtpProfile
    receive_key: bytes = field(repr=False)
    send_key: bytes = field(repr=False)
    worker: int = 0


@dataclass(frozen=True, slots=True)
class RestartIce:
    """New credentials (RFC 8445 9); the old ones stay valid until a check with the new ones arrives. Keys stay."""

    transport_id: str
    ice_ufrag: str
    ice_pwd: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class RemoveTransport:
    """Ends a transport with its tracks and senders."""

    transport_id: str


@dataclass(frozen=True, slots=True)
class SendDtls:
    """Sends DTLS datagrams on the selected pair."""

    transport_id: str
    datagrams: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SetKeys:
    """SRTP keys, each master key + salt."""

    transport_id: str
    profile: SrtpProfile
    receive_key: bytes = field(repr=False)
    send_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SetTrack:
    """A track that the transport's peer sends; the same track id again changes it and keeps its senders.

    `ssrcs` are primary streams with their RTX (or None); `rids` are simulcast layers, lowest first. With as many of the
    one as of the other (a pipe) the SSRCs name the layers in that order. `is_screen` ranks it above cameras.
    """

    transport_id: str
    track_id: str
    mid: str
    codec: TrackCodec
    extensions: ExtensionIds
    ssrcs: tuple[tuple[int, int | None], ...] = ()
    rids: tuple[str, ...] = ()
    is_screen: bool = False


@dataclass(frozen=True, slots=True)
class RemoveTrack:
    """Ends a track and its senders."""

    track_id: str


@dataclass(frozen=True, slots=True)
class MuteTrack:
    """Stops (or resumes) forwarding a track to everyone."""

    track_id: str
    muted: bool


@dataclass(frozen=True, slots=True)
class SetSender:
    """Forwards a track to a subscriber's transport. The same sender id with the same ssrc again changes nothing."""

    sender_id: str
    transport_id: str
    track_id: str
    mid: str
    codec: TrackCodec
    extensions: ExtensionIds
    ssrc: int
    rtx_ssrc: int | None
    cname: str


@dataclass(frozen=True, slots=True)
class RemoveSender:
    sender_id: str


@dataclass(frozen=True, slots=True)
class PauseSender:
    """Paused, nothing is forwarded; a resumed video sender goes on with the next key frame."""

    sender_id: str
    paused: bool


@dataclass(frozen=True, slots=True)
class SelectLayer:
    """Pins a simulcast layer and a highest temporal layer (a pipe, a test); None leaves the choice to the engine. A
    `strict` pin forwards nothing while its layer is not received."""

    sender_id: str
    rid: str | None
    temporal: int | None = None
    strict: bool = False


@dataclass(frozen=True, slots=True)
class WantTrack:
    """SetReceive of one video sender: the tile in device pixels (0: not known), whether it is on screen, pinned."""

    sender_id: str
    width: int
    height: int
    visible: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class RankTrack:
    """Who spoke last: 0 for the video of the active speaker, then 1, 2, ...; the default is last of all."""

    track_id: str
    rank: int


@dataclass(frozen=True, slots=True)
class SetLastN:
    """The most videos that a subscriber's transport receives, in the order of the allocation's rank; None: all."""

    transport_id: str
    count: int | None


@dataclass(frozen=True, slots=True)
class CapBandwidth:
    """Drops what exceeds a rate towards a transport's peer (a debug hook); None lifts the cap."""

    transport_id: str
    bitrate_bps: int | None


@dataclass(frozen=True, slots=True)
class DropPairs:
    """Forgets every candidate pair and the credentials (a debug hook): the peer must restart ICE."""

    transport_id: str


Command = (
    AddTransport
    | AddPlainTransport
    | RestartIce
    | RemoveTransport
    | SendDtls
    | SetKeys
    | SetTrack
    | RemoveTrack
    | MuteTrack
    | SetSender
    | RemoveSender
    | PauseSender
    | SelectLayer
    | WantTrack
    | RankTrack
    | SetLastN
    | CapBandwidth
    | DropPairs
)


# --- events ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class IceChanged:
    """`connected`: a pair is nominated. `disconnected`: no check for some seconds. `failed`: consent is lost for 30 s,
    and the transport is gone with its tracks and senders."""

    transport_id: str
    state: Literal["connected", "disconnected", "failed"]


@dataclass(frozen=True, slots=True)
class DtlsReceived:
    """A DTLS datagram (first byte 20 to 63) from a validated 5-tuple."""

    transport_id: str
    datagram: bytes


@dataclass(frozen=True, slots=True)
class FirstForwarded:
    """The first media packet of a sender went out."""

    sender_id: str
    transport_id: str
    track_id: str


@dataclass(frozen=True, slots=True)
class AudioLevels:
    """Loudest RFC 6464 level of each audio track since the last event, in -dBov (0 loudest, 127 silence)."""

    levels: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class LinkReport:
    """What a transport's link looked like in the last seconds: fractions 0 to 1, round trip None where unknown."""

    transport_id: str
    received_loss: float  # of what the peer sends
    sent_loss: float  # of what we send, by the peer's receiver reports
    round_trip_s: float | None
    is_active: bool  # media flowed at all
    estimate_bps: int | None = None  # what the link towards the peer carries; None without its feedback
    layers_missed: float = 0.0  # share of the wanted video layers that the estimate does not allow


PauseReason = Literal["none", "hidden", "last-n", "bandwidth"]


@dataclass(frozen=True, slots=True)
class SenderChanged:
    """What a video sender forwards now: a layer, or nothing and why. `rid` is empty without simulcast; `spatial` counts
    its layers (simulcast or SVC) from 0, `temporal` is the highest that is forwarded."""

    sender_id: str
    paused: PauseReason
    rid: str
    spatial: int
    temporal: int


@dataclass(frozen=True, slots=True)
class LayersWanted:
    """Dynacast: which simulcast layers of a track somebody is to receive, by rid. Told when it changes; a layer that is
    not wanted any more is told after some seconds."""

    track_id: str
    layers: tuple[tuple[str, bool], ...]


Event = IceChanged | DtlsReceived | FirstForwarded | AudioLevels | LinkReport | SenderChanged | LayersWanted


@dataclass(frozen=True, slots=True)
class LayerStats:
    """One received stream: bitrate and packet rate of the last second, jitter in seconds, totals since its start."""

    rid: str
    bitrate_bps: int
    packets_per_s: int
    loss: float
    jitter_s: float
    packets: int
    lost: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TrackStats:
    track_id: str
    codec: str
    senders: int
    key_frame_requests: int
    layers: tuple[LayerStats, ...]


@dataclass(frozen=True, slots=True)
class SubscriberStats:
    """One transport that is sent to. `paused` counts videos that are held back, by reason."""

    transport_id: str
    estimate_bps: int | None
    sent_bps: int
    loss: float
    round_trip_s: float | None
    senders: int
    retransmitted_packets: int
    paused: dict[str, int]


@dataclass(frozen=True, slots=True)
class WorkerStats:
    """One packet worker. `cpu_s` is its thread's CPU time, `queued` what waits in its pacers, in packets."""

    worker: int
    cpu_s: float
    transports: int
    queued: int
    pipe_dropped: int


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    tracks: tuple[TrackStats, ...]
    subscribers: tuple[SubscriberStats, ...]
    workers: tuple[WorkerStats, ...]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Totals since the start; `dropped` counts by reason."""

    transports: int
    tracks: int
    senders: int
    received_packets: int
    received_bytes: int
    forwarded_packets: int
    forwarded_bytes: int
    retransmitted_packets: int
    dropped: dict[str, int]


class ForwardingEngine(Protocol):
    """One data plane: a UDP port (and where `has_tcp` an ICE/TCP port of the same number) for each packet worker. All
    methods are called from one thread."""

    name: str  # "native" or "reference"
    has_tcp: bool

    async def start(self) -> tuple[str, int]:
        """Binds; returns the address and the first worker's port. Raises OSError."""

    @property
    def ports(self) -> tuple[int, ...]:
        """The port of each packet worker, once started."""

    async def stop(self) -> None:
        """Closes the socket and forgets everything."""

    @property
    def is_healthy(self) -> bool:
        """False once a packet worker has ended by itself: its transports are lost, the process is to be replaced."""

    def apply(self, commands: Sequence[Command]) -> None:
        """Takes the commands in order."""

    def poll_events(self, limit: int) -> list[Event]:
        """Up to `limit` events, oldest first."""

    def on_wakeup(self, callback: Callable[[], None]) -> None:
        """`callback` is called in the event loop when events wait after there were none."""

    def stats(self) -> EngineStats: ...

    def snapshot(self) -> EngineSnapshot:
        """What each track, subscriber and worker does now; costs a moment of every worker's time."""
