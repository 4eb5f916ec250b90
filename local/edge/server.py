"""The one origin: takes each request to the file, process or tunnel that the routing table names.

It is aiohttp's low-level server with limits of its own: how many connections, how long a request's head may take, how
long a connection may idle. Logs name method, path and status only: a query string or a subprotocol may hold a secret.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from local.edge import routes
from local.edge.files import File, Files
from local.edge.media import Media
from local.edge.passing import pass_request
from local.edge.problems import EdgeProblem, problem_response
from local.edge.routes import Route, Upstream
from local.edge.tunnel import asks_for_websocket, pass_websocket

log = logging.getLogger("local.edge")


def _is_our_fault(record: logging.LogRecord) -> bool:
    """False for aiohttp's reports of malformed requests: they quote what was sent, which may hold a secret."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


server_log = logging.getLogger("local.edge.server")
server_log.addFilter(_is_our_fault)

HEALTH_PATH = "/edge/health"


@dataclass(frozen=True)
class Limits:
    """What one client, and all of them together, may take up."""

    connections: int = 10_000
    head_s: float = 10
    idle_s: float = 75
    line: int = 8190
    field: int = 16_384


@dataclass(frozen=True)
class Edge:
    """`origins` says where each upstream listens; `page_headers` are added to every file."""

    origins: Mapping[Upstream, str]
    files: Files
    page_headers: Mapping[str, str]
    http: aiohttp.ClientSession
    table: tuple[Route, ...] = routes.ROUTES
    limits: Limits = field(default_factory=Limits)
    media: Media | None = None

    def server(self) -> "EdgeServer":
        """The server to run in a `web.ServerRunner`."""
        return EdgeServer(self)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one request; whatever goes wrong becomes a problem document."""
        path = request.raw_path.partition("?")[0]
        try:
            response = await self._dispatch(request, path)
        except EdgeProblem as problem:
            response = problem_response(problem.status)
        if response.status >= 500:
            log.warning("%s %s answered %d", request.method, path, response.status)
        return response

    async def _dispatch(self, request: web.BaseRequest, path: str) -> web.StreamResponse:
        if not routes.is_unambiguous(request.raw_path):
            raise EdgeProblem(400)
        if path == HEALTH_PATH:
            return web.json_response({"status": "ok"})
        if self.media is not None and self.media.answers(path):
            return self._media(request, self.media)
        route = routes.find(path, self.table)
        if route is None:
            return self._file(request, path)
        origin = self.origins[route.upstream]
        if route.websocket and asks_for_websocket(request):
            return await pass_websocket(request, route, origin)
        return await pass_request(request, route, origin, self.http)

    def _media(self, request: web.BaseRequest, media: Media) -> web.StreamResponse:
        if request.method not in ("GET", "HEAD"):
            raise EdgeProblem(405)
        found = media.find(request)
        if found is None:
            raise EdgeProblem(404)
        return found

    def _file(self, request: web.BaseRequest, path: str) -> web.Response:
        if request.method not in ("GET", "HEAD"):
            raise EdgeProblem(405)
        file = self.files.find(path)
        if file is None:
            raise EdgeProblem(404)
        packed = bool(file.packed) and "gzip" in request.headers.get("Accept-Encoding", "")
        headers = dict(self.page_headers) | {
            "Server": "Parley",
            "Cache-Control": "no-cache",
            "ETag": file.etag(packed=packed),
            "Vary": "Accept-Encoding",
        }
        if _is_known(request, file):
            return web.Response(status=304, headers=headers)
        if packed:
            headers["Content-Encoding"] = "gzip"
        return web.Response(
            body=file.packed if packed else file.content, headers=headers | {"Content-Type": file.media_type}
        )


def _is_known(request: web.BaseRequest, file: File) -> bool:
    """True where the client already has this file, in either form (RFC 9110 13.1.2)."""
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("If-None-Match", "").split(",")}
    return not known.isdisjoint({"*", file.etag(packed=True), file.etag(packed=False)})


class EdgeServer(web.Server):
    """aiohttp's server with a cap on connections and a deadline for the head of the first request."""

    def __init__(self, edge: Edge) -> None:
        self.limits = edge.limits
        super().__init__(
            edge.handle,
            request_factory=self._head_is_complete,
            access_log=None,
            logger=server_log,
            auto_decompress=False,
            keepalive_timeout=edge.limits.idle_s,
            max_line_size=edge.limits.line,
            max_field_size=edge.limits.field,
        )
        self._deadlines: dict[RequestHandler, asyncio.TimerHandle] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        super().connection_made(handler, transport)
        if len(self.connections) > self.limits.connections:
            transport.abort()
            return
        self._deadlines[handler] = self._loop.call_later(self.limits.head_s, transport.abort)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        self._cancel_deadline(handler)
        super().connection_lost(handler, exc)

    def _head_is_complete(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.BaseRequest:
        self._cancel_deadline(protocol)
        return web.BaseRequest(message, payload, protocol, writer, task, self._loop)

    def _cancel_deadline(self, handler: RequestHandler) -> None:
        deadline = self._deadlines.pop(handler, None)
        if deadline is not None:
            deadline.cancel()
