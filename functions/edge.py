"""The outermost layer of every request: one server span, one log line, the body's limits, the safe answer to a bug.

Pure ASGI on purpose: Starlette's BaseHTTPMiddleware polls for a disconnect, which AsgiFunctionApp answers only every
100 ms. The span takes the route as its name; path values, queries and bodies never enter a span or a log line.
"""

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from conference import telemetry
from conference.domain.errors import Refused
from conference.protocol import strict_json
from functions import problems

MAX_BODY_BYTES: Final = 256 * 1024
JSON_TYPES: Final = frozenset({"application/json", "application/merge-patch+json"})
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
log = logging.getLogger(__name__)


class Edge:
    """Wraps the FastAPI application."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        started = time.perf_counter()
        with telemetry.span(
            method,
            traceparent=_parent(scope),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method, "url.scheme": str(scope.get("scheme", "http"))},
        ) as span:
            if method == "HEAD":  # RFC 9110 9.3.2: as GET, without the content
                scope = {**scope, "method": "GET"}
            answer = _Answer(scope, send, with_content=method != "HEAD")
            await self._guarded(scope, receive, answer)
            _finish(span, method, _route_of(scope), answer.status, time.perf_counter() - started)

    async def _guarded(self, scope: Scope, receive: Receive, answer: "_Answer") -> None:
        try:
            body = await _read_body(scope, receive)
            await self._app(scope, _replay(body), answer.send)
        except Refused as refused:
            await answer.problem(problems.of_refused(refused))
        except Exception:
            log.exception("unhandled error", extra={"route": _route_of(scope)})
            await answer.problem(problems.internal())


class _Answer:
    """Sends an answer once and remembers its status; adds the headers that every answer carries."""

    def __init__(self, scope: Scope, send: Send, *, with_content: bool) -> None:
        self._with_content = with_content
        self._private = scope["path"].startswith("/v1/")
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", []), (b"x-content-type-options", b"nosniff")]
            if self._private and not any(name.lower() == b"cache-control" for name, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        elif not self._with_content:
            message = {**message, "body": b""}
        await self._send(message)

    async def problem(self, problem: problems.Problem) -> None:
        """Answers with a problem unless an answer has begun."""
        if self.status:
            return
        body = problem.body(trace_id())
        headers = {"Content-Type": problems.MEDIA_TYPE, "Content-Length": str(len(body)), **problem.headers}
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        await self.send({"type": "http.response.start", "status": problem.status, "headers": encoded})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})


def trace_id() -> str | None:
    """The current trace in hex, for a person to quote; None outside of any."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises Refused: body-too-large before reading on, and those of `_check_json`."""
    declared = _header(scope, b"content-length") or "0"
    if not declared.isdecimal() or len(declared) > 12 or int(declared) > MAX_BODY_BYTES:
        raise Refused("body-too-large")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            break
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            raise Refused("body-too-large")
        chunks.append(chunk)
        if not message.get("more_body", False):
            break
    body = b"".join(chunks)
    if body:
        _check_json(scope, body)
    return body


def _check_json(scope: Scope, body: bytes) -> None:
    """FastAPI's own reading takes the last of two members of one name, NaN, and UTF-16. Raises Refused:
    unsupported-media-type (a content coding too), malformed-json."""
    media_type = (_header(scope, b"content-type") or "").partition(";")[0].strip().lower()
    coding = (_header(scope, b"content-encoding") or "identity").strip().lower()
    if media_type not in JSON_TYPES or coding != "identity":
        raise Refused("unsupported-media-type")
    try:
        strict_json.loads(body)
    except ValueError:
        raise Refused("malformed-json") from None


def _replay(body: bytes) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


def _parent(scope: Scope) -> str | None:
    """In Azure the host's span stands between the caller's and ours; it comes with the invocation."""
    invocation = getattr(scope.get("azure_functions.trace_context"), "trace_parent", None)
    return invocation or _header(scope, b"traceparent")


def _header(scope: Scope, name: bytes) -> str | None:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name), None)


def _route_of(scope: Scope) -> str:
    """The template of the matched route; never the path, which holds ids."""
    return getattr(scope.get("route"), "path_format", None) or "unmatched"


def _finish(span: Span, method: str, route: str, status: int, seconds: float) -> None:
    span.update_name(f"{method} {route}")
    span.set_attribute("http.route", route)
    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
    log.info(
        "request", extra={"method": method, "route": route, "status": status, "durationMs": round(seconds * 1000, 1)}
    )
