"""A native client of the HTTP tunnel: one session over a WebSocket, a stream or long-poll, changed in mid-call.

Datagrams pass through a UDP socket on loopback for each media node: whoever is given its address instead of the node's
talks to the node through the tunnel, as aiortc does without knowing.
"""

import asyncio
import base64
import contextlib
import itertools
import json
from collections.abc import Callable
from typing import Any, Final, Literal, Self

import aiohttp

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameReader, FrameType, decode_all, encode_all
from conference.protocol.tunnel.session import ControlCame, Media, Signal, TunnelSession
from tests.support.native_client import NativeParticipant
from tests.support.signaling_client import Payload, SignalingClient

Kind = Literal["websocket", "stream", "poll"]
SUBPROTOCOL: Final = "parley.tunnel.v1"
BATCH_S: Final = 0.02
ROOM: Final = 65_536


class TunnelClient:
    """`messages` are queued for `SignalingOverTunnel`; `closed` is set with `code` when the session is over."""

    def __init__(self, http: aiohttp.ClientSession, url: str, *, text: bool = False, mode: str = "datagrams") -> None:
        self._http, self._url, self._text, self._mode = http, url, text, mode
        self.session = TunnelSession()
        self.id = self.secret = ""
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.paths: dict[int, asyncio.Future[str]] = {}
        self.heard: Callable[[int, bytes], None] = lambda stream, data: None
        self.seen: Callable[[Frame], None] = lambda frame: None  # sound and pictures
        self.told: Callable[[c.ControlMessage], None] = lambda message: None
        self.closed = asyncio.Event()
        self.code = 0
        self.kind: Kind | None = None
        self._wake = asyncio.Event()
        self._wire: list[asyncio.Task[None]] = []
        self._old: list[asyncio.Task[None]] = []
        self._speaking = 0
        self._streams = itertools.count(1, 2)

    @property
    def base(self) -> str:
        return f"{self._url}/v1/tunnel/sessions"

    async def open(self, kind: Kind) -> None:
        async with self._http.post(self.base, json={"mode": self._mode}) as answer:
            made = await answer.json()
            assert answer.status == 201, made
        self.id, self.secret = made["sessionId"], made["resumeSecret"]
        await self.change(kind)

    # --- wires ---
    async def change(self, kind: Kind) -> None:
        """Carries the session on by another wire. The former one is heard until this one is there, and says nothing
        from the moment on in which this one says again what may be lost."""
        former, self._wire = self._wire, []
        self.kind = kind
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        run = {"websocket": self._websocket, "stream": self._stream, "poll": self._poll}[kind]
        self._wire = [asyncio.create_task(work) for work in run(started, self._speaking + 1)]
        async with asyncio.timeout(10):
            await started
        self._speaking += 1
        self.session.attach()
        for task in former:
            task.cancel()
        self._old += former
        self._wake.set()

    async def _spoken(self, wire: int) -> list[Frame]:
        """What this wire is to say now; waits for something. Nothing, once another one speaks."""
        while self._speaking <= wire:
            if self._speaking == wire and (frames := self.session.outgoing(asyncio.get_running_loop().time(), ROOM)):
                return frames
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await self._wake.wait()
        return []

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.secret}", **({"Accept": "text/plain"} if self._text else {})}

    def _websocket(self, started: "asyncio.Future[None]", wire: int) -> list[Any]:
        return [self._run_websocket(started, wire)]

    async def _run_websocket(self, started: "asyncio.Future[None]", wire: int) -> None:
        protocols = (SUBPROTOCOL, f"secret.{self.secret}")
        async with self._http.ws_connect(f"{self.base}/{self.id}/ws", protocols=protocols, max_msg_size=0) as socket:
            started.set_result(None)
            sending = asyncio.create_task(self._send(socket.send_bytes, wire))
            try:
                async for message in socket:
                    self._receive(decode_all(message.data))
            finally:
                sending.cancel()
            self._ended(socket.close_code or 1006)

    async def _send(self, out: Callable[[bytes], Any], wire: int) -> None:
        while frames := await self._spoken(wire):
            await out(encode_all(frames))

    def _stream(self, started: "asyncio.Future[None]", wire: int) -> list[Any]:
        return [self._run_stream(started), self._post(f"wire-{wire}", wire)]

    async def _run_stream(self, started: "asyncio.Future[None]") -> None:
        async with self._http.get(f"{self.base}/{self.id}/stream", headers=self._headers) as answer:
            assert answer.status == 200, await answer.text()
            started.set_result(None)
            reader = FrameReader()
            if self._text:
                async for line in answer.content:
                    self._receive(list(reader.feed(base64.b64decode(line))))
            else:
                async for chunk in answer.content.iter_any():
                    self._receive(list(reader.feed(chunk)))

    def _poll(self, started: "asyncio.Future[None]", wire: int) -> list[Any]:
        name, order = f"wire-{wire}", _Order(self._receive)
        polls = [self._run_poll(started, name, order, first=True), self._run_poll(None, name, order)]
        return [*polls, self._post(name, wire)]

    async def _run_poll(
        self, started: "asyncio.Future[None] | None", wire: str, order: "_Order", *, first: bool = False
    ) -> None:
        headers = {**self._headers, "Parley-Wire": wire}
        if not first:
            await asyncio.sleep(0.01)
        while True:
            async with self._http.get(f"{self.base}/{self.id}/poll", headers=headers) as answer:
                body = await answer.read()
                if answer.status != 200:
                    self._ended(answer.status)
                    return
                if started is not None and not started.done():
                    started.set_result(None)
                data = base64.b64decode(body) if self._text else body
                order.take(int(answer.headers["Parley-Batch"]), decode_all(data))

    async def _post(self, name: str, wire: int) -> None:
        """Everything that waits, in batches."""
        content = "text/plain" if self._text else "application/octet-stream"
        for number in itertools.count():
            frames = await self._spoken(wire)
            if not frames:
                return
            data = encode_all(frames)
            headers = {
                **self._headers,
                "Parley-Wire": name,
                "Parley-Batch": str(number),
                "Content-Type": content,
            }
            body = base64.b64encode(data) if self._text else data
            async with self._http.post(f"{self.base}/{self.id}/frames", data=body, headers=headers) as answer:
                if answer.status != 204:
                    self._ended(answer.status)
                    return
            await asyncio.sleep(BATCH_S)

    def _ended(self, code: int) -> None:
        if code != 4409:
            self.code = code
            self.closed.set()

    # --- what comes ---
    def _receive(self, frames: list[Frame]) -> None:
        now = asyncio.get_running_loop().time()
        for frame in frames:
            for event in self.session.receive(frame, now):
                if isinstance(event, Signal):
                    self.messages.put_nowait(event.text.decode())
                elif isinstance(event, ControlCame):
                    self._control(event.message)
                elif isinstance(event, Media) and event.frame.type is not FrameType.DATAGRAM:
                    self.seen(event.frame)
                elif isinstance(event, Media):
                    self.heard(event.frame.stream, event.frame.payload)
        self._wake.set()

    def _control(self, message: c.ControlMessage) -> None:
        if isinstance(message, c.PathOpened):
            self.paths[message.stream].set_result("")
        elif isinstance(message, c.PathRefused):
            self.session.close(message.stream)
            self.paths[message.stream].set_result(message.code)
        else:
            if isinstance(message, c.TrackOpened):
                self.session.open(message.stream)
            elif isinstance(message, c.TrackClosed):
                self.session.close(message.stream)
            self.told(message)

    # --- what goes ---
    def signal(self, text: str) -> None:
        self.session.signal(text.encode())
        self._wake.set()

    def control(self, message: c.ControlMessage) -> None:
        self.session.control(message)
        self._wake.set()

    def frame(self, frame: Frame) -> None:
        """Sound or a picture; what is given up before it leaves is told as a wish for a key frame."""
        self.session.media(frame, asyncio.get_running_loop().time())
        for stream in self.session.key_frames_wanted():
            self.told(c.KeyFrame(stream=stream))
        self._wake.set()

    def datagram(self, stream: int, data: bytes) -> None:
        self.session.media(Frame(FrameType.DATAGRAM, stream, data), asyncio.get_running_loop().time())
        self._wake.set()

    async def path(self, ip: str, port: int) -> tuple[int, str]:
        """The stream of a new path, and "" or why there is none."""
        stream = next(self._streams)
        self.paths[stream] = asyncio.get_running_loop().create_future()
        self.session.open(stream)
        self.session.control(c.OpenPath(stream=stream, ip=ip, port=port))
        self._wake.set()
        async with asyncio.timeout(10):
            return stream, await self.paths[stream]

    async def close(self) -> None:
        for task in [*self._wire, *self._old]:
            task.cancel()
        await asyncio.gather(*self._wire, *self._old, return_exceptions=True)
        with contextlib.suppress(aiohttp.ClientError):
            async with self._http.delete(f"{self.base}/{self.id}", headers=self._headers):
                pass


