"""The three wires of a tunnel session (docs/tunnel-protocol.md): WebSocket, HTTP streaming, long-poll.

A wire takes from the session what it is to say, gives it what came, and says once how it ended. `started` is set when
it carries something down. What a wire does not know is whether it still is the one that speaks: the session tells.
"""

import asyncio
import base64
import binascii
import itertools
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Final, Literal, Protocol

import aiohttp

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel.frame import Frame, FrameReader, decode_all, encode_all
from parley_client.errors import WayFailed

Kind = Literal["websocket", "stream", "poll"]
KINDS: Final[tuple[Kind, ...]] = ("websocket", "stream", "poll")
SUBPROTOCOL: Final = "parley.tunnel.v1"
BATCH_S: Final = 0.02
MAX_MESSAGE: Final = 1_048_576
STREAM_SILENT_S: Final = 45.0  # the gateway pings every 20 s
POLL_S: Final = 35.0  # a poll is held for 20 s
POST_S: Final = 10.0
# What ends the session and not the wire alone, as close code; HTTP says the same by its status.
OVER: Final = frozenset({1013, 4401, 4403, 4404, 4408, 4410, 4413, 4429})
OF_STATUS: Final[Mapping[int, int]] = {401: 4401, 403: 4403, 404: 4404, 408: 4408, 410: 4410, 413: 4413, 429: 4429}


Work = Callable[[], Coroutine[Any, Any, None]]


class Session(Protocol):
    """What a wire knows of its session."""

    secret: str
    text: bool

    @property
    def base(self) -> str: ...
    async def spoken(self, number: int) -> list[Frame]: ...
    def take(self, frames: list[Frame]) -> None: ...
    def wire_ended(self, wire: "Wire", code: int, why: str) -> None: ...


