"""A front of an HTTP service that misbehaves as told, a request at a time."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from aiohttp import ClientSession, web
from multidict import CIMultiDict
from yarl import URL

from local.azurite.server import Certificate

PASS: Final = "pass"
RESET: Final = "reset"  # the connection closes before the service has seen the request
LOST: Final = "lost"  # the service has done it, and its answer does not arrive
HANG: Final = "hang"  # as a half-open connection: taken, and never answered
_HOP_BY_HOP: Final = frozenset({"transfer-encoding", "connection", "content-length", "keep-alive", "date", "server"})
# What the client library would add, and a signature may cover.
_SIGNED: Final = ("Content-Type", "Accept", "Accept-Encoding", "User-Agent")


class FaultyFront:
    """Passes requests on to `upstream`, but for those that `fates` holds something for: a fate, or a status that is
    answered in the service's place. `seen` counts the requests."""

    def __init__(self, upstream: str, trusted: Certificate | None) -> None:
        self._trust = ssl.create_default_context(cafile=trusted.ca_file) if trusted else True
        self._upstream = "{0.scheme}://{0.netloc}".format(urlsplit(upstream))
        self.fates: deque[str | int] = deque()
        self.seen = 0
        self.endpoint = ""
        self._closing = asyncio.Event()
        self._session = ClientSession(auto_decompress=False)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen += 1
        body = await request.read()
        fate = self.fates.popleft() if self.fates else PASS
        if isinstance(fate, int):
            return web.Response(status=fate, headers={"Retry-After": "0"})
        if fate == HANG:
            await self._closing.wait()
        if fate in (RESET, HANG):
            return self._cut(request)
        answer = await self._passed_on(request, body)
        return self._cut(request) if fate == LOST else answer

    def _cut(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _passed_on(self, request: web.Request, body: bytes) -> web.Response:
        url = self._upstream + request.raw_path
        headers = CIMultiDict((name, value) for name, value in request.headers.items() if name.lower() != "host")
        async with self._session.request(
            request.method,
            URL(url, encoded=True),
            data=body,
            headers=headers,
            skip_auto_headers=_SIGNED,
            ssl=self._trust,
        ) as answer:
            kept = CIMultiDict((k, v) for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP)
            return web.Response(status=answer.status, body=await answer.read(), headers=kept)

    async def close(self) -> None:
        self._closing.set()
        await self._session.close()


@asynccontextmanager
async def faulty(upstream: str, certificate: Certificate | None = None) -> AsyncIterator[FaultyFront]:
    """A front on a free port for the time of the block. With a certificate, which the upstream has, too, it speaks
    https."""
    front = FaultyFront(upstream, certificate)
    app = web.Application(client_max_size=64 * 2**20)
    app.router.add_route("*", "/{path:.*}", front.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(certificate) if certificate else None)
    await site.start()
    port = runner.addresses[0][1]
    account = urlsplit(upstream).path.rstrip("/")
    front.endpoint = f"{'https' if certificate else 'http'}://127.0.0.1:{port}{account}"
    try:
        yield front
    finally:
        await front.close()
        await runner.cleanup()


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """TLS with this certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.chain_file, certificate.key_file)
    return context
