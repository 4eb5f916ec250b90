"""The HTTP side: an aiohttp server that turns a request into `func.HttpRequest` and the answer back.

As in Azure, bodies are buffered both ways. What is too large or has no method of ours is answered here, with the same
problem documents as the app's.
"""

import asyncio
import logging
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import azure.functions as func
from aiohttp import hdrs, web

from conference.domain.errors import Refused
from functions import problems
from local.functions_host.invoking import invoke
from local.functions_host.loading import HttpFunction

# Above the app's own cap of 256 KiB, so that the app answers what is a little too large.
MAX_BODY_BYTES: Final = 1024 * 1024
BODY_S: Final = 30.0  # for a whole body to arrive; a sender that trickles holds a connection no longer
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
# AsgiFunctionApp reads digits of any number out of this one; the address says the port anyway.
_UNSAFE: Final = frozenset({"x-forwarded-port"})
log = logging.getLogger(__name__)


class HttpSide:
    """Hosts the one HTTP function."""

    def __init__(self, function: HttpFunction, *, body_s: float = BODY_S) -> None:
        self._function = function
        self._body_s = body_s
        self._app = web.Application(client_max_size=MAX_BODY_BYTES)
        self._app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=10.0)

    async def start(self, host: str, port: int) -> str:
        """Listens; gives the address with the real port. Raises OSError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        await site.start()
        bound = self._runner.addresses[0][1]
        return f"http://{f'[{host}]' if ':' in host else host}:{bound}"

    async def stop(self) -> None:
        """Lets the requests under way finish, then closes."""
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        if request.method not in self._function.methods:
            return _problem(problems.of_refused(Refused("method-not-allowed")))
        if not _is_text(request.rel_url.raw_path):
            return _problem(problems.of_refused(Refused("not-found")))
        if (request.content_length or 0) > MAX_BODY_BYTES:
            return _problem(problems.of_refused(Refused("body-too-large")))  # before waiting for it
        try:
            async with asyncio.timeout(self._body_s):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return _problem(problems.of_refused(Refused("body-too-large")))
        except TimeoutError:
            slow = web.Response(status=408)
            slow.force_close()
            return slow
        try:
            sent = func.HttpRequest(
                request.method,
                # The Host header is the caller's word: it stays a header and makes no address.
                f"http://127.0.0.1{request.rel_url.raw_path_qs}",
                headers=_joined(request),
                params=dict(request.query),
                body=body,
            )
            answer = await invoke(self._function.name, self._function.handler, self._function.argument, sent)
            return _response(answer)
        except Exception:
            log.exception("the HTTP function failed")
            return _problem(problems.internal())


def _is_text(raw_path: str) -> bool:
    """AsgiFunctionApp reads paths as UTF-8 and fails on any other; no address of ours is other."""
    try:
        unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError:
        return False
    return True


def _joined(request: web.Request) -> dict[str, str]:
    """One value a name, as Azure's host gives them: repeated headers are joined (RFC 9110 5.2). Bytes that are no text
    are read as Latin-1, which has a letter for each."""
    joined: dict[str, str] = {}
    for name, raw in request.headers.items():
        key = name.lower()
        if key in _UNSAFE:
            continue
        value = raw.encode("utf-8", "surrogateescape").decode("latin-1")
        joined[key] = f"{joined[key]}, {value}" if key in joined else value
    return joined


def _response(answer: func.HttpResponse) -> web.Response:
    response = web.Response(status=answer.status_code, body=answer.get_body())
    headers: Any = answer.headers
    for name, value in headers.items():
        if name.lower() in _HOP_BY_HOP:
            continue
        if name.lower() == "content-type":
            response.headers[hdrs.CONTENT_TYPE] = value
        else:
            response.headers.add(name, value)
    return response


def _problem(problem: problems.Problem) -> web.Response:
    return web.Response(
        status=problem.status,
        body=problem.body(),
        headers={**problem.headers, hdrs.CONTENT_TYPE: problems.MEDIA_TYPE},
    )
