"""A frames-session's WebRTC client: takes the SFU's messages out of signaling, and frames to RTP and back.

The gateway hands in what passes on stream 0 and what the browser's streams carry; it is handed what goes to signaling
and to the browser. Everything is bounded by the numbers of tracks and sections, and `close` gives all sockets back.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from conference.domain.errors import ProtocolError
from conference.protocol.messages import SFU
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame
from conference.protocol.tunnel.queue import Level
from media_workers.tunnel.frames.downlink import Downlink
from media_workers.tunnel.frames.path import MediaPath, PathState, Services
from media_workers.tunnel.frames.receive_level import CODECS, limited
from media_workers.tunnel.frames.uplink import Uplink

TICK_S: Final = 0.02
RETIRE_S: Final = 10.0
Envelope = dict[str, Any]
_OF_MEDIA: Final = frozenset({"SendOffer", "SendAnswer", "SendIceCandidate"})


class FramePeer:
    """`allows` says whether an address is a media node's. `opened` and `closed` in `stream_changed` are the browser's
    streams, so that the session takes frames on them. Methods raise ProtocolError for what a browser may not say."""

    def __init__(
        self,
        send_signal: Callable[[Envelope], None],
        send_control: Callable[[c.ControlMessage], None],
        send_frame: Callable[[Frame], None],
        services: Services,
        allows: Callable[[str, int], bool],
        stream_changed: Callable[[int, bool], None] = lambda stream, is_open: None,
    ) -> None:
        self._send_signal = send_signal
        self._send_control = send_control
        self._send_frame = send_frame
        self._services = services
        self._allows = allows
        self._stream_changed = stream_changed
        self._uplink = Uplink(
            services, allows, send_signal, send_control, lambda state: self._said("publish", state), self._retire_path
        )
        self._downlink: Downlink | None = None
        self._former: tuple[Downlink, float] | None = None
        self._wished: Envelope | None = None  # the browser's last SetReceive
        self._level: Level = "all"
        self._touched: set[str] = set()  # videos that a level limited
        self._streams = 0
        self._ticking: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._is_closed = False
        self.states: dict[str, PathState] = {"publish": "new", "subscribe": "new"}
        self.refused = 0  # messages of the SFU that could not be read

    # --- signaling ---
    def signal_from_server(self, envelope: Envelope) -> bool:
        """True where the message is the gateway's and does not go on to the browser."""
        take = _FROM_SERVER.get(str(envelope.get("type")))
        payload = envelope.get("payload")
        if take is None or self._is_closed or not isinstance(payload, dict):
            return False
        try:
            return take(self, payload, envelope)
        except ProtocolError:
            self.refused += 1
            return True

    def _endpoint(self, payload: Envelope, envelope: Envelope) -> bool:
        self._start()
        identifier = str(payload.get("transportId", ""))
        if payload.get("direction") == "publish":
            self._uplink.endpoint(identifier)
        elif self._downlink is None or self._downlink.transport_id != identifier:
            self._succeed(identifier)
        return True

    def _succeed(self, transport_id: str) -> None:
        """A new subscribe transport; the former one plays until it is up."""
        self._drop_former()
        if self._downlink is not None:
            self._former = (self._downlink, self._services.clock())
        self._downlink = Downlink(
            transport_id,
            self._services,
            self._allows,
            self._send_signal,
            self._send_control,
            self._send_frame,
            self._changed,
            self._new_stream,
        )
        self._repeat()

    def _new_stream(self) -> int:
        lines = (self._downlink, self._former[0] if self._former else None)
        used = set().union(*(line.streams for line in lines if line is not None))
        while True:
            self._streams = self._streams % 65_534 + 2
            if self._streams not in used:
                return self._streams

    def _changed(self, line: Downlink, state: PathState) -> None:
        if line is self._downlink:
            if state in {"connected", "failed"}:
                self._drop_former()
            self._said("subscribe", state)

    def _drop_former(self) -> None:
        if self._former is not None:
            former, self._former = self._former[0], None
            self._spawn(former.close())

    def _offered(self, payload: Envelope, envelope: Envelope) -> bool:
        if payload.get("sourceUserId") != SFU:
            return False
        lines = (self._downlink, self._former[0] if self._former else None)
        for line in lines:
            if line is not None and line.transport_id == payload.get("transportId"):
                line.offered(payload)
        return True

    def _answered(self, payload: Envelope, envelope: Envelope) -> bool:
        if payload.get("sourceUserId") != SFU:
            return False
        self._uplink.answered(payload)
        return True

    def _candidate(self, payload: Envelope, envelope: Envelope) -> bool:
        if payload.get("sourceUserId") != SFU:
            return False
        if not self._uplink.candidate(payload) and self._downlink is not None:
            self._downlink.candidate(payload)
        return True

    def _joined(self, payload: Envelope, envelope: Envelope) -> bool:
        self._uplink.epoch = int(payload.get("epoch", 0))  # an offer of another one is refused
        if envelope.get("type") == "Resumed":
            self._uplink.resend()
            self._repeat()
        return False

    def _failed(self, payload: Envelope, envelope: Envelope) -> bool:
        self._uplink.refused(envelope.get("replyTo"), retryable=payload.get("retryable") is True)
        return False

    def signal_from_client(self, envelope: Envelope) -> Envelope | None:
        """What goes to signaling; None for what the gateway does itself."""
        kind, payload = envelope.get("type"), envelope.get("payload")
        if not isinstance(payload, dict):
            return envelope
        if kind in _OF_MEDIA and payload.get("targetUserId") == SFU:
            return None
        if kind == "JoinRoom":
            return {**envelope, "payload": _as_frames(payload)}
        if kind == "SetReceive":
            self._wished = payload
            return {**envelope, "payload": self._limited()}
        return envelope

    # --- levels ---
    def downlink_level(self, level: Level) -> None:
        """What the queue to the browser allows."""
        if level != self._level:
            self._level = level
            self._repeat()
            self._send_control(c.Queue(level=level))

    def _limited(self) -> Envelope:
        """Tracks that the browser never named were limited too: with `all` they are given back, once."""
        videos = self._downlink.video_tracks if self._downlink is not None else []
        touched = self._touched if self._level == "all" else set(videos)
        self._touched = set() if self._level == "all" else touched
        return limited(self._wished or {"tracks": []}, self._level, sorted(touched.intersection(videos)))

    def _repeat(self) -> None:
        wish = self._limited()
        if wish["tracks"]:
            self._send_signal({"type": "SetReceive", "payload": wish})

    # --- the browser's side ---
    def control(self, message: c.ControlMessage) -> None:
        """Raises ProtocolError `bad-control`."""
        take = _CONTROLS.get(type(message))
        if take is None:
            raise ProtocolError("bad-control", "this session carries frames")
        take(self, message)

    def _open_track(self, message: Any) -> None:
        self._uplink.open(message)
        for layer in message.streams:
            self._stream_changed(layer.stream, True)

    def _close_track(self, message: Any) -> None:
        for stream in self._uplink.close_track(message):
            self._stream_changed(stream, False)

    def _key_frame(self, message: Any) -> None:
        if self._downlink is not None:
            self._downlink.key_frame(message.stream)

    def frame(self, frame: Frame, lost: int = 0) -> None:
        """`lost` frames of the stream did not come before it. Raises ProtocolError `bad-frame`."""
        self._uplink.frame(frame, lost)

    def drop(self, frame: Frame) -> None:
        """More than the session may send."""
        self._uplink.drop(frame)

    # --- time and end ---
    def _start(self) -> None:
        if self._ticking is None:
            self._ticking = asyncio.get_running_loop().create_task(self._tick())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            now = self._services.clock()
            self._uplink.tick(now)
            if self._downlink is not None:
                self._downlink.tick(now)
            if self._former is not None:
                self._former[0].tick(now)
                if now - self._former[1] > RETIRE_S:
                    self._drop_former()

    def _said(self, direction: str, state: PathState) -> None:
        self.states[direction] = state
        if state != "closed" and not self._is_closed:
            self._send_control(c.MediaState(direction=direction, state=state))  # type: ignore[arg-type]

    def _retire_path(self, path: MediaPath) -> None:
        self._spawn(path.close())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Ends all transports."""
        self._is_closed = True
        if self._ticking is not None:
            self._ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticking
        await self._uplink.close()
        self._drop_former()
        if self._downlink is not None:
            await self._downlink.close()
        await asyncio.gather(*self._closing, return_exceptions=True)


def _as_frames(payload: Envelope) -> Envelope:
    """JoinRoom of a browser in a tunnel: no mesh, and no codec that does not travel in frames."""
    known = payload.get("capabilities")
    capabilities = dict(known) if isinstance(known, dict) else {}
    codecs = capabilities.get("codecs")
    named = {str(name).lower() for name in codecs} if isinstance(codecs, list) else set()
    wanted = [name for name in CODECS if name.lower() in named or name == "opus"]
    if len(wanted) == 1:  # it names no picture that travels in frames
        wanted = list(CODECS)
    return {**payload, "capabilities": {**capabilities, "codecs": wanted, "mesh": False, "dataChannel": False}}


_FROM_SERVER: Final[dict[str, Callable[[FramePeer, Envelope, Envelope], bool]]] = {
    "SfuEndpoint": FramePeer._endpoint,
    "ReceiveOffer": FramePeer._offered,
    "ReceiveAnswer": FramePeer._answered,
    "IceCandidate": FramePeer._candidate,
    "RoomJoined": FramePeer._joined,
    "Resumed": FramePeer._joined,
    "SwitchTopology": FramePeer._joined,
    "Error": FramePeer._failed,
}
_CONTROLS: Final[dict[type[c.ControlMessage], Callable[[FramePeer, Any], None]]] = {
    c.OpenTrack: FramePeer._open_track,
    c.CloseTrack: FramePeer._close_track,
    c.KeyFrame: FramePeer._key_frame,
    c.Clock: lambda peer, message: peer._uplink.clock(message),
    c.Muted: lambda peer, message: peer._uplink.mute(message),
    c.Queue: lambda peer, message: None,  # the browser gives up layers by itself; it only tells
}
