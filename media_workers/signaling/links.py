"""The control link to one SFU node: a WebSocket that is dialled again until it is no longer wanted.

Messages are those of `conference.protocol.control`. Requests carry an id and get exactly one reply: the node's, or a
`ControlError` with the code `link-lost`. What waits to be sent is bounded; a node that does not read is dialled anew.
"""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import aiohttp

from conference import tasks
from conference.domain.errors import Unavailable
from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode
from conference.protocol import control as c
from conference.protocol.envelope import MAX_MESSAGE_BYTES, Codec, Message, WireError, encode
from conference.protocol.messages import Payload

_HEARTBEAT_S: Final = 4.0
_CONNECT_S: Final = 2.0
_FIRST_BACKOFF_S, _LAST_BACKOFF_S = 0.1, 2.0
_QUEUED: Final = 10_000
_QUEUED_BYTES: Final = 16 * 1024 * 1024
_CODEC: Final = Codec(c.FROM_SFU)
_LOST: Final = Message(
    "ControlError", c.ControlError(code="link-lost", message="The media server is away.", retryable=True)
)
_log = logging.getLogger(__name__)
OnReply = Callable[[Message], None]


class LinkEvents(Protocol):
    def link_up(self, link: "ControlLink", hello: c.Hello) -> None: ...

    def link_down(self, link: "ControlLink") -> None:
        """It was up, or a first attempt failed."""
        ...

    def link_message(self, link: "ControlLink", message: Message) -> None: ...


class ControlLink:
    def __init__(
        self, node: MediaNode, http: aiohttp.ClientSession, authorize: Callable[[], Awaitable[str]], events: LinkEvents
    ) -> None:
        self.node_id: NodeId = node.node_id
        self.url = node.control_url
        self.up = False
        self.draining = node.draining
        self._http = http
        self._authorize = authorize
        self._events = events
        self._outgoing: asyncio.Queue[str] = asyncio.Queue(_QUEUED)
        self._unsent = 0  # characters in the queue
        self._waiting: dict[str, OnReply] = {}
        self._ids = itertools.count(1)
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._running = asyncio.get_running_loop().create_task(self._run())

    def send(self, payload: Payload, *, traceparent: str | None = None, on_reply: OnReply | None = None) -> None:
        """Queued in order. Without a link, `on_reply` gets `link-lost` at once."""
        full = self._outgoing.full() or self._unsent > _QUEUED_BYTES or len(self._waiting) >= _QUEUED
        if not self.up or full:
            if on_reply is not None:
                on_reply(_LOST)
            return
        id_ = str(next(self._ids))
        if on_reply is not None:
            self._waiting[id_] = on_reply
        message = Message(type(payload).__name__, payload, id=id_, traceparent=traceparent)
        text = encode(message)
        self._unsent += len(text)
        self._outgoing.put_nowait(text)

    async def stop(self) -> None:
        await tasks.end([self._running])

    async def _run(self) -> None:
        backoff = _FIRST_BACKOFF_S
        try:
            while True:
                try:
                    await self._connection()
                    backoff = _FIRST_BACKOFF_S
                except (aiohttp.ClientError, OSError, TimeoutError, Unavailable, WireError) as error:
                    if backoff == _FIRST_BACKOFF_S:  # said once an outage
                        _log.warning("control link failed", extra={"node": self.node_id, "error": type(error).__name__})
                self._down()
                await asyncio.sleep(backoff)
                backoff = min(_LAST_BACKOFF_S, backoff * 2)
        finally:
            self._down()

    async def _connection(self) -> None:
        async with asyncio.timeout(_CONNECT_S):
            token = await self._authorize()
            socket = await self._http.ws_connect(
                self.url,
                headers={"Authorization": f"Bearer {token}"},
                heartbeat=_HEARTBEAT_S,
                max_msg_size=MAX_MESSAGE_BYTES,
                compress=0,
            )
        writer: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(_CONNECT_S):
                hello = _CODEC.decode(await socket.receive_str()).payload
            if not isinstance(hello, c.Hello):
                raise WireError("no-hello", "the node did not say Hello")
            self._outgoing, self._unsent = asyncio.Queue(_QUEUED), 0
            writer = asyncio.create_task(self._write(socket, self._outgoing))
            self.up, self.draining = True, hello.draining
            self._events.link_up(self, hello)
            async for message in socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                self._received(message.data)
        except TypeError as error:  # aiohttp: receive_str got a close
            raise WireError("no-hello", "the node closed the link") from error
        finally:
            if writer is not None:
                writer.cancel()
            await socket.close()

    async def _write(self, socket: aiohttp.ClientWebSocketResponse, outgoing: "asyncio.Queue[str]") -> None:
        while True:
            text = await outgoing.get()
            self._unsent -= len(text)
            try:
                await socket.send_str(text)
            except (aiohttp.ClientError, OSError):
                return  # the reader sees the end of the socket

    def _received(self, text: str) -> None:
        try:
            message = _CODEC.decode(text)
        except WireError as error:
            _log.warning("unreadable control message", extra={"node": self.node_id, "code": error.code})
            return
        on_reply = self._waiting.pop(message.reply_to, None) if message.reply_to else None
        if on_reply is not None:
            on_reply(message)
        elif not message.reply_to:
            self._events.link_message(self, message)

    def _down(self) -> None:
        self.up = False
        waiting, self._waiting = self._waiting, {}
        for on_reply in waiting.values():
            on_reply(_LOST)
        self._events.link_down(self)
