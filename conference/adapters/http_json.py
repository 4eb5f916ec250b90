"""Reads a JSON document over HTTP: discovery documents and key sets.

Small on purpose, since what it reads decides whom we trust: https (plain http only on loopback, or where it is
allowed), no redirects, no compression, at most 256 KiB, and one time-out for the whole.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from conference.domain.addresses import is_loopback
from conference.domain.errors import Unavailable
from conference.protocol import strict_json

MAX_BYTES: Final = 256 * 1024
TIMEOUT_S: Final = 5.0


class HttpJson:
    """A callable `fetch_json(url)`. Every failure is Unavailable; its text names the host, never the content."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        allow_http: bool = False,
        timeout_s: float = TIMEOUT_S,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._ca_file, self._allow_http = ca_file, allow_http
        self._timeout_s, self._max_bytes = timeout_s, max_bytes
        self._tls: ssl.SSLContext | None = None

    async def __call__(self, url: str) -> object:
        """The parsed document. Raises Unavailable."""
        host = self._checked_host(url)
        try:
            async with asyncio.timeout(self._timeout_s):
                return strict_json.loads(await self._read(url))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            raise Unavailable(host, after_s=self._timeout_s) from error

    def _checked_host(self, url: str) -> str:
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
        except ValueError:
            raise Unavailable("an address that is none", retryable=False, after_s=None) from None
        if parts.scheme == "https" or (parts.scheme == "http" and (self._allow_http or is_loopback(host))):
            return host
        raise Unavailable(f"{host} without https", retryable=False, after_s=None)

    async def _read(self, url: str) -> bytes:
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        # A client a document: they are rare, and no connection outlives its event loop.
        async with (
            httpx.AsyncClient(verify=self._context(), trust_env=False, follow_redirects=False) as client,
            client.stream("GET", url, headers=headers, timeout=self._timeout_s) as response,
        ):
            if response.status_code != 200 or "content-encoding" in response.headers:
                raise ValueError(f"answered {response.status_code}")
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > self._max_bytes:
                    raise ValueError("too large")
            return bytes(content)

    def _context(self) -> ssl.SSLContext:
        """The system's authorities and the extra one; built once, as reading them takes 20 ms."""
        if self._tls is None:
            self._tls = ssl.create_default_context()
            if self._ca_file is not None:
                self._tls.load_verify_locations(self._ca_file)
        return self._tls
