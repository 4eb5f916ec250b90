"""A session of the HTTP tunnel's datagram mode: stream 0 and UDP payloads, over a wire that may change in mid-call.

A wire that ends or falls silent is followed by another one, of the same kind first, then of the others; the session
ends only when the gateway says so or no wire is to be had for 25 s (it waits 30). Nothing that the call is made of
notices: stream 0 says again what was not acknowledged, datagrams that were lost are repaired by RTP.
"""

import asyncio
import itertools
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import ClassVar, Final

import aiohttp

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType
from conference.protocol.tunnel.session import ControlCame, Media, Signal, TunnelSession
from parley_client.errors import WayFailed
from parley_client.signaling import Signaling
from parley_client.wires import KINDS, OVER, Kind, Wire

ROOM: Final = 65_536
MAX_MESSAGES: Final = 1_024  # of signaling, not yet read
TICK_S: Final = 0.5
PING_S: Final = 4.0
SILENT_S: Final = 12.0
CHANGE_S: Final = 5.0
RECOVER_S: Final = 25.0
AGAIN_S: Final = 0.5
ROTATE_S: Final = 12_600.0  # Front Door ends a WebSocket after four hours
REQUEST_S: Final = 10.0


class TunnelClient:
    """`messages` are those of signaling; `closed` is set, with `code` and `why`, when the session is over.

    `heard` is called with the stream and each datagram, `changed` with the kind of each new wire in mid-call, `over`
    with the reason when the session is over."""

    MODE: ClassVar[str] = "datagrams"

    def __init__(
        self, http: aiohttp.ClientSession, url: str, *, text: bool = False, kinds: Sequence[Kind] = KINDS
    ) -> None:
        """`text`: base64, for proxies that mangle binary. `kinds`: the wires that may follow one that fails."""
        self._http, self._url, self._kinds = http, url.rstrip("/"), tuple(kinds)
        self.text = text
        self.session = TunnelSession()
        self.id = self.secret = ""
        self.messages: asyncio.Queue[str] = asyncio.Queue(MAX_MESSAGES)
        self.paths: dict[int, asyncio.Future[str]] = {}
        self.heard: Callable[[int, bytes], None] = lambda stream, data: None
        self.changed: Callable[[Kind], None] = lambda kind: None
        self.over: Callable[[str], None] = lambda why: None
        self.closed = asyncio.Event()
        self.code = 0
        self.why = ""
        self.kind: Kind | None = None
        self._wake = asyncio.Event()
        self._lost = asyncio.Event()
        self._current: Wire | None = None
        self._wire: list[asyncio.Task[None]] = []
        self._old: list[asyncio.Task[None]] = []
        self._speaking = 0
        self._numbers = itertools.count(1)
        self._streams = itertools.count(1, 2)
        self._authorising: asyncio.Future[str] | None = None
        self._changing = asyncio.Lock()
        self._keeping: asyncio.Task[None] | None = None
        self._heard_at = self._pinged_at = self._began_at = 0.0

    @property
    def sessions(self) -> str:
        return f"{self._url}/v1/tunnel/sessions"

    @property
    def base(self) -> str:
        return f"{self.sessions}/{self.id}"

    async def open(self, kind: Kind, token: str | None = None) -> None:
        """Makes the session and its first wire. With a tunnel `token` it carries media alone: signaling is elsewhere,
        and named the nodes in the token. Raises WayFailed."""
        limit = aiohttp.ClientTimeout(total=REQUEST_S)
        wanted = {"mode": self.MODE} if token is None else {"mode": self.MODE, "token": token}
        try:
            async with self._http.post(self.sessions, json=wanted, timeout=limit) as answer:
                made = await answer.json(content_type=None)
                if answer.status != 201:
                    raise WayFailed(f"the tunnel gateway answers {answer.status} {_code(made)}".rstrip())
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise WayFailed(f"the tunnel gateway does not answer: {type(error).__name__}") from None
        try:
            self.id, self.secret = str(made["sessionId"]), str(made["resumeSecret"])
        except (KeyError, TypeError):
            raise WayFailed("the tunnel gateway's answer cannot be read") from None
        await self.change(kind)
        self._keeping = asyncio.create_task(self._keep())

    # --- wires ---
    async def change(self, kind: Kind) -> None:
        """Carries the session on by another wire. The former one is heard until this one is there, and says nothing
        from the moment on in which this one says again what may be lost. Raises WayFailed: then all is as it was."""
        async with self._changing:
            wire = Wire(self._http, self, kind, next(self._numbers))
            wire.start()
            try:
                async with asyncio.timeout(CHANGE_S):
                    await wire.started
            except BaseException as error:
                wire.cancel()
                self._old += wire.tasks
                if isinstance(error, TimeoutError):
                    raise WayFailed(f"the tunnel's {kind} wire does not start within {CHANGE_S:g} s") from None
                raise
            self._take_over(wire)

    def _take_over(self, wire: Wire) -> None:
        former, self._current = self._current, wire
        self._old = [task for task in [*self._old, *self._wire] if not task.done()]
        self._wire = wire.tasks
        self.kind = wire.kind
        self._speaking = wire.number
        self._began_at = self._heard_at = asyncio.get_running_loop().time()
        self._lost.clear()
        self.session.attach()
        if former is not None:
            former.cancel()
        self._wake.set()

    async def spoken(self, number: int) -> list[Frame]:
        """What the wire of that number is to say now; waits for something. Nothing, once another one speaks."""
        loop = asyncio.get_running_loop()
        while self._speaking <= number:
            if self._speaking == number and (frames := self.session.outgoing(loop.time(), ROOM)):
                return frames
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):  # acknowledgements are due by time
                    await self._wake.wait()
        return []

    def wire_ended(self, wire: Wire, code: int, why: str) -> None:
        """The end of the session, or of the wire that speaks, or of one that nobody needs any more."""
        if code in OVER or code == 4409:
            self._finish(code, why)
        elif wire is self._current:
            self._lost.set()

    def _finish(self, code: int, why: str) -> None:
        if not self.closed.is_set():
            self.code, self.why = code, why
            self.closed.set()
            for path in self.paths.values():
                if not path.done():
                    path.set_result("ended")
            if self._authorising is not None and not self._authorising.done():
                self._authorising.set_result("ended")
            self.over(why)

    async def _keep(self) -> None:
        """Sees to it that there is a wire, for as long as the session lives."""
        while not self.closed.is_set():
            try:
                async with asyncio.timeout(TICK_S):
                    await self._lost.wait()
            except TimeoutError:
                await self._tick(asyncio.get_running_loop().time())
            else:
                await self._recover()

    async def _tick(self, now: float) -> None:
        if now - self._heard_at > SILENT_S:
            self._lost.set()
        elif now - self._began_at > ROTATE_S and self.kind is not None:
            with suppress(WayFailed):
                await self.change(self.kind)
            self._began_at = now
        elif now - self._pinged_at > PING_S:
            self._pinged_at = now
            self.session.ping(now)
            self._wake.set()

    async def _recover(self) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + RECOVER_S
        failures: list[str] = []
        while loop.time() < until and not self.closed.is_set():
            for kind in self._following():
                try:
                    await self.change(kind)
                except WayFailed as failed:
                    failures.append(str(failed))
                    if self.closed.is_set():
                        return
                else:
                    self.changed(kind)
                    return
            await asyncio.sleep(AGAIN_S)
        self._finish(1006, failures[-1] if failures else "the wire is gone")

    def _following(self) -> tuple[Kind, ...]:
        """The kind that there was, those below it, those above it."""
        if self.kind not in self._kinds:
            return self._kinds
        place = self._kinds.index(self.kind)
        return self._kinds[place:] + self._kinds[:place]

    # --- what comes ---
    def take(self, frames: list[Frame]) -> None:
        """Raises ProtocolError: the wire that brought them is to be ended."""
        now = self._heard_at = asyncio.get_running_loop().time()
        for frame in frames:
            for event in self.session.receive(frame, now):
                if isinstance(event, Signal):
                    self._message(event.text.decode(errors="replace"))
                elif isinstance(event, ControlCame):
                    self._control(event.message)
                elif isinstance(event, Media):
                    self._media(event.frame)
        self._wake.set()

    def _message(self, text: str) -> None:
        try:
            self.messages.put_nowait(text)
        except asyncio.QueueFull:
            self._finish(1013, "the messages are not read")

    def _media(self, frame: Frame) -> None:
        self.heard(frame.stream, frame.payload)

    def _control(self, message: c.ControlMessage) -> None:
        if isinstance(message, c.PathOpened | c.PathRefused):
            refusal = message.code if isinstance(message, c.PathRefused) else ""
            if refusal:
                self.session.close(message.stream)
            path = self.paths.get(message.stream)
            if path is not None and not path.done():
                path.set_result(refusal)
        elif isinstance(message, c.Authorised | c.AuthorisationRefused):
            refusal = message.code if isinstance(message, c.AuthorisationRefused) else ""
            if self._authorising is not None and not self._authorising.done():
                self._authorising.set_result(refusal)

    # --- what goes ---
    def signal(self, text: str) -> None:
        """Raises ConnectionError where the session is over."""
        try:
            self.session.signal(text.encode())
        except ProtocolError as error:
            self._finish(1013, str(error))
        if self.closed.is_set():
            raise ConnectionError(self.why)
        self._wake.set()

    def datagram(self, stream: int, data: bytes) -> None:
        """One UDP payload, at most 1,500 bytes."""
        self.session.media(Frame(FrameType.DATAGRAM, stream, data), asyncio.get_running_loop().time())
        self._wake.set()

    async def path(self, ip: str, port: int) -> tuple[int, str]:
        """The stream of a new path, and "" or the code of why there is none. Raises TimeoutError."""
        stream = next(self._streams)
        self.paths[stream] = asyncio.get_running_loop().create_future()
        self.session.open(stream)
        self.control(c.OpenPath(stream=stream, ip=ip, port=port))
        async with asyncio.timeout(REQUEST_S):
            return stream, await self.paths[stream]

    async def authorise(self, token: str) -> None:
        """Another tunnel token: from now on new paths lead to the nodes that it names. Raises WayFailed."""
        self._authorising = asyncio.get_running_loop().create_future()
        self.control(c.Authorise(token=token))
        try:
            async with asyncio.timeout(REQUEST_S):
                refusal = await self._authorising
        except TimeoutError:
            refusal = "no answer"
        if refusal:
            raise WayFailed(f"the tunnel gateway refuses the token: {refusal}")

    def close_path(self, stream: int) -> None:
        """The gateway's socket goes. What was on its way is still taken and given to nobody."""
        if self.paths.pop(stream, None) is not None:
            self.control(c.ClosePath(stream=stream))

    def control(self, message: c.ControlMessage) -> None:
        """A session that is too far behind ends."""
        try:
            self.session.control(message)
        except ProtocolError as error:
            self._finish(1013, str(error))
        self._wake.set()

    async def close(self) -> None:
        """Ends the session, as by Leave."""
        tasks = [task for task in (self._keeping, *self._wire, *self._old) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._finish(1000, "closed")
        if not self.id:
            return
        headers = {"Authorization": f"Bearer {self.secret}"}
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with self._http.delete(self.base, headers=headers, timeout=aiohttp.ClientTimeout(total=3.0)):
                pass


def _code(document: object) -> str:
    return str(document.get("code", "")) if isinstance(document, dict) else ""


class SignalingOverTunnel(Signaling):
    """The signaling connection as stream 0 of a tunnel session."""

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel
        super().__init__()

    @property
    def close_code(self) -> int | None:
        return self._tunnel.code or None

    async def send_text(self, text: str) -> None:
        self._tunnel.signal(text)

    async def _close_carrier(self) -> None:
        await self._tunnel.close()

    async def _next(self) -> str | None:
        """What came before the end is still given."""
        ended = asyncio.create_task(self._tunnel.closed.wait())
        came = asyncio.create_task(self._tunnel.messages.get())
        try:
            await asyncio.wait((ended, came), return_when=asyncio.FIRST_COMPLETED)
            return came.result() if came.done() else None
        finally:
            ended.cancel()
            came.cancel()
