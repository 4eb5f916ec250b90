"""Control messages of a tunnel session: `{"type", ...}` in JSON, strict and bounded (docs/tunnel-protocol.md)."""

from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from conference.domain.errors import ProtocolError
from conference.protocol.messages import Id, Kind, Source

MAX_CONTROL: Final = 16_384
StreamId = Annotated[int, Meta(ge=1, le=65_535)]
Codec = Literal["opus", "vp8", "h264"]


class Control(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True, tag_field="type"):
    """Base of all control messages."""


class OpenPath(Control, frozen=True, tag="OpenPath"):
    stream: StreamId
    ip: Annotated[str, Meta(max_length=64)]
    port: Annotated[int, Meta(ge=1, le=65_535)]


class PathOpened(Control, frozen=True, tag="PathOpened"):
    stream: StreamId


class PathRefused(Control, frozen=True, tag="PathRefused"):
    stream: StreamId
    code: Annotated[str, Meta(max_length=64)]


class ClosePath(Control, frozen=True, tag="ClosePath"):
    stream: StreamId


class Authorise(Control, frozen=True, tag="Authorise"):
    """A tunnel token of the session's own participant: the media nodes that it names may be reached, too."""

    token: Annotated[str, Meta(max_length=8_192)]


class Authorised(Control, frozen=True, tag="Authorised"):
    pass


class AuthorisationRefused(Control, frozen=True, tag="AuthorisationRefused"):
    code: Annotated[str, Meta(max_length=64)]


class LayerStream(Control, frozen=True, tag="LayerStream"):
    """One spatial layer of a track, lowest first; rid is "" where there is one only."""

    stream: StreamId
    rid: Annotated[str, Meta(max_length=8)] = ""
    width: Annotated[int, Meta(ge=0, le=16_384)] = 0
    height: Annotated[int, Meta(ge=0, le=16_384)] = 0


class OpenTrack(Control, frozen=True, tag="OpenTrack"):
    track_id: Id
    kind: Kind
    source: Source
    codec: Codec
    streams: Annotated[list[LayerStream], Meta(min_length=1, max_length=3)]


class CloseTrack(Control, frozen=True, tag="CloseTrack"):
    track_id: Id


class TrackOpened(Control, frozen=True, tag="TrackOpened"):
    stream: StreamId
    track_id: Id
    user_id: Id
    kind: Kind
    source: Source
    codec: Codec


class TrackClosed(Control, frozen=True, tag="TrackClosed"):
    stream: StreamId


class KeyFrame(Control, frozen=True, tag="KeyFrame"):
    stream: StreamId


class Clock(Control, frozen=True, tag="Clock"):
    stream: StreamId
    timestamp: Annotated[int, Meta(ge=0, le=2**32 - 1)]
    ntp_ms: Annotated[float, Meta(ge=0)]


class Muted(Control, frozen=True, tag="Muted"):
    stream: StreamId
    muted: bool


class Queue(Control, frozen=True, tag="Queue"):
    level: Literal["all", "low", "audio"]


class MediaState(Control, frozen=True, tag="MediaState"):
    """The gateway's transport to the SFU on the browser's behalf."""

    direction: Literal["publish", "subscribe"]
    state: Literal["new", "connecting", "connected", "failed"]


ControlMessage: TypeAlias = (
    OpenPath
    | PathOpened
    | PathRefused
    | ClosePath
    | Authorise
    | Authorised
    | AuthorisationRefused
    | OpenTrack
    | CloseTrack
    | TrackOpened
    | TrackClosed
    | KeyFrame
    | Clock
    | Muted
    | Queue
    | MediaState
)
_decoder: Final = msgspec.json.Decoder(ControlMessage)
_encode: Final = msgspec.json.Encoder().encode


def decode(payload: bytes) -> ControlMessage:
    """Raises ProtocolError `bad-control`."""
    if len(payload) > MAX_CONTROL:
        raise ProtocolError("bad-control", "the message is too long")
    try:
        message: ControlMessage = _decoder.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("bad-control", str(error)[:200]) from None
    return message


def encode(message: ControlMessage) -> bytes:
    return _encode(message)
