"""WebSockets through the edge: the opening handshake is passed on, after it bytes flow both ways untouched.

Frames are not parsed, so pings, fragments and close codes arrive exactly as they were sent, at the price of a copy.
Each direction reads only while the other side takes what was read. When the worker cannot be reached, the socket is
opened and closed with 1013 (try again later), because a browser learns nothing from a refused handshake.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from aiohttp import WSCloseCode, web
from multidict import CIMultiDict

from local.edge import headers
from local.edge.problems import EdgeProblem
from local.edge.routes import Route

HANDSHAKE_S: Final = 10.0
MAX_HEAD: Final = 32 * 1024
HIGH_WATER: Final = 256 * 1024
CHUNK: Final = 64 * 1024


def asks_for_websocket(request: web.BaseRequest) -> bool:
    """True for an opening handshake (RFC 6455 4.2.1)."""
    options = request.headers.get("Connection", "").lower().replace(" ", "").split(",")
    return (
        request.method == "GET"
        and "upgrade" in options
        and request.headers.get("Upgrade", "").strip().lower() == "websocket"
    )


@dataclass
class _Answer:
    """The head of the worker's answer."""

    status: int
    reason: str
    headers: CIMultiDict[str]


class _ToWorker:
    """Takes the client's bytes from aiohttp's connection in place of a frame parser.

    `feed_data` cannot wait, so a full buffer stops the reading of the client's socket until the worker has caught up.
    """

    def __init__(self, request: web.BaseRequest, writer: asyncio.StreamWriter) -> None:
        self._protocol = request.protocol
        self._writer = writer
        self._draining: asyncio.Task[None] | None = None

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """aiohttp's parser interface: whether the stream has ended, and bytes that are not part of it."""
        if self._writer.is_closing():
            return True, b""
        self._writer.write(data)
        if self._draining is None and self._writer.transport.get_write_buffer_size() > HIGH_WATER:
            self._protocol.pause_reading()
            self._draining = asyncio.create_task(self._drain())
        return False, b""

    def feed_eof(self) -> None:
        """The client is gone: so is the worker's side."""
        self._writer.close()

    async def _drain(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()
        self._draining = None
        if self._protocol.transport is not None:
            self._protocol.resume_reading()

    async def stop(self) -> None:
        """Ends the waiting for the worker."""
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.gather(self._draining, return_exceptions=True)


async def pass_websocket(request: web.BaseRequest, route: Route, origin: str) -> web.StreamResponse:
    """Opens the worker's side and connects both until one ends. Raises EdgeProblem for an answer that is no HTTP."""
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            reader, writer = await _connect(origin)
    except (OSError, TimeoutError):
        return await _try_again_later(request)
    try:
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                writer.write(_request_head(request, writer))
                answer = await _read_head(reader)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            return await _try_again_later(request)
        if answer.status != 101:
            return await _refused(request, reader, answer)
        return await _connect_both(request, route, reader, writer, answer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _connect(origin: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(origin)
    return await asyncio.open_connection(parts.hostname, parts.port or 80, limit=CHUNK)


def _request_head(request: web.BaseRequest, writer: asyncio.StreamWriter) -> bytes:
    passed = headers.for_upstream(request.headers, client=request.remote or "", scheme=request.scheme, websocket=True)
    host, port = writer.get_extra_info("peername")[:2]
    lines = [f"GET {request.raw_path} HTTP/1.1", f"Host: {host}:{port}", *(f"{n}: {v}" for n, v in passed.items())]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape")


async def _read_head(reader: asyncio.StreamReader) -> _Answer:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise EdgeProblem(502) from None
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    version, _, rest = first.partition(" ")
    status, _, reason = rest.partition(" ")
    if len(head) > MAX_HEAD or version != "HTTP/1.1" or not (status.isdecimal() and len(status) == 3):
        raise EdgeProblem(502)
    pairs = (line.partition(":") for line in lines)
    return _Answer(int(status), reason, CIMultiDict((name.strip(), value.strip()) for name, _, value in pairs))


async def _connect_both(
    request: web.BaseRequest, route: Route, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: _Answer
) -> web.StreamResponse:
    passed = headers.for_client(answer.headers)
    passed["Connection"], passed["Upgrade"] = "Upgrade", "websocket"
    response = web.StreamResponse(status=101, reason=answer.reason, headers=passed)
    response.force_close()
    await response.prepare(request)
    to_worker = _ToWorker(request, writer)
    request.protocol.set_parser(to_worker)  # type: ignore[arg-type]  # it wants the two methods, not the class
    request.protocol.keep_alive(False)
    try:
        while True:
            async with asyncio.timeout(route.idle_s):
                data = await reader.read(CHUNK)
            if not data:
                break
            await response.write(data)
    except (OSError, TimeoutError):
        pass  # either side is gone or silent; both sockets close below
    finally:
        await to_worker.stop()
        if request.transport is not None:
            request.transport.close()
    return response


async def _refused(request: web.BaseRequest, reader: asyncio.StreamReader, answer: _Answer) -> web.StreamResponse:
    """Passes on the worker's refusal of the handshake: its status, headers and (short) body."""
    length = answer.headers.get("Content-Length", "0")
    size = min(int(length), CHUNK) if length.isdecimal() else 0
    try:
        async with asyncio.timeout(HANDSHAKE_S):
            body = await reader.readexactly(size)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        body = b""
    passed = headers.for_client(answer.headers)
    passed.popall("Content-Length", None)
    response = web.Response(status=answer.status, reason=answer.reason, headers=passed, body=body)
    response.force_close()
    return response


async def _try_again_later(request: web.BaseRequest) -> web.StreamResponse:
    offered = request.headers.get("Sec-WebSocket-Protocol", "").replace(" ", "").split(",")
    # A browser fails the connection when none of its subprotocols is selected; a token is never echoed.
    chosen = [name for name in offered if name and not name.startswith(("token.", "secret."))][:1]
    response = web.WebSocketResponse(protocols=chosen, compress=False)
    if not response.can_prepare(request).ok:
        raise EdgeProblem(400)
    await response.prepare(request)
    await response.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"The worker is not running.")
    return response
