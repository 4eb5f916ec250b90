"""A scripted browser of a frames-session without a tunnel: a FramePeer whose signaling is a control link to an SFU."""

import asyncio
import fractions
import time
from typing import Any, Protocol

import aiohttp
import av
import msgspec
from av import AudioFrame, VideoFrame

from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.srtp import SrtpContext
from conference.adapters.system import SystemIds
from conference.protocol import control
from conference.protocol.messages import ReceiveTrack, TrackInfo
from conference.protocol.packetizing import opus, vp8
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import DISCARDABLE, KEY, Frame, FrameType
from media_workers.sfu.wiring import random_source
from media_workers.tunnel.frames.path import Services
from media_workers.tunnel.frames.peer import FramePeer
from tests.support.sfu import ControlLink
from tests.support.tunnel_client import FrameTunnelClient, Kind, SignalingOverTunnel

FPS = 15


def services() -> Services:
    chance = random_source()
    return Services(AiortcEndpoints(), SrtpContext, time.monotonic, chance.token, chance.number, SystemIds().new)


class PictureEncoder:
    """VP8 pictures of one shade that move, every other one discardable in name only where `layers` is off."""

    def __init__(self, width: int, height: int, shade: int) -> None:
        self.width, self.height, self.shade = width, height, shade
        self.count = 0
        self.wants_key = True
        self._codec: Any = None

    def _open(self) -> Any:
        made: Any = av.CodecContext.create("libvpx", "w")
        made.width, made.height, made.pix_fmt = self.width, self.height, "yuv420p"
        made.time_base = fractions.Fraction(1, FPS)
        made.bit_rate = 200_000
        made.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "g": "100000"}
        return made

    def next(self) -> bytes:
        if self.wants_key or self._codec is None:
            self._codec, self.wants_key = self._open(), False  # a new encoder begins with a key frame
        frame = VideoFrame(self.width, self.height, "yuv420p")
        for place, plane in enumerate(frame.planes):
            row = bytearray([self.shade if place == 0 else 128]) * plane.buffer_size
            row[self.count % plane.line_size] = 255
            plane.update(bytes(row))
        frame.pts, frame.time_base = self.count, fractions.Fraction(1, FPS)
        self.count += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class SoundEncoder:
    """Opus packets of 20 ms."""

    def __init__(self) -> None:
        made: Any = av.CodecContext.create("libopus", "w")
        made.sample_rate, made.layout, made.format = 48_000, "stereo", "s16"
        made.time_base = fractions.Fraction(1, 48_000)
        self._codec = made
        self.count = 0

    def next(self) -> list[bytes]:
        frame = AudioFrame("s16", "stereo", 960)
        wave = bytes((self.count * 7 + place) % 251 for place in range(960 * 4))
        frame.planes[0].update(wave)
        frame.sample_rate, frame.pts = 48_000, self.count * 960
        frame.time_base = fractions.Fraction(1, 48_000)
        self.count += 1
        return [bytes(packet) for packet in self._codec.encode(frame)]


