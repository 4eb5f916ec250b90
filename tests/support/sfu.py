"""An SFU worker in this process, a control link to it, and aiortc peers that publish to it and subscribe from it."""

import asyncio
import fractions
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Protocol

import aiohttp
import aioice.ice
import msgspec
from aiortc import (
    MediaStreamTrack,
    RTCBundlePolicy,
    RTCConfiguration,
    RTCDataChannel,
    RTCPeerConnection,
    RTCSessionDescription,
)
from aiortc.mediastreams import AudioStreamTrack, MediaStreamError
from av import VideoFrame

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.media.dtls import AiortcEndpoints
from conference.adapters.media.reference import ReferenceEngine
from conference.adapters.memory.nodes import MemoryMediaNodes
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.signing_keys import MemorySigningKeys
from conference.adapters.system import SystemClock, SystemIds
from conference.ports.forwarding import ForwardingEngine
from conference.ports.presence import MediaNodes
from conference.protocol import control
from conference.protocol.envelope import Codec, Message, encode
from conference.protocol.messages import Kind, Payload, Role, Source, TrackInfo
from media_workers.sfu.wiring import random_source
from media_workers.sfu.worker import Worker, WorkerConfig, WorkerPorts
from tests.support.waiting import eventually

# aiortc never uses loopback by itself; tests use nothing else.
aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]

_LOG = logging.getLogger(__name__)
CODEC = Codec(control.FROM_SFU)
ISSUER = "http://parley.test"


class Sfu:
    """A started worker and what it was built from."""

    def __init__(
        self,
        *,
        tokens: JwtTokens | None = None,
        nodes: MediaNodes | None = None,
        engine: ForwardingEngine | None = None,
        **overrides: Any,
    ) -> None:
        signing = MemorySigningKeys(SystemIds())
        self.tokens = tokens or JwtTokens(issuer=ISSUER, keys=OwnPublicKeys(signing), signing=signing)
        self.nodes = nodes or MemoryMediaNodes(time.monotonic)
        self.engine: Any = engine or ReferenceEngine("127.0.0.1", 0, time.monotonic)
        config = WorkerConfig(
            node_id="sfu-test",
            region="test",
            host="127.0.0.1",
            port=0,
            capacity=100,
            candidates=lambda port: (("127.0.0.1", port),),
            control_url=lambda port: f"ws://127.0.0.1:{port}/control",
            drain_s=0.2,
        )
        ports = WorkerPorts(
            engine=self.engine,
            dtls=AiortcEndpoints(),
            tokens=self.tokens,
            nodes=self.nodes,
            clock=SystemClock(),
            monotonic=time.monotonic,
            chance=random_source(),
        )
        self.worker = Worker(replace(config, **overrides), ports)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.worker.port}"

    @asynccontextmanager
    async def link(self) -> AsyncIterator["ControlLink"]:
        token = await self.tokens.mint_service(subject="signaling", audience="sfu", now=SystemClock().now())
        async with (
            aiohttp.ClientSession() as http,
            http.ws_connect(f"{self.url}/control", headers={"Authorization": f"Bearer {token}"}) as socket,
        ):
            link = ControlLink(socket)
            try:
                yield link
            finally:
                await link.close()


@asynccontextmanager
async def running_sfu(**overrides: Any) -> AsyncIterator[Sfu]:
    sfu = Sfu(**overrides)
    await sfu.worker.start()
    try:
        yield sfu
    finally:
        await sfu.worker.stop()


class Answers(Protocol):
    """Whoever answers the offers of a subscribe transport."""

    async def answer(self, offer: control.Offer) -> None: ...


