"""Builds the edge from the settings and runs it until it is told to stop."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
from aiohttp import web

from conference.settings import Settings
from local.edge import headers
from local.edge.addresses import certificate_names
from local.edge.certificates import Certificates
from local.edge.files import Files
from local.edge.server import Edge


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[int]:
    """Serves while the context lasts; gives the port."""
    connector = aiohttp.TCPConnector(limit=1000, keepalive_timeout=30)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=_OURS
    ) as http:
        edge = Edge(
            origins={
                "functions": f"http://127.0.0.1:{settings.functions_port}",
                "signaling": f"http://127.0.0.1:{settings.signaling_port}",
                "identity": f"http://127.0.0.1:{settings.identity_port}",
            },
            files=Files(settings.web_dir),
            page_headers=headers.of_page(
                settings.public_url,
                (settings.oidc_issuer, settings.websocket_url, *settings.allowed_origins.split(",")),
            ),
            http=http,
        )
        runner = web.ServerRunner(edge.server(), shutdown_timeout=2)
        await runner.setup()
        site = web.TCPSite(runner, settings.host, settings.port, ssl_context=_tls(settings))
        try:
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()


# The client's own headers pass as they are; aiohttp must not add any.
_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def _tls(settings: Settings) -> ssl.SSLContext | None:
    if not settings.tls:
        return None
    certificates = Certificates(settings.data_dir / "tls")
    certificates.ensure(certificate_names(settings.host), datetime.now(UTC))
    return certificates.server_context()


async def serve(settings: Settings) -> None:
    """Serves until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(settings):
        await stop.wait()