class _Order:
    """Answers to two polls, in the order of their numbers."""

    def __init__(self, give: Callable[[list[Frame]], None]) -> None:
        self._give = give
        self._next = 0
        self._early: dict[int, list[Frame]] = {}

    def take(self, number: int, frames: list[Frame]) -> None:
        self._early[number] = frames
        while (following := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self._give(following)


class SignalingOverTunnel(SignalingClient):
    """The signaling client whose messages are stream 0 of a tunnel session."""

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel
        super().__init__(None)  # type: ignore[arg-type]

    @property
    def close_code(self) -> int | None:
        code: int = self._tunnel.code
        return code

    async def send(self, type_: str, payload: Payload | None = None, **more: object) -> None:
        self._tunnel.signal(json.dumps({"type": type_, "payload": payload or {}, **more}))

    async def close(self) -> None:
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)
        await self._tunnel.close()

    async def _read(self) -> None:
        while True:
            text = await self._tunnel.messages.get()
            async with self._changed:
                self.messages.append(json.loads(text))
                self._changed.notify_all()


class Proxies(asyncio.DatagramProtocol):
    """A loopback address for each media node; `rewrite` puts it into SDP in the node's place."""

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel
        self._made: dict[tuple[str, int, int], _Proxy] = {}
        tunnel.heard = self._heard

    async def rewrite(self, sdp: str, connection: int) -> str:
        """The SDP with candidates that lead through the tunnel; a path for each connection and node."""
        lines = []
        for line in sdp.splitlines():
            if line.startswith("a=candidate:"):
                words = line.split(" ")
                if words[2].lower() != "udp":
                    continue
                proxy = await self._proxy(words[4], int(words[5]), connection)
                if proxy is None:
                    continue
                words[4], words[5] = "127.0.0.1", str(proxy)
                line = " ".join(words)
            lines.append(line)
        return "\r\n".join(lines) + "\r\n"

    async def _proxy(self, ip: str, port: int, connection: int) -> int | None:
        key = (ip, port, connection)
        if key not in self._made:
            stream, refused = await self._tunnel.path(ip, port)
            if refused:
                return None
            made = _Proxy(self._tunnel, stream)
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: made, local_addr=("127.0.0.1", 0))
            self._made[key] = made
        return self._made[key].port

    def _heard(self, stream: int, data: bytes) -> None:
        for proxy in self._made.values():
            if proxy.stream == stream:
                proxy.back(data)

    def close(self) -> None:
        for proxy in self._made.values():
            proxy.transport.close()