class ControlLink:
    """The signaling end of a control link. `events` keeps everything that is no reply."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._replies: dict[str, asyncio.Future[Payload]] = {}
        self._count = 0
        self.events: list[Payload] = []
        self.peers: dict[str, Answers] = {}
        self._reader = asyncio.create_task(self._read())
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        for task in (self._reader, *self._tasks):
            task.cancel()
        await asyncio.gather(self._reader, *self._tasks, return_exceptions=True)
        await self._socket.close()

    async def _read(self) -> None:
        async for raw in self._socket:
            message = CODEC.decode(raw.data)
            if message.reply_to is not None:
                self._replies.pop(message.reply_to).set_result(message.payload)
                continue
            self.events.append(message.payload)
            peer = self.peers.get(getattr(message.payload, "participant_id", ""))
            if isinstance(message.payload, control.Offer) and peer is not None:
                task = asyncio.create_task(peer.answer(message.payload))
                self._tasks.add(task)
                task.add_done_callback(self._answered)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        """A peer that went while it was answering is no fault; what it then lacks, its test waits for in vain, and
        finds the reason in the log."""
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _LOG.warning("an offer was not answered", exc_info=error)

    @property
    def is_closed(self) -> bool:
        return self._reader.done()

    async def send_raw(self, text: str) -> None:
        await self._socket.send_str(text)

    async def ask(self, payload: Payload) -> Payload:
        self._count += 1
        identifier = str(self._count)
        future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
        self._replies[identifier] = future
        await self._socket.send_str(encode(Message(type(payload).__name__, payload, id=identifier)))
        async with asyncio.timeout(10):  # asyncio.wait_for would lose a cancellation that comes with the answer
            return await future

    def of(self, kind: type[Payload], **fields: Any) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind) and all(getattr(e, k) == v for k, v in fields.items())]

    async def until(self, kind: type[Payload], *, within_s: float = 10.0, **fields: Any) -> Any:
        await eventually(lambda: bool(self.of(kind, **fields)), within_s=within_s)
        return self.of(kind, **fields)[0]


def error_code(reply: Payload) -> str:
    """The code of a ControlError, or "ok"."""
    return reply.code if isinstance(reply, control.ControlError) else "ok"


def lose_media(sfu: Sfu, *, every: int) -> None:
    """From now on every n-th video packet is lost on its way in, and every n-th datagram on its way out."""
    engine, counts = sfu.engine, {"in": 0, "out": 0}
    receive, send = engine.core.mover.receive, engine.core.state.send

    def lossy_receive(transport: Any, data: bytes, now: float) -> None:
        counts["in"] += 1
        if counts["in"] % every or len(data) < 100:
            receive(transport, data, now)

    def lossy_send(data: bytes, address: Any) -> None:
        counts["out"] += 1
        if counts["out"] % every or not 128 <= data[0] < 192:
            send(data, address)

    engine.core.mover.receive = lossy_receive
    engine.core.state.send = lossy_send


class Colour(MediaStreamTrack):
    """A moving picture of one shade, at a low rate."""

    kind = "video"

    def __init__(self, shade: int, *, width: int = 160, height: int = 96, fps: int = 15) -> None:
        super().__init__()
        self._shade, self._width, self._height, self._fps = shade, width, height, fps
        self._count = 0
        self._start: float | None = None

    async def recv(self) -> VideoFrame:
        if self.readyState != "live":
            raise MediaStreamError
        loop = asyncio.get_running_loop()
        self._start = self._start if self._start is not None else loop.time()
        await asyncio.sleep(max(0.0, self._start + self._count / self._fps - loop.time()))
        frame = VideoFrame(self._width, self._height, "yuv420p")
        for place, plane in enumerate(frame.planes):
            shade = self._shade if place == 0 else 128
            row = bytearray([shade]) * plane.buffer_size
            row[self._count % plane.line_size] = 255
            plane.update(bytes(row))
        frame.pts = self._count * (90_000 // self._fps)
        frame.time_base = fractions.Fraction(1, 90_000)
        self._count += 1
        return frame


class Received:
    """What arrived on one track: frame times and the mean shade of the last picture."""

    def __init__(self, track: MediaStreamTrack) -> None:
        self.track = track
        self.frames = 0
        self.shade: int | None = None
        self._task = asyncio.create_task(self._consume())

    async def _consume(self) -> None:
        while True:
            try:
                frame = await self.track.recv()
            except MediaStreamError:
                return
            self.frames += 1
            if isinstance(frame, VideoFrame):
                plane = frame.planes[0]
                middle = bytes(plane)[plane.line_size * (plane.height // 2) :][: plane.width]
                self.shade = sum(middle) // len(middle)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class Peer:
    """One participant: a publish and a subscribe connection of aiortc."""

    def __init__(self, link: ControlLink, name: str, room: str = "room", role: Role = "attendee") -> None:
        self.link, self.name, self.room, self.role = link, name, room, role
        self.publish = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        # With another policy aiortc loses the fourth section and those after it.
        bundled = RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE)
        self.subscribe = RTCPeerConnection(bundled)
        self.channel: RTCDataChannel = self.publish.createDataChannel("parley", negotiated=True, id=0)
        self.received: dict[str, Received] = {}
        self.offers: list[control.Offer] = []
        self.negotiations = 0
        self.auto_answer = True
        self._lock = asyncio.Lock()

    async def open(self) -> control.SessionOpened:
        self.link.peers[self.name] = self
        opened = await self.link.ask(
            control.OpenSession(
                room_id=self.room, participant_id=self.name, user_id=f"user-{self.name}", role=self.role
            )
        )
        assert isinstance(opened, control.SessionOpened), opened
        self.transports = {e.direction: e.transport_id for e in opened.endpoints}
        return opened

    def add(self, track: MediaStreamTrack) -> None:
        self.publish.addTransceiver(track, direction="sendonly")

    def infos(self, suffix: str = "") -> list[TrackInfo]:
        infos = []
        for transceiver in self.publish.getTransceivers():
            if transceiver.direction == "sendonly":
                kind: Kind = "video" if transceiver.kind == "video" else "audio"
                source: Source = "camera" if kind == "video" else "microphone"
                infos.append(
                    TrackInfo(
                        track_id=f"{self.name}-{kind}{suffix}", kind=kind, source=source, mid=str(transceiver.mid)
                    )
                )
        return infos

    async def offer(self, *, tracks: list[TrackInfo] | None = None, suffix: str = "") -> Payload:
        """Offers on the publish connection and applies the answer; the reply."""
        await self.publish.setLocalDescription(await self.publish.createOffer())
        self.negotiations += 1
        reply = await self.link.ask(
            control.Offer(
                participant_id=self.name,
                transport_id=self.transports["publish"],
                negotiation_id=self.negotiations,
                sdp=self.publish.localDescription.sdp,
                tracks=self.infos(suffix) if tracks is None else tracks,
            )
        )
        if isinstance(reply, control.Answer):
            await self.publish.setRemoteDescription(RTCSessionDescription(reply.sdp, "answer"))
        return reply

    async def answer(self, offer: control.Offer) -> None:
        """Answers an offer of the SFU on the subscribe connection."""
        self.offers.append(offer)
        if not self.auto_answer:
            return
        async with self._lock:
            await self.subscribe.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            await self.subscribe.setLocalDescription(await self.subscribe.createAnswer())
            reply = await self.link.ask(
                control.Answer(
                    participant_id=self.name,
                    transport_id=offer.transport_id,
                    negotiation_id=offer.negotiation_id,
                    sdp=self.subscribe.localDescription.sdp,
                )
            )
            assert isinstance(reply, control.Ok), reply
            by_mid = {str(info.mid): info.track_id for info in offer.tracks}
            for transceiver in self.subscribe.getTransceivers():
                track_id = by_mid.get(str(transceiver.mid))
                if isinstance(track_id, str) and track_id not in self.received:
                    self.received[track_id] = Received(transceiver.receiver.track)

    async def receives(self, track_id: str, frames: int = 10, *, within_s: float = 15.0) -> Received:
        """Waits until so many more frames of a track were decoded."""
        await eventually(lambda: track_id in self.received, within_s=within_s)
        received = self.received[track_id]
        target = received.frames + frames
        await eventually(lambda: received.frames >= target, within_s=within_s)
        return received

    async def close(self) -> None:
        for received in self.received.values():
            await received.stop()
        await self.publish.close()
        await self.subscribe.close()


@asynccontextmanager
async def peer(link: ControlLink, name: str, *, shade: int | None = None, **options: Any) -> AsyncIterator[Peer]:
    """A peer with an open session; with a shade it publishes picture and sound."""
    made = Peer(link, name, **options)
    try:
        await made.open()
        if shade is not None:
            made.add(AudioStreamTrack())
            made.add(Colour(shade))
            reply = await made.offer()
            assert isinstance(reply, control.Answer), msgspec.to_builtins(reply)
        yield made
    finally:
        await made.close()
