"""A session on the gateway: its stream 0, its upstream, its paths, and the one wire that carries what goes down.

One that began by a tunnel token has no upstream: its client is connected to signaling by another way, and stream 0
carries control messages alone.
"""

import asyncio
import contextlib
import hashlib
import hmac
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec

from conference import tasks
from conference.domain.claims import TunnelClaims
from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType
from conference.protocol.tunnel.session import ControlCame, Event, Heard, Media, Signal, TunnelSession
from media_workers.tunnel import ends
from media_workers.tunnel.ends import End, Ended
from media_workers.tunnel.frames.path import Services
from media_workers.tunnel.frames.peer import FramePeer
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.paths import Paths
from media_workers.tunnel.upstream import Upstream

IDLE_S: Final = 30.0
JOIN_S: Final = 30.0
PING_S: Final = 20.0
WIRE_ROOM: Final = 16_384
LAST_ROOM: Final = 65_536
NO_MEDIA_S: Final = 30.0  # what an SFU takes to give up on somebody who is not there
Admit = Callable[[str, TunnelClaims], Awaitable[TunnelClaims]]


def hashed(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


class Wire:
    """What is attached now. `replaced` is set when another one takes over, or the session ends."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.answers = 0  # of a wire that is polled
        self.answered_at = -math.inf
        self.replaced = asyncio.Event()
        self.end: End = ends.REPLACED


class GatewaySession:
    """`over` is called once, when the session has ended. `claims` are those of the tunnel token that it began by, and
    `admit` takes another one of the same participant; it raises Ended."""

    def __init__(
        self,
        session_id: str,
        secret: str,
        address: str,
        metrics: Metrics,
        over: Callable[["GatewaySession"], None],
        frames: Services | None = None,
        claims: TunnelClaims | None = None,
        admit: Admit | None = None,
    ) -> None:
        now = asyncio.get_running_loop().time()
        self.id = session_id
        self.address = address
        self.tunnel = TunnelSession()
        self.paths = Paths(self._datagram, now)
        self.upstream: Upstream | None = None
        self.end: End | None = None
        self._secret = hashed(secret)
        self._metrics = metrics
        self._over = over
        self._wire: Wire | None = None
        self._wake = asyncio.Event()
        self._began = now
        self._heard_at = now
        self._pinged_at = now
        self.claims = claims
        self._admit = admit
        self._is_authorising = False
        self._answered_at = now  # by a media node
        self._is_joined = claims is not None
        self.paths.allow_only(claims.nodes if claims is not None else ())
        self._opening: set[asyncio.Task[None]] = set()
        self._peer: FramePeer | None = None
        if frames is not None:
            self._peer = FramePeer(self._ask, self._say, self._frame, frames, self.paths.allows, self._stream_changed)
        self._counted = dict.fromkeys(self.tunnel.queue.dropped, 0)

    def knows(self, secret: str) -> bool:
        return hmac.compare_digest(self._secret, hashed(secret))

    # --- upstream ---
    def joined(self) -> None:
        self._is_joined = True

    def told(self, text: bytes) -> None:
        """A message of signaling goes down, unless it is for the gateway."""
        if self._peer is not None:
            envelope = _envelope(text)
            if envelope is not None and self._peer.signal_from_server(envelope):
                return
        try:
            self.tunnel.signal(text)
        except ProtocolError as error:
            self.finish(ends.of_protocol(error.code))
        self._wake.set()

    def signaling_ended(self, close_code: int) -> None:
        """The session ends as signaling has: with its own code where it decided, else since it is away."""
        if close_code < 4000:
            self.finish(ends.ENDED if close_code == 1000 else ends.SIGNALING_AWAY)
        else:
            self.finish(End(ends.ENDED.code, close_code, ends.ENDED.status, ends.ENDED.text))

    # --- wires ---
    def attach(self, wire: Wire) -> None:
        """From now on this wire carries what goes down; the former one ends."""
        if self._wire is not None:
            self._wire.replaced.set()
        self._wire = wire
        self._metrics.wires.labels(wire.kind).inc()
        self.tunnel.attach()
        self.touch()
        self._wake.set()

    def detach(self, wire: Wire) -> None:
        if self._wire is wire:
            self._wire = None
            self.touch()

    def bad_wire(self) -> None:
        """A wire carried what is no frame."""
        if self.tunnel.bad_wire():
            self.finish(ends.BAD_FRAME)

    def touch(self) -> None:
        self._heard_at = asyncio.get_running_loop().time()

    async def outgoing(self, wire: Wire, wait_s: float) -> list[Frame]:
        """What is to go now by this wire; waits for something, at most so long. Nothing once it is replaced."""
        loop = asyncio.get_running_loop()
        until = loop.time() + wait_s
        while not wire.replaced.is_set():
            frames = self.tunnel.outgoing(loop.time(), WIRE_ROOM)
            self._relieve()
            self._count()
            if frames:
                self._metrics.bytes.labels("down").inc(sum(frame.size for frame in frames))
                return frames
            self._wake.clear()
            ack_at = self.tunnel.reliable.ack_at
            due = min(until, ack_at) if ack_at is not None else until
            if loop.time() >= until:
                return []
            await self._sleep(max(0.001, due - loop.time()))
        return []

    def rest(self, wire: Wire) -> list[Frame]:
        """What the session's last wire carries before it ends: signaling's last words, of why it has ended."""
        if self.end is None or self._wire is not wire:
            return []
        self._wire = None
        return self.tunnel.outgoing(asyncio.get_running_loop().time(), LAST_ROOM, media=False)

    async def _sleep(self, seconds: float) -> None:
        """Until there may be something; a wire that is replaced or ended is woken too."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _count(self) -> None:
        for kind, count in self.tunnel.queue.dropped.items():
            if count != self._counted[kind]:
                self._metrics.died(kind, count - self._counted[kind])
                self._counted[kind] = count

    # --- what comes up ---
    def receive(self, frames: list[Frame]) -> None:
        """Raises ProtocolError where one is no frame of this session; the wire is to be ended then."""
        self.touch()
        now = asyncio.get_running_loop().time()
        self._metrics.bytes.labels("up").inc(sum(frame.size for frame in frames))
        for frame in frames:
            for event in self.tunnel.receive(frame, now):
                self._take(event, now)
        self._wake.set()

    def _take(self, event: Event, now: float) -> None:
        if isinstance(event, Signal):
            self._signal(event.text)
        elif isinstance(event, ControlCame):
            self._peer_control(event.message) if self._peer is not None else self._control(event.message)
        elif isinstance(event, Media) and self._peer is not None:
            if self.paths.up.take(event.frame.size, now):
                self._peer.frame(event.frame, event.lost)
            else:
                self._peer.drop(event.frame)
        elif isinstance(event, Media) and event.frame.type is FrameType.DATAGRAM:
            self.paths.send(event.frame.stream, event.frame.payload, now)
        elif not isinstance(event, Heard):
            raise ProtocolError("bad-frame", "this session carries datagrams")

    def _signal(self, text: bytes) -> None:
        if self.claims is not None:
            raise ProtocolError("bad-frame", "this session has no signaling")
        if self._peer is not None and (envelope := _envelope(text)) is not None:
            passed = self._peer.signal_from_client(envelope)
            if passed is None:
                return
            text = text if passed is envelope else msgspec.json.encode(passed)
        if self.upstream is None or not self.upstream.send(text):
            self.finish(ends.SIGNALING_AWAY)

    # --- frames ---
    def _peer_control(self, message: c.ControlMessage) -> None:
        assert self._peer is not None
        if not self._is_joined:
            raise ProtocolError("bad-control", "join first")
        self._peer.control(message)

    def _ask(self, envelope: dict[str, Any]) -> None:
        """The gateway's own message to signaling."""
        if self.upstream is None or not self.upstream.send(msgspec.json.encode(envelope)):
            self.finish(ends.SIGNALING_AWAY)

    def _frame(self, frame: Frame) -> None:
        if self.end is None:
            self.tunnel.media(frame, asyncio.get_running_loop().time())
            self._wake.set()

    def _stream_changed(self, stream: int, is_open: bool) -> None:
        (self.tunnel.open if is_open else self.tunnel.close)(stream)

    def _relieve(self) -> None:
        """What the queue gave up is asked for anew, and its age says what is to come."""
        wanted = self.tunnel.key_frames_wanted()
        if self._peer is not None:
            for stream in wanted:
                self._peer.control(c.KeyFrame(stream=stream))
            self._peer.downlink_level(self.tunnel.level)

    def _control(self, message: c.ControlMessage) -> None:
        if isinstance(message, c.OpenPath):
            self._spawn(self._open_path(message))
        elif isinstance(message, c.ClosePath):
            self.paths.close(message.stream)
            self.tunnel.close(message.stream)
        elif isinstance(message, c.Authorise):
            self._authorise(message.token)
        elif not isinstance(message, c.Queue | c.KeyFrame):
            raise ProtocolError("bad-control", "this session carries datagrams")

    def _authorise(self, token: str) -> None:
        if self.claims is None or self._admit is None:
            raise ProtocolError("bad-control", "this session has signaling of its own")
        if self._is_authorising:
            raise ProtocolError("bad-control", "one token at a time")
        self._is_authorising = True
        self._spawn(self._authorised(token, self.claims, self._admit))

    async def _authorised(self, token: str, former: TunnelClaims, admit: Admit) -> None:
        try:
            self.claims = await admit(token, former)
        except Ended as refused:
            self._metrics.refused.labels(refused.end.code).inc()
            self._say(c.AuthorisationRefused(code=refused.end.code))
        else:
            self.paths.allow_only(self.claims.nodes)
            self._say(c.Authorised())
        finally:
            self._is_authorising = False

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_path(self, asked: c.OpenPath) -> None:
        try:
            if not self._is_joined:
                raise ProtocolError("not-joined", "Join first.")
            await self.paths.open(asked.stream, asked.ip, asked.port)
        except ProtocolError as refused:
            self._metrics.refused.labels(refused.code).inc()
            self._say(c.PathRefused(stream=asked.stream, code=refused.code))
        except OSError:
            self._say(c.PathRefused(stream=asked.stream, code="unreachable"))
        else:
            self.tunnel.open(asked.stream)
            self._say(c.PathOpened(stream=asked.stream))

    def _say(self, message: c.ControlMessage) -> None:
        if isinstance(message, c.TrackClosed):
            self.tunnel.queue.forget(message.stream)
        try:
            self.tunnel.control(message)
        except ProtocolError as error:
            self.finish(ends.of_protocol(error.code))
        self._wake.set()

    def _datagram(self, stream: int, data: bytes) -> None:
        now = self._answered_at = asyncio.get_running_loop().time()
        if self.paths.down.take(len(data), now):
            self.tunnel.media(Frame(FrameType.DATAGRAM, stream, data), now)
            self._wake.set()

    # --- time and end ---
    def tick(self, now: float) -> None:
        """Ends what nobody uses; pings who is there. Call it every second."""
        self.tunnel.queue.expire(now)
        self._relieve()
        if self._wire is None and now - self._heard_at > IDLE_S:
            self.finish(ends.IDLE)
        elif not self._is_joined and now - self._began > JOIN_S:
            self.finish(ends.NOT_JOINED)
        elif self.claims is not None and now - self._answered_at > NO_MEDIA_S:
            self.finish(ends.NO_MEDIA)  # the person has left or was removed: their nodes do not know them any more
        elif now - self._heard_at > 2 * PING_S + 5:
            self.finish(ends.IDLE)
        elif now - self._pinged_at >= PING_S:
            self._pinged_at = now
            self.tunnel.ping(now)
            self._wake.set()

    def finish(self, end: End) -> None:
        """Ends the session, once."""
        if self.end is not None:
            return
        self.end = end
        self.paths.close_all()
        self._metrics.ends.labels(end.code).inc()
        if self._wire is not None:
            self._wire.end = end
            self._wire.replaced.set()
            self._wake.set()
        self._over(self)

    async def close(self) -> None:
        await tasks.end(self._opening)
        if self._peer is not None:
            await self._peer.close()
        if self.upstream is not None:
            await self.upstream.close()


def _envelope(text: bytes) -> dict[str, Any] | None:
    """A signaling message as an object; None where it is none, which is signaling's to say."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