class _Proxy(asyncio.DatagramProtocol):
    def __init__(self, tunnel: TunnelClient, stream: int) -> None:
        self._tunnel = tunnel
        self.stream = stream
        self.port = 0
        self._client: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._client = addr
        with contextlib.suppress(ProtocolError):
            self._tunnel.datagram(self.stream, data)

    def back(self, data: bytes) -> None:
        if self._client is not None:
            self.transport.sendto(data, self._client)


class TunnelledParticipant(NativeParticipant):
    """Signaling and media through the tunnel, and by no other way."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        token: str,
        room_id: str,
        kind: Kind,
        *,
        shade: int,
        text: bool = False,
    ) -> None:
        super().__init__(http, {"token": token}, room_id, shade=shade)
        self.tunnel = TunnelClient(http, url, text=text)
        self.proxies = Proxies(self.tunnel)
        self._kind = kind

    async def __aenter__(self) -> Self:
        await self.tunnel.open(self._kind)
        self.signaling = SignalingOverTunnel(self.tunnel)
        await self.send("JoinRoom", {"roomId": self._room_id, "token": self._grant["token"]})
        self.joined = await self.payload("RoomJoined")
        self.user_id = self.joined["userId"]
        endpoint = await self.payload("SfuEndpoint", lambda p: p["direction"] == "publish")
        await self._publish(endpoint["transportId"])
        self._answering = asyncio.create_task(self._answer())
        return self

    async def payload(self, type_: str, where: Any = lambda payload: True) -> dict[str, Any]:
        payload = await super().payload(type_, where)
        if type_ == "ReceiveAnswer":
            payload["sdp"] = await self.proxies.rewrite(payload["sdp"], 0)
        return payload

    async def _answer_one(self, offer: dict[str, Any]) -> None:
        await super()._answer_one({**offer, "sdp": await self.proxies.rewrite(offer["sdp"], 1)})

    async def __aexit__(self, *arguments: Any) -> None:
        self.proxies.close()
        await super().__aexit__(*arguments)
