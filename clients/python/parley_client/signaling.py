"""The signaling connection `/v1/signal` (docs/signaling-protocol.md): what came is kept in order, bounded.

`expect` waits for one message, `stream` gives every message from the first one on: each has its own place. The oldest
messages go beyond `KEEP`; a reader that is further behind than that skips them.
"""

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import suppress
from typing import Any, ClassVar, Self

import aiohttp

from parley_client.errors import SignalingEnded

Payload = dict[str, Any]
WAIT_S = 10.0
MAX_MESSAGE = 1_048_576  # four times what the server sends at most


class Signaling(ABC):
    """One connection over any carrier. `messages` are the latest that came; `closed` is set when it has ended."""

    KEEP: ClassVar[int] = 1_000

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.dropped = 0  # messages that were more than KEEP ago
        self.joined: Payload = {}
        self._taken = 0
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())

    @property
    @abstractmethod
    def close_code(self) -> int | None:
        """None while it lives."""

    @abstractmethod
    async def send_text(self, text: str) -> None:
        """Raises ConnectionError where the connection is gone."""

    @abstractmethod
    async def _next(self) -> str | None:
        """The next text; None at the end."""

    @abstractmethod
    async def _close_carrier(self) -> None: ...

    async def send(self, type_: str, payload: Payload | None = None, **more: object) -> None:
        """Raises ConnectionError where the connection is gone."""
        await self.send_text(json.dumps({"type": type_, "payload": payload or {}, **more}))

    async def expect(self, type_: str, where: Callable[[Payload], bool] = lambda payload: True) -> dict[str, Any]:
        """The next message of that type that fits; those before it are passed over.

        Raises TimeoutError after ten seconds, SignalingEnded."""
        async with asyncio.timeout(WAIT_S), self._changed:
            while True:
                while self._taken < len(self.messages):
                    message = self.messages[self._taken]
                    self._taken += 1
                    if message["type"] == type_ and where(message["payload"]):
                        return message
                if self.closed.is_set():
                    raise SignalingEnded(self.close_code, f"{type_}; got {self.types()[-20:]}")
                await self._changed.wait()

    async def payload(self, type_: str, where: Callable[[Payload], bool] = lambda payload: True) -> Payload:
        """As `expect`, the payload alone."""
        return dict((await self.expect(type_, where))["payload"])

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Every message from the first one on, whatever `expect` took; ends with the connection."""
        taken = 0
        while True:
            async with self._changed:
                while taken >= self.dropped + len(self.messages):
                    if self.closed.is_set():
                        return
                    await self._changed.wait()
                taken = max(taken, self.dropped)
                message = self.messages[taken - self.dropped]
            yield message
            taken += 1

    async def ends(self) -> int | None:
        """Waits for the end, ten seconds at most; the close code."""
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()
        return self.close_code

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def numbered(self) -> list[int]:
        """The `seq` of the room events that came."""
        return [message["seq"] for message in self.messages if "seq" in message]

    async def close(self) -> None:
        """Ends it; not a Leave."""
        await self._close_carrier()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while (text := await self._next()) is not None:
                message = _message(text)
                if message is None:
                    continue
                async with self._changed:
                    self._keep(message)
                    self._changed.notify_all()
        finally:
            self.closed.set()
            async with self._changed:
                self._changed.notify_all()

    def _keep(self, message: dict[str, Any]) -> None:
        self.messages.append(message)
        if len(self.messages) > self.KEEP:
            old = len(self.messages) - self.KEEP
            del self.messages[:old]
            self.dropped += old
            self._taken = max(0, self._taken - old)


def _message(text: str) -> dict[str, Any] | None:
    """A message as a client reads it: what is no object with a type and a payload is passed over."""
    with suppress(ValueError, RecursionError):
        message = json.loads(text)
        if isinstance(message, dict) and isinstance(message.get("type"), str):
            if not isinstance(message.setdefault("payload", {}), dict):
                return None
            return message
    return None


class SignalingClient(Signaling):
    """The connection as a WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        super().__init__()

    @classmethod
    async def connect(
        cls,
        http: aiohttp.ClientSession,
        url: str,
        *,
        protocols: Iterable[str] = ("parley.v1",),
        headers: dict[str, str] | None = None,
    ) -> Self:
        """Raises aiohttp.ClientError."""
        return cls(await http.ws_connect(url, protocols=tuple(protocols), headers=headers, max_msg_size=MAX_MESSAGE))

    @property
    def close_code(self) -> int | None:
        return self.socket.close_code

    async def send_text(self, text: str) -> None:
        await self.socket.send_str(text)

    def cut(self) -> None:
        """Ends the TCP connection without a closing handshake."""
        connection = self.socket._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()

    async def _close_carrier(self) -> None:
        await self.socket.close()

    async def _next(self) -> str | None:
        message = await self.socket.receive()
        return message.data if message.type is aiohttp.WSMsgType.TEXT else None