class Arrived:
    """A track that comes down, decoded."""

    def __init__(self, opened: c.TrackOpened) -> None:
        self.opened = opened
        self.frames = self.decoded = 0
        self.keys = 0
        self.shade: int | None = None
        self.size = (0, 0)
        self.level: int | None = None
        self.timestamps: list[int] = []
        self._codec: Any = av.CodecContext.create({"vp8": "vp8", "h264": "h264", "opus": "libopus"}[opened.codec], "r")

    def take(self, frame: Frame) -> None:
        self.frames += 1
        self.timestamps.append(frame.timestamp)
        data = frame.payload
        if frame.type is FrameType.AUDIO:
            found = opus.read(data)
            assert found
            self.level, data = found
        assert self.frames > 1 or frame.type is FrameType.AUDIO or frame.flags & KEY, "begins with a key frame"
        self.keys += frame.flags & KEY
        for picture in self._codec.decode(av.Packet(data)):
            self.decoded += 1
            if isinstance(picture, VideoFrame):
                self.size = (picture.width, picture.height)
                plane = picture.planes[0]
                middle = bytes(plane)[plane.line_size * (plane.height // 2) :][: plane.width]
                self.shade = sum(middle) // len(middle)


class Gateway(Protocol):
    """What takes a browser's controls and frames."""

    def control(self, message: c.ControlMessage) -> None: ...

    def frame(self, frame: Frame) -> None: ...


class FrameMedia:
    """The browser's part: what it sends to a gateway, and what it has been given."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.gateway: Gateway
        self.said: list[c.ControlMessage] = []
        self.arrived: dict[int, Arrived] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._encoders: dict[int, PictureEncoder] = {}

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _control(self, message: c.ControlMessage) -> None:
        self.said.append(message)
        if isinstance(message, c.TrackOpened):
            self.arrived[message.stream] = Arrived(message)
        elif isinstance(message, c.KeyFrame) and message.stream in self._encoders:
            self._encoders[message.stream].wants_key = True

    def of(self, kind: type[c.ControlMessage]) -> list[Any]:
        return [message for message in self.said if isinstance(message, kind)]

    def _frame(self, frame: Frame) -> None:
        self.arrived[frame.stream].take(frame)

    def track(self, track_id: str) -> Arrived | None:
        return next((one for one in self.arrived.values() if one.opened.track_id == track_id), None)

    def publish(self, shade: int, *, level: int = 0x80 | 20, is_small: bool = False) -> None:
        """Sound, and pictures of two layers, or small ones alone."""
        layers = [c.LayerStream(stream=3, rid="" if is_small else "q", width=160, height=96)]
        if not is_small:
            layers.append(c.LayerStream(stream=5, rid="h", width=320, height=192))
        sound = [c.LayerStream(stream=1)]
        self.gateway.control(
            c.OpenTrack(track_id=f"{self.name}-audio", kind="audio", source="microphone", codec="opus", streams=sound)
        )
        self.gateway.control(
            c.OpenTrack(track_id=f"{self.name}-video", kind="video", source="camera", codec="vp8", streams=layers)
        )
        self._encoders = {one.stream: PictureEncoder(one.width, one.height, shade) for one in layers}
        self._spawn(self._play(level))
        self._spawn(self._film())

    async def _play(self, level: int) -> None:
        encoder, start = SoundEncoder(), time.monotonic()
        for place in range(100_000):
            await asyncio.sleep(max(0.0, start + place * 0.02 - time.monotonic()))
            for packet in encoder.next():
                frame = Frame(FrameType.AUDIO, 1, opus.write(level, packet), 0, place * 960 & 0xFFFFFFFF)
                self.gateway.frame(frame)
            if place % 100 == 0:
                self.gateway.control(c.Clock(stream=1, timestamp=place * 960, ntp_ms=time.time() * 1000))

    async def _film(self) -> None:
        start = time.monotonic()
        for place in range(100_000):
            await asyncio.sleep(max(0.0, start + place / FPS - time.monotonic()))
            for stream, encoder in self._encoders.items():
                data = encoder.next()
                flags = KEY if vp8.is_key_frame(data) else 0
                self.gateway.frame(Frame(FrameType.VIDEO, stream, data, 0, place * 6_000, flags & ~DISCARDABLE))
                if place % 30 == 0:
                    self.gateway.control(c.Clock(stream=stream, timestamp=place * 6_000, ntp_ms=time.time() * 1000))

    async def stop(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class FrameClient(FrameMedia):
    """One participant in frames."""

    def __init__(self, link: ControlLink, name: str, room: str = "room") -> None:
        super().__init__(name)
        self.link, self.room = link, room
        self.errors: list[control.ControlError] = []
        self.peer = FramePeer(self._signal, self._control, self._frame, services(), lambda ip, port: True)
        self.gateway = self.peer
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._has_endpoints = asyncio.Event()
        self._is_closed = False

    async def open(self) -> None:
        self.link.peers[self.name] = self
        opened = await self.link.ask(
            control.OpenSession(
                room_id=self.room, participant_id=self.name, user_id=f"user-{self.name}", role="attendee"
            )
        )
        assert isinstance(opened, control.SessionOpened), opened
        for endpoint in opened.endpoints:
            payload = {"transportId": endpoint.transport_id, "direction": endpoint.direction}
            assert self.peer.signal_from_server({"type": "SfuEndpoint", "payload": payload})
        self._has_endpoints.set()
        self._spawn(self._work())

    def _signal(self, envelope: dict[str, Any]) -> None:
        self._inbox.put_nowait(envelope)

    async def _work(self) -> None:
        while True:
            envelope = await self._inbox.get()
            await _ASK[envelope["type"]](self, envelope)

    async def _offer(self, envelope: dict[str, Any]) -> None:
        asked = envelope["payload"]
        tracks = msgspec.convert(asked["tracks"], list[TrackInfo])
        reply = await self.link.ask(
            control.Offer(
                participant_id=self.name,
                transport_id=asked["transportId"],
                negotiation_id=asked["negotiationId"],
                sdp=asked["sdp"],
                tracks=tracks,
            )
        )
        if isinstance(reply, control.ControlError):
            self.errors.append(reply)
            self.peer.signal_from_server({"type": "Error", "replyTo": envelope["id"], "payload": {"code": reply.code}})
            return
        assert isinstance(reply, control.Answer)
        payload = {
            "sourceUserId": "sfu",
            "transportId": reply.transport_id,
            "negotiationId": reply.negotiation_id,
            "sdp": reply.sdp,
        }
        assert self.peer.signal_from_server({"type": "ReceiveAnswer", "payload": payload})

    async def _answered(self, envelope: dict[str, Any]) -> None:
        payload = envelope["payload"]
        reply = await self.link.ask(
            control.Answer(
                participant_id=self.name,
                transport_id=payload["transportId"],
                negotiation_id=payload["negotiationId"],
                sdp=payload["sdp"],
            )
        )
        assert isinstance(reply, control.Ok), reply

    async def _receive(self, envelope: dict[str, Any]) -> None:
        tracks = msgspec.convert(envelope["payload"]["tracks"], list[ReceiveTrack])
        await self.link.ask(control.SelectTracks(participant_id=self.name, tracks=tracks))

    async def answer(self, offer: control.Offer) -> None:
        """The SFU offers; signaling tells of endpoints first."""
        await self._has_endpoints.wait()
        payload = {
            "sourceUserId": "sfu",
            "transportId": offer.transport_id,
            "negotiationId": offer.negotiation_id,
            "sdp": offer.sdp,
            "tracks": [msgspec.to_builtins(info) for info in offer.tracks],
        }
        if self._is_closed:
            return  # it was offered meanwhile
        assert self.peer.signal_from_server({"type": "ReceiveOffer", "payload": payload})

    async def close(self) -> None:
        self._is_closed = True
        await self.stop()
        await self.peer.close()


_ASK = {"SendOffer": FrameClient._offer, "SendAnswer": FrameClient._answered, "SetReceive": FrameClient._receive}


class TunnelledBrowser(FrameMedia):
    """One participant in frames through a gateway, signaling included."""

    def __init__(self, http: aiohttp.ClientSession, url: str, name: str) -> None:
        super().__init__(name)
        self.tunnel = FrameTunnelClient(http, url)
        self.tunnel.seen, self.tunnel.told = self._frame, self._control
        self.gateway = self.tunnel
        self.signaling: SignalingOverTunnel
        self.joined: dict[str, Any] = {}

    async def join(self, kind: Kind, room: str, token: str) -> None:
        await self.tunnel.open(kind)
        self.signaling = SignalingOverTunnel(self.tunnel)
        await self.signaling.send("JoinRoom", {"roomId": room, "token": token, "capabilities": {"mesh": True}})
        self.joined = await self.signaling.payload("RoomJoined")

    def publish(self, shade: int, *, level: int = 0x80 | 20, is_small: bool = False) -> None:
        for stream in (1, 3, 5):
            self.tunnel.session.open(stream)
        super().publish(shade, level=level, is_small=is_small)

    async def close(self) -> None:
        await self.stop()
        await self.signaling.close()
