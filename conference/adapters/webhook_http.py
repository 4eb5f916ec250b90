"""Port `WebhookSender` by httpx: posts to strangers' addresses, which must not lead inside.

The name is resolved here, every address that it has is judged (one special address refuses all), and the connection
goes to an address that was judged: a second resolution could answer otherwise (DNS rebinding). TLS still verifies the
name.
No redirects, no proxies from the environment, no cookies, and nothing of the answer but its status is read.
"""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Final

import httpx

from conference.adapters import tls
from conference.domain.addresses import IpAddress, is_special, parse_address, unmapped
from conference.domain.webhooks import WebhookUrl, parse_url
from conference.ports.webhooks import SEND_TIMEOUT_S, SendError, WebhookAnswer

_CONNECT_S: Final = 3.0
_ADDRESSES: Final = 3  # tried one after the other while none lets us connect
_RESOLVERS: Final = 32  # threads: a look-up cannot be broken off, and the loop's own threads serve joins

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class _Failed(Exception):
    def __init__(self, error: SendError) -> None:
        super().__init__(error)
        self.error: SendError = error


class HttpWebhookSender:
    """`loopback` allows this machine as a receiver, also without TLS; never in production. `resolve` gives the
    addresses of a name, or raises OSError; the system's resolver where it is left out."""

    def __init__(
        self,
        *,
        ca_file: Path | None = None,
        loopback: bool = False,
        timeout_s: float = SEND_TIMEOUT_S,
        resolve: Resolve | None = None,
    ) -> None:
        self._ca_file, self._loopback, self._timeout_s = ca_file, loopback, timeout_s
        self._resolve = resolve or self._ask_system
        self._threads = ThreadPoolExecutor(_RESOLVERS, "webhook-resolve")  # begun when they are needed

    async def close(self) -> None:
        """Does not wait for look-ups under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> WebhookAnswer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return WebhookAnswer(await self._send(url, body, headers))
        except _Failed as failed:
            return WebhookAnswer(None, failed.error)
        except TimeoutError:
            return WebhookAnswer(None, "timeout")

    async def _send(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        try:
            target = parse_url(url, loopback=self._loopback)
        except ValueError:
            raise _Failed("address-refused") from None
        addresses = await self._checked(target)
        for address in addresses[:-1]:
            try:
                return await self._post(target, address, body, headers)
            except _Failed as failed:
                if failed.error != "connect-failed":
                    raise
        return await self._post(target, addresses[-1], body, headers)

    async def _checked(self, target: WebhookUrl) -> Sequence[IpAddress]:
        try:
            found = [unmapped(parse_address(text)) for text in await self._resolve(target.host, target.port)]
        except (OSError, UnicodeError, ValueError):  # UnicodeError: a label that no resolver takes
            raise _Failed("name-unresolved") from None
        if not found:
            raise _Failed("name-unresolved")
        if not all(self._may_reach(target, address) for address in found):
            raise _Failed("address-refused")
        return found[:_ADDRESSES]

    async def _ask_system(self, host: str, port: int) -> Sequence[str]:
        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return list(dict.fromkeys(str(address[0]) for *_, address in found))

        return await asyncio.get_running_loop().run_in_executor(self._threads, ask)

    def _may_reach(self, target: WebhookUrl, address: IpAddress) -> bool:
        if self._loopback and address.is_loopback:
            return True
        return target.scheme == "https" and not is_special(address)

    async def _post(self, target: WebhookUrl, address: IpAddress, body: bytes, headers: Mapping[str, str]) -> int:
        url = httpx.URL(
            scheme=target.scheme, host=str(address), port=target.port, raw_path=target.target.encode("ascii")
        )
        sent = {"Accept": "*/*", "Accept-Encoding": "identity", **headers, "Host": target.authority}
        # The name for SNI and for the check of the certificate, as the URL has the address.
        extensions = {"sni_hostname": target.host.rstrip(".")} if target.scheme == "https" else {}
        times = httpx.Timeout(self._timeout_s, connect=_CONNECT_S)
        try:
            # A client a delivery: a kept connection to this address may have been verified for another name.
            async with (
                httpx.AsyncClient(verify=self._tls, trust_env=False, follow_redirects=False) as client,
                client.stream("POST", url, content=body, headers=sent, extensions=extensions, timeout=times) as answer,
            ):
                return answer.status_code
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            raise _Failed(_error_of(error)) from error

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made once, as reading the authorities takes 20 ms."""
        return tls.context(self._ca_file)


def _error_of(error: BaseException) -> SendError:
    causes: list[BaseException] = []
    while error not in causes:
        causes.append(error)
        error = error.__cause__ or error.__context__ or error
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "tls-failed"
    if any(isinstance(cause, httpx.ConnectError | httpx.ConnectTimeout) for cause in causes):
        return "connect-failed"
    if any(isinstance(cause, httpx.TimeoutException) for cause in causes):
        return "timeout"
    return "closed"