class Wire:
    """One wire, number `number` of its session."""

    def __init__(self, http: aiohttp.ClientSession, session: Session, kind: Kind, number: int) -> None:
        self._http, self._session = http, session
        self.kind: Kind = kind
        self.number = number
        self.started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tasks: list[asyncio.Task[None]] = []
        self._is_over = False

    def start(self) -> None:
        runs: Mapping[Kind, list[Work]] = {
            "websocket": [self._websocket],
            "stream": [self._stream, self._post],
            "poll": [self._poll],
        }
        self.tasks = [asyncio.create_task(self._guarded(work)) for work in runs[self.kind]]

    def cancel(self) -> None:
        self._is_over = True
        for task in self.tasks:
            task.cancel()

    async def _guarded(self, work: Work) -> None:
        """However it ends, the session hears of it, once."""
        try:
            await work()
        except aiohttp.WSServerHandshakeError as refused:
            self._end(OF_STATUS.get(refused.status, 1006), f"the gateway answers {refused.status}")
        except ProtocolError as error:
            self._end(1007, str(error))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._end(1006, f"{type(error).__name__}: {error}".rstrip(": "))

    def _end(self, code: int, why: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        if not self.started.done():
            self.started.set_exception(WayFailed(f"the tunnel's {self.kind} wire does not start: {why}"))
        self._session.wire_ended(self, code, why)

    def _begin(self) -> None:
        if not self.started.done():
            self.started.set_result(None)

    @property
    def _name(self) -> str:
        return f"wire-{self.number}"

    @property
    def _headers(self) -> dict[str, str]:
        accept = {"Accept": "text/plain"} if self._session.text else {}
        return {"Authorization": f"Bearer {self._session.secret}", **accept}

    # --- WebSocket ---
    async def _websocket(self) -> None:
        protocols = (SUBPROTOCOL, f"secret.{self._session.secret}")
        url = f"{self._session.base}/ws"
        async with self._http.ws_connect(url, protocols=protocols, max_msg_size=MAX_MESSAGE) as socket:
            self._begin()
            sending = asyncio.create_task(self._guarded(lambda: self._send(socket)))
            self.tasks.append(sending)
            try:
                code, why = await self._read(socket)
            finally:
                sending.cancel()
            self._end(code, why)

    async def _read(self, socket: aiohttp.ClientWebSocketResponse) -> tuple[int, str]:
        """Until it ends; the close code and its reason."""
        while True:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                self._session.take(decode_all(message.data))
            elif message.type is aiohttp.WSMsgType.CLOSE:
                # Signaling's own "somebody joined from elsewhere" ends the session; the wire's only the wire.
                is_over = message.data in OVER or (message.data == 4409 and message.extra == "ended")
                return (message.data, str(message.extra)) if is_over else (1006, f"closed with {message.data}")
            else:
                return 1006, "the connection is gone"

    async def _send(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        while frames := await self._session.spoken(self.number):
            await socket.send_bytes(encode_all(frames))

    # --- HTTP streaming ---
    async def _stream(self) -> None:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=POST_S, sock_read=STREAM_SILENT_S)
        async with self._http.get(f"{self._session.base}/stream", headers=self._headers, timeout=limit) as answer:
            if answer.status != 200:
                await self._refused(answer)
                return
            self._begin()
            reader = FrameReader()
            if self._session.text:
                async for line in answer.content:
                    self._session.take(list(reader.feed(_unbase64(line))))
            else:
                async for chunk in answer.content.iter_any():
                    self._session.take(list(reader.feed(chunk)))
        self._end(1006, "the stream has ended")

    # --- long-poll ---
    async def _poll(self) -> None:
        """The first poll attaches the wire; only then does a second one go beside it."""
        order = _Order(self._session.take)
        await self._one_poll(order)
        works: tuple[Work, ...] = (lambda: self._polls(order), lambda: self._polls(order), self._post)
        self.tasks += [asyncio.create_task(self._guarded(work)) for work in works]

    async def _polls(self, order: "_Order") -> None:
        while not self._is_over:
            await self._one_poll(order)

    async def _one_poll(self, order: "_Order") -> None:
        headers = {**self._headers, "Parley-Wire": self._name}
        limit = aiohttp.ClientTimeout(total=POLL_S)
        async with self._http.get(f"{self._session.base}/poll", headers=headers, timeout=limit) as answer:
            if answer.status != 200:
                await self._refused(answer)
                return
            body = await answer.read()
            number = answer.headers.get("Parley-Batch", "")
        self._begin()
        if not number.isdecimal():
            raise ProtocolError("bad-frame", "an answer without its number")
        order.take(int(number), decode_all(_unbase64(body) if self._session.text else body))

    # --- up, of both ---
    async def _post(self) -> None:
        """Everything that waits, in numbered batches."""
        content = "text/plain" if self._session.text else "application/octet-stream"
        limit = aiohttp.ClientTimeout(total=POST_S)
        for number in itertools.count():
            frames = await self._session.spoken(self.number)
            if not frames:
                return
            data = encode_all(frames)
            body = base64.b64encode(data) if self._session.text else data
            named = {"Parley-Wire": self._name, "Parley-Batch": str(number), "Content-Type": content}
            async with self._http.post(
                f"{self._session.base}/frames", data=body, headers={**self._headers, **named}, timeout=limit
            ) as answer:
                if answer.status != 204:
                    await self._refused(answer)
                    return
            await asyncio.sleep(BATCH_S)

    async def _refused(self, answer: aiohttp.ClientResponse) -> None:
        code = ""
        with suppress(ValueError, aiohttp.ClientError):
            document = await answer.json(content_type=None)
            code = str(document.get("code", "")) if isinstance(document, dict) else ""
        self._end(OF_STATUS.get(answer.status, 1006), f"the gateway answers {answer.status} {code}".rstrip())


class _Order:
    """Answers to two polls, in the order of their numbers; at most a few can be ahead."""

    AHEAD: Final = 8

    def __init__(self, give: Callable[[list[Frame]], None]) -> None:
        self._give = give
        self._next = 0
        self._early: dict[int, list[Frame]] = {}

    def take(self, number: int, frames: list[Frame]) -> None:
        """Raises ProtocolError where an answer was lost."""
        self._early[number] = frames
        if len(self._early) > self.AHEAD:
            raise ProtocolError("bad-frame", "an answer is missing")
        while (following := self._early.pop(self._next, None)) is not None:
            self._next += 1
            self._give(following)


def _unbase64(body: bytes) -> bytes:
    """Raises ProtocolError `bad-frame`."""
    try:
        return base64.b64decode(body)
    except (binascii.Error, ValueError):
        raise ProtocolError("bad-frame", "no base64") from None
