"""Taps and pipes in the control link: media that leaves a node by SRTP with keys of signaling's choice, without ICE.

A tap sends one room's consenting tracks to a recorder or an AI worker; a pipe carries rooms between two nodes.
Addresses are taken from the control link only. See docs/media-transports.md.
"""

from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from conference.protocol.messages import Grant, Id, Kind, Payload, Source

Port = Annotated[int, Meta(ge=1, le=65_535)]
Ssrc = Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
KeyText = Annotated[str, Meta(min_length=1, max_length=128)]  # base64 of master key + salt (RFC 3711 3.2.1)
Profile = Literal["AEAD_AES_128_GCM", "AEAD_AES_256_GCM", "AES128_CM_SHA1_80"]


# --- parts -----------------------------------------------------------------------------------------------------------
class MediaAddress(Payload, frozen=True):
    """An IP address (no name) and UDP port."""

    ip: Annotated[str, Meta(min_length=2, max_length=45)]
    port: Port


class MediaKeys(Payload, frozen=True):
    """SRTP keys of one direction each, from the node's point of view."""

    profile: Profile
    receive_key: KeyText
    send_key: KeyText

    def __repr__(self) -> str:
        return f"MediaKeys({self.profile})"


class PlainCodec(Payload, frozen=True):
    """How the packets of a track look. `parameters` are those of a=fmtp."""

    name: Annotated[str, Meta(max_length=16)]
    payload_type: Annotated[int, Meta(ge=0, le=127)]
    clock_rate: Annotated[int, Meta(ge=1)]
    channels: int = 1
    parameters: dict[str, str] = {}
    rtx_payload_type: Annotated[int, Meta(ge=0, le=127)] | UnsetType = UNSET


class PlainStream(Payload, frozen=True):
    """One SSRC and its RTX; `rid` names the simulcast layer, lowest first where there are several."""

    ssrc: Ssrc
    rtx_ssrc: Ssrc | UnsetType = UNSET
    rid: Annotated[str, Meta(max_length=16)] = ""


# --- signaling to SFU ------------------------------------------------------------------------------------------------
class OpenTap(Payload, frozen=True):
    """Forwards the room's tracks of those who granted the purpose, those that come later too. Answer: TapOpened, also
    where it is open already: the asking link owns it then and is told of its tracks again."""

    room_id: Id
    tap_id: Id
    purpose: Grant
    address: MediaAddress
    keys: MediaKeys
    kinds: Annotated[list[Kind], Meta(min_length=1, max_length=2)]


class CloseTap(Payload, frozen=True):
    """Answer: Ok, also where there is no such tap."""

    tap_id: Id


class OpenPipe(Payload, frozen=True):
    """Joins a packet worker to one of another node. Answer: PipeOpened, also where it is open already."""

    pipe_id: Id
    address: MediaAddress  # the other node's worker, as its Hello lists it
    keys: MediaKeys
    worker: Annotated[int, Meta(ge=0, le=1_023)] = 0


class ClosePipe(Payload, frozen=True):
    """Answer: Ok, also where there is no such pipe."""

    pipe_id: Id


class PipeRoom(Payload, frozen=True):
    """The tracks published in a room on this node go into the pipe from now on, or no more. Answer: Ok."""

    pipe_id: Id
    room_id: Id
    piped: bool


# --- both ways -------------------------------------------------------------------------------------------------------
class PipeTrack(Payload, frozen=True):
    """From the SFU: this track goes into the pipe. To the other SFU: it comes out there (answer: Ok)."""

    pipe_id: Id
    room_id: Id
    track_id: Id
    participant_id: Id
    user_id: Id
    kind: Kind
    source: Source
    codec: PlainCodec
    streams: Annotated[list[PlainStream], Meta(min_length=1, max_length=8)]


class PipeTrackEnded(Payload, frozen=True):
    pipe_id: Id
    room_id: Id
    track_id: Id


# --- SFU to signaling ------------------------------------------------------------------------------------------------
class TapOpened(Payload, frozen=True):
    """`address` is where the packets come from and where RTCP goes to."""

    tap_id: Id
    address: MediaAddress


class TapTrack(Payload, frozen=True):
    tap_id: Id
    track_id: Id
    participant_id: Id
    user_id: Id
    kind: Kind
    source: Source
    codec: PlainCodec
    stream: PlainStream


class TapTrackEnded(Payload, frozen=True):
    """Nothing more of this SSRC is sent: the track ended, or the grant was withdrawn."""

    tap_id: Id
    track_id: Id
    ssrc: Ssrc
    reason: Literal["ended", "withdrawn"]


class TapChanged(Payload, frozen=True):
    """`disconnected`: nothing authentic came for some seconds; media goes on. `closed`: the room is over."""

    tap_id: Id
    state: Literal["connected", "disconnected", "closed"]


class PipeOpened(Payload, frozen=True):
    pipe_id: Id
    address: MediaAddress


class PipeConnected(Payload, frozen=True):
    """The other node was heard."""

    pipe_id: Id


class PipeLost(Payload, frozen=True):
    """The other node is not heard any more: the pipe is closed, and what came out of it has ended."""

    pipe_id: Id
    rooms: list[Id]


TO_SFU_PLAIN: Final[tuple[type[Payload], ...]] = (
    OpenTap,
    CloseTap,
    OpenPipe,
    ClosePipe,
    PipeRoom,
    PipeTrack,
    PipeTrackEnded,
)
FROM_SFU_PLAIN: Final[tuple[type[Payload], ...]] = (
    TapOpened,
    TapTrack,
    TapTrackEnded,
    TapChanged,
    PipeOpened,
    PipeConnected,
    PipeLost,
    PipeTrack,
    PipeTrackEnded,
)
