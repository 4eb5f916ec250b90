"""Control links: the WebSocket at `/control` over which signaling processes steer the node.

A link is authenticated by a service token at the handshake. Replies and events share one bounded queue per link, so
their order is kept; a link that does not read is closed, and its sessions wait for it to come back.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from conference.domain.errors import ProtocolError, Refused, Unavailable
from conference.ports.clock import Clock
from conference.ports.tokens import Tokens
from conference.protocol.control import TO_SFU, ControlError, Draining
from conference.protocol.envelope import MAX_MESSAGE_BYTES, Codec, Message, WireError, encode
from conference.protocol.messages import Payload
from media_workers.sfu.node import Node

MAX_QUEUE: Final = 2_000
PING_S: Final = 10.0
AUDIENCE: Final = "sfu"
_CODEC: Final = Codec(TO_SFU)
_logger: Final = logging.getLogger(__name__)


class Link:
    """One connected signaling process."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket
        self._queue: asyncio.Queue[str] = asyncio.Queue(MAX_QUEUE)
        self.is_overrun = False

    def send(self, payload: Payload, *, traceparent: str | None = None) -> None:
        self._put(Message(type(payload).__name__, payload, traceparent=traceparent))

    def reply(self, to: str | None, payload: Payload) -> None:
        self._put(Message(type(payload).__name__, payload, reply_to=to))

    def _put(self, message: Message) -> None:
        if self.is_overrun:
            return
        try:
            self._queue.put_nowait(encode(message))
        except asyncio.QueueFull:
            self.is_overrun = True
            _logger.warning("a control link does not read; it is closed")

    async def write(self) -> None:
        """Writes the queue out until the socket ends."""
        while not self._socket.closed:
            if self.is_overrun:
                await self._socket.close(code=WSCloseCode.TRY_AGAIN_LATER)
                return
            await self._socket.send_str(await self._queue.get())
            self._queue.task_done()

    async def flush(self, deadline_s: float) -> None:
        """Waits until all has been written, for at most `deadline_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(deadline_s):
                await self._queue.join()


class ControlServer:
    """Accepts links and hands their messages to the node."""

    def __init__(self, node: Node, tokens: Tokens, clock: Clock, counted: Callable[[str], None]) -> None:
        self._node = node
        self._tokens = tokens
        self._clock = clock
        self._counted = counted
        self._links: dict[Link, web.WebSocketResponse] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """The route `/control`."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        try:
            await self._tokens.verify_service(token, audience=AUDIENCE, now=self._clock.now())
        except Refused:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        except Unavailable:
            return web.Response(status=503, headers={"Retry-After": "1"})
        socket = web.WebSocketResponse(heartbeat=PING_S, max_msg_size=MAX_MESSAGE_BYTES, compress=False)
        await socket.prepare(request)
        await self._serve(socket)
        return socket

    async def _serve(self, socket: web.WebSocketResponse) -> None:
        link = Link(socket)
        self._links[link] = socket
        link.send(self._node.hello())
        writer = asyncio.create_task(link.write())
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    if not self._receive(link, message.data):
                        await socket.close(code=WSCloseCode.INVALID_TEXT)
                elif message.type is WSMsgType.BINARY:
                    await socket.close(code=WSCloseCode.UNSUPPORTED_DATA)
        finally:
            del self._links[link]
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self._node.link_lost(link)

    def _receive(self, link: Link, text: str) -> bool:
        """Handles one message; False where the link must close."""
        try:
            message = _CODEC.decode(text)
        except WireError as error:
            self._counted(error.code)
            link.reply(error.reply_to, ControlError(code=error.code, message=error.detail))
            return not error.fatal
        link.reply(message.id, self._answer(link, message))
        self._node.settle()
        return True

    def _answer(self, link: Link, message: Message) -> Payload:
        """The reply; the one place where errors become ControlError."""
        try:
            return self._node.handle(link, message.type, message.payload, message.traceparent)
        except ProtocolError as error:
            reply = ControlError(code=error.code, message=error.detail)
        except Refused as error:
            reply = ControlError(code=error.reason, message=str(error))
        except Unavailable as error:
            reply = ControlError(code="sfu-unavailable", message=str(error), retryable=error.retryable)
        except Exception:
            _logger.exception("a control message failed", extra={"type": message.type})
            reply = ControlError(code="internal", message="the media node failed to handle this", retryable=True)
        self._counted(reply.code)
        return reply

    def announce_draining(self) -> None:
        for link in self._links:
            link.send(Draining(node_id=self._node.core.identity.node_id))

    async def close(self) -> None:
        """Flushes and closes every link."""
        for link, socket in list(self._links.items()):
            await link.flush(1.0)
            await socket.close(code=WSCloseCode.GOING_AWAY)
