"""A small signaling client for tests: what came is kept in order, and a test waits for the message it names."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Self

import aiohttp

Payload = dict[str, Any]
WAIT_S = 10.0


class SignalingClient:
    """One connection. `messages` are all that came; `close_code` is set once it has ended."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.messages: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.reading = asyncio.Event()
        self.reading.set()
        self._taken = 0
        self._changed = asyncio.Condition()
        self._reader = asyncio.create_task(self._read())
        self.joined: Payload = {}

    @classmethod
    async def connect(
        cls,
        http: aiohttp.ClientSession,
        url: str,
        *,
        protocols: Iterable[str] = ("parley.v1",),
        headers: dict[str, str] | None = None,
    ) -> Self:
        return cls(await http.ws_connect(url, protocols=tuple(protocols), headers=headers, max_msg_size=0))

    @property
    def close_code(self) -> int | None:
        return self.socket.close_code

    async def send(self, type_: str, payload: Payload | None = None, **more: object) -> None:
        await self.send_text(json.dumps({"type": type_, "payload": payload or {}, **more}))

    async def send_text(self, text: str) -> None:
        await self.socket.send_str(text)

    async def expect(self, type_: str, where: Callable[[Payload], bool] = lambda payload: True) -> dict[str, Any]:
        """The next message of that type that fits; those before it are passed over. Raises TimeoutError."""
        async with asyncio.timeout(WAIT_S), self._changed:
            while True:
                while self._taken < len(self.messages):
                    message = self.messages[self._taken]
                    self._taken += 1
                    if message["type"] == type_ and where(message["payload"]):
                        return message
                if self.closed.is_set():
                    raise AssertionError(f"closed with {self.close_code} before {type_}; got {self.types()}")
                await self._changed.wait()

    async def stream(self) -> AsyncIterator[dict[str, Any]]:
        """Every message from the first one on, whatever `expect` took; ends with the connection."""
        taken = 0
        while True:
            async with self._changed:
                while taken == len(self.messages):
                    if self.closed.is_set():
                        return
                    await self._changed.wait()
            yield self.messages[taken]
            taken += 1

    async def payload(self, type_: str, where: Callable[[Payload], bool] = lambda payload: True) -> Payload:
        return dict((await self.expect(type_, where))["payload"])

    async def ends(self) -> int | None:
        """Waits for the end; the close code."""
        async with asyncio.timeout(WAIT_S):
            await self.closed.wait()
        return self.close_code

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages]

    def numbered(self) -> list[int]:
        return [message["seq"] for message in self.messages if "seq" in message]

    async def close(self) -> None:
        await self.socket.close()
        self._reader.cancel()
        await asyncio.gather(self._reader, return_exceptions=True)

    def cut(self) -> None:
        """Ends the TCP connection without a closing handshake."""
        transport = self.socket._response.connection.transport  # type: ignore[union-attr]
        assert transport is not None
        transport.abort()

    async def _read(self) -> None:
        try:
            while True:
                await self.reading.wait()
                message = await self.socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                async with self._changed:
                    self.messages.append(json.loads(message.data))
                    self._changed.notify_all()
        finally:
            self.closed.set()
            async with self._changed:
                self._changed.notify_all()
