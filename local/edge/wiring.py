"""Builds the edge from the settings and runs it until it is told to stop."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import uvloop
from aiohttp import web

from conference import telemetry
from conference.adapters.files import FilesMediaFiles
from conference.adapters.files.links import Links
from conference.adapters.system import SystemClock
from conference.settings import Settings, settings
from local.edge import headers
from local.edge.addresses import certificate_names
from local.edge.certificates import Certificates
from local.edge.files import Files
from local.edge.media import Media
from local.edge.server import Edge


@contextlib.asynccontextmanager
async def running(chosen: Settings) -> AsyncIterator[int]:
    """Serves while the context lasts; gives the port."""
    connector = aiohttp.TCPConnector(limit=1000, keepalive_timeout=30)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), skip_auto_headers=_OURS
    ) as http:
        edge = Edge(
            origins={
                "functions": f"http://127.0.0.1:{chosen.functions_port}",
                "signaling": f"http://127.0.0.1:{chosen.signaling_port}",
                "tunnel": f"http://127.0.0.1:{chosen.tunnel_port}",
                "identity": f"http://127.0.0.1:{chosen.identity_port}",
            },
            files=Files(chosen.web_dir),
            page_headers=headers.of_page(
                chosen.public_url,
                (chosen.oidc_issuer, chosen.websocket_url, *chosen.allowed_origins.split(",")),
            ),
            http=http,
            media=_media(chosen),
        )
        runner = web.ServerRunner(edge.server(), shutdown_timeout=2)
        await runner.setup()
        site = web.TCPSite(runner, chosen.host, chosen.port, ssl_context=_tls(chosen))
        try:
            await site.start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()


# The client's own headers pass as they are; aiohttp must not add any.
_OURS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def _media(chosen: Settings) -> Media | None:
    """Where recordings are in Blob storage, that serves them."""
    if chosen.media_files != "embedded":
        return None
    clock, folder = SystemClock(), chosen.media_folder
    links = Links.of(folder, chosen.public_url)
    return Media(FilesMediaFiles(folder, clock, links), links, clock.now)


def _tls(chosen: Settings) -> ssl.SSLContext | None:
    if not chosen.tls:
        return None
    certificates = Certificates(chosen.data_dir / "tls")
    certificates.ensure(certificate_names(chosen.host, chosen.turn_host), datetime.now(UTC))  # TURN has the same one
    return certificates.server_context()


async def serve(chosen: Settings) -> None:
    """Serves until SIGINT or SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running(chosen):
        await stop.wait()


def main() -> None:
    """The process: logs, then serves until SIGINT or SIGTERM."""
    telemetry.configure("parley-edge", settings())
    uvloop.run(serve(settings()))
