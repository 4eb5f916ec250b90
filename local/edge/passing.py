"""Passes an HTTP request to the process behind and its answer back, both as streams.

Nothing is buffered beyond the sockets' own windows: each side is read as fast as the other one takes it. A body over
the route's limit is cut off with 413; an upstream that cannot be reached is a 502, a silent one a 504.
"""

from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from opentelemetry.trace import SpanKind
from yarl import URL

from conference import telemetry
from local.edge import headers
from local.edge.problems import EdgeProblem
from local.edge.routes import Route

CONNECT_S = 5.0


class _BodyTooLarge(Exception):
    """The client sent more than the route takes."""


async def pass_request(
    request: web.BaseRequest, route: Route, origin: str, http: aiohttp.ClientSession
) -> web.StreamResponse:
    """The upstream's answer, streamed to the client. Raises EdgeProblem while nothing has been sent yet."""
    if (request.content_length or 0) > route.max_body:
        raise EdgeProblem(413)
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    with telemetry.span(
        f"{request.method} {route.path}",
        traceparent=request.headers.get("traceparent"),
        kind=SpanKind.SERVER,
        attributes={"http.request.method": request.method, "http.route": route.path},
    ) as span:
        passed = headers.for_upstream(request.headers, client=request.remote or "", scheme=request.scheme)
        passed.popall("traceparent", None)
        if traceparent := telemetry.traceparent_of(span):
            passed["traceparent"] = traceparent
        async with await _ask(request, route, origin, http, passed) as upstream:
            span.set_attribute("http.response.status_code", upstream.status)
            return await _pass_answer(request, upstream)


async def _ask(
    request: web.BaseRequest, route: Route, origin: str, http: aiohttp.ClientSession, passed: CIMultiDict[str]
) -> aiohttp.ClientResponse:
    """The upstream's answer as soon as its head is there."""
    try:
        return await http.request(
            request.method,
            URL(origin + request.raw_path, encoded=True),
            headers=passed,
            data=_body(request, route.max_body) if request.body_exists else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=route.idle_s),
        )
    except _BodyTooLarge:
        raise EdgeProblem(413) from None
    except TimeoutError:
        raise EdgeProblem(504) from None
    except (aiohttp.ClientError, OSError) as error:
        raise EdgeProblem(413 if isinstance(error.__cause__, _BodyTooLarge) else 502) from None


async def _pass_answer(request: web.BaseRequest, upstream: aiohttp.ClientResponse) -> web.StreamResponse:
    answer = web.StreamResponse(
        status=upstream.status, reason=upstream.reason, headers=headers.for_client(upstream.headers)
    )
    await answer.prepare(request)
    try:
        async for chunk in upstream.content.iter_any():
            await answer.write(chunk)
    except (TimeoutError, aiohttp.ClientError):
        # Half of the answer is out: only a broken connection tells the client that it is not the whole.
        if request.transport is not None:
            request.transport.abort()
        return answer
    await answer.write_eof()
    return answer


async def _body(request: web.BaseRequest, max_body: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > max_body:
            raise _BodyTooLarge
        yield chunk
