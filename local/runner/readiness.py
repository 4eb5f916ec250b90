"""Asks a process whether it is ready, without the weight of a client library: a small HTTP GET, a Redis PING, or just a
connection."""

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

ASK_S: Final = 2.0


async def is_ready(address: str) -> bool:
    """True where the address answers as a ready process does."""
    parts = urlsplit(address)
    redis = parts.scheme == "redis"
    question = b"PING\r\n" if redis else f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\n\r\n".encode()
    try:
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(
                parts.hostname, parts.port, ssl=_any_certificate(parts.scheme)
            )
            try:
                if parts.scheme == "tcp":
                    return True
                writer.write(question)
                line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return line.startswith(b"+PONG") if redis else line.split()[1:2] == [b"200"]


def _any_certificate(scheme: str) -> ssl.SSLContext | None:
    if scheme != "https":
        return None
    # Only "does it answer" is asked, of a process on this machine that the runner itself has started.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
