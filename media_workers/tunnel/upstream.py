"""A session's own connection to signaling, and what passes on it that concerns the session.

Messages pass as they are. Of what signaling says, the media nodes and the join are noted: before RoomJoined a session
carries stream 0 alone, and its datagrams go to the nodes that signaling named, to no other address.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import msgspec

from conference import tasks
from conference.domain.errors import Unavailable

SUBPROTOCOL: Final = "parley.v1"
CONNECT_S: Final = 5.0
MAX_MESSAGE: Final = 262_144
MAX_QUEUED: Final = 256
MAX_BYTES: Final = 1_048_576  # of all that are queued
_JOINED: Final = frozenset({"RoomJoined", "Resumed", "room_joined", "resumed"})
_ENDPOINT: Final = frozenset({"SfuEndpoint", "sfu_endpoint"})


class _Endpoint(msgspec.Struct):
    ip: str = ""
    port: int = 0


class _Envelope(msgspec.Struct):
    type: str
    payload: msgspec.Raw = msgspec.Raw(b"{}")


_envelope: Final = msgspec.json.Decoder(_Envelope)
_endpoint: Final = msgspec.json.Decoder(_Endpoint)


class Upstream:
    """`heard` is given each message; `joined` is called once somebody has joined, `named` for each media node, `ended`
    with the close code when signaling ends the connection."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        heard: Callable[[bytes], None],
        joined: Callable[[], None],
        named: Callable[[str, int], None],
        ended: Callable[[int], None],
    ) -> None:
        self._http = http
        self._url = url
        self._heard, self._joined, self._named, self._ended = heard, joined, named, ended
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_QUEUED)
        self._bytes = 0
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, headers: dict[str, str]) -> None:
        """Raises Unavailable."""
        try:
            async with asyncio.timeout(CONNECT_S):
                self._socket = await self._http.ws_connect(
                    self._url, protocols=(SUBPROTOCOL,), headers=headers, max_msg_size=0, autoping=True, compress=0
                )
        except (aiohttp.ClientError, OSError, TimeoutError):
            raise Unavailable("signaling") from None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    def send(self, text: bytes) -> bool:
        """False where signaling does not take what came before."""
        if len(text) > MAX_MESSAGE or self._bytes + len(text) > MAX_BYTES or self._waiting.full():
            return False
        self._waiting.put_nowait(text)
        self._bytes += len(text)
        return True

    async def _write(self) -> None:
        assert self._socket is not None
        with contextlib.suppress(ConnectionError, aiohttp.ClientError):
            while True:
                text = await self._waiting.get()
                await self._socket.send_str(text.decode(errors="replace"))
                self._bytes -= len(text)

    async def _read(self) -> None:
        assert self._socket is not None
        try:
            async for message in self._socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._take(message.data.encode())
        finally:
            self._ended(self._socket.close_code or 1006)

    def _take(self, text: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            envelope: Any = _envelope.decode(text)
            if envelope.type in _JOINED:
                self._joined()
            elif envelope.type in _ENDPOINT:
                endpoint: Any = _endpoint.decode(envelope.payload)
                self._named(endpoint.ip, endpoint.port)
        self._heard(text)

    async def close(self) -> None:
        await tasks.end(self._tasks)
        if self._socket is not None:
            await self._socket.close()
