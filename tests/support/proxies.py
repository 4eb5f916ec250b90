"""Proxies that stand in a company's way out: squid with CONNECT to one place, and one that opens TLS and buffers.

The second one is what breaks WebSockets and streaming: it makes every request anew, without Upgrade, and hands on an
answer only when it has all of it. Clients trust it by an authority of its own, as a company's machines do.
"""

import shutil
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from local.edge.certificates import Certificates

STARTS_WITHIN_S: Final = 20.0
LONGEST_ANSWER_S: Final = 60.0
_SQUID: Final = """
http_port {host}:{port}
acl edge dst {edge}
acl https port 443
acl CONNECT method CONNECT
http_access allow CONNECT edge https
http_access deny all
cache deny all
access_log none
cache_log /dev/null
cache_store_log none
pid_filename {folder}/squid.pid
coredump_dir {folder}
visible_hostname squid.test
pinger_enable off
shutdown_lifetime 0 seconds
"""
_DROPPED: Final = frozenset(
    {"connection", "upgrade", "transfer-encoding", "content-length", "keep-alive", "te", "trailer", "host"}
)


@contextmanager
def squid(folder: Path, host: str, port: int, edge: str) -> Iterator[str]:
    """A squid at `host` and `port` that lets out nothing but CONNECT to port 443 of `edge`; gives its URL.

    Raises AssertionError where it does not start."""
    program = shutil.which("squid")
    assert program is not None, "there is no squid"
    folder.mkdir()
    written = folder / "squid.conf"
    written.write_text(_SQUID.format(host=host, port=port, edge=edge, folder=folder))
    with (folder / "output").open("w") as output:
        process = subprocess.Popen([program, "-N", "-d", "1", "-f", str(written)], stdout=output, stderr=output)
    try:
        _wait_listening(process, host, port, folder)
        yield f"http://{host}:{port}"
    finally:
        process.terminate()
        process.wait(STARTS_WITHIN_S)


def _wait_listening(process: "subprocess.Popen[bytes]", host: str, port: int, folder: Path) -> None:
    ends = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection((host, port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
            continue
        return
    raise AssertionError(f"squid does not start: {(folder / 'output').read_text()[-500:]}")


@dataclass(slots=True)
class BufferingProxy:
    """`authority` is the file of the certificate authority that its clients trust; `seen` counts requests by what they
    are for (the last part of their path), and `upgrades` those that asked for another protocol."""

    authority: Path
    seen: Counter[str] = field(default_factory=Counter)
    upgrades: int = 0


@asynccontextmanager
async def buffering_proxy(
    folder: Path, host: str, port: int, edge: str, edge_authority: Path
) -> AsyncIterator[BufferingProxy]:
    """Listens at `host` and `port` as if it were `edge` (a host), whose port 443 it asks in the clients' place."""
    certificates = Certificates(folder)
    certificates.ensure([edge], datetime.now(UTC))
    proxy = BufferingProxy(certificates.ca_file)
    trusting = ssl.create_default_context(cafile=edge_authority)
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trusting, limit=100),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=LONGEST_ANSWER_S),
    ) as http:

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            proxy.seen[request.path.rpartition("/")[2]] += 1
            proxy.upgrades += "Upgrade" in request.headers
            async with http.request(
                request.method,
                f"https://{edge}{request.raw_path}",
                headers=_passed(request.headers),
                data=await request.read(),
                allow_redirects=False,
            ) as answer:
                body = await answer.read()
                return web.Response(status=answer.status, headers=_passed(answer.headers), body=body)

        runner = web.ServerRunner(web.Server(handle, access_log=None), shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, host, port, ssl_context=certificates.server_context()).start()
        try:
            yield proxy
        finally:
            await runner.cleanup()


def _passed(headers: "CIMultiDictProxy[str]") -> "CIMultiDict[str]":
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _DROPPED)
