"""Paths of a datagram session: one connected UDP socket each, to a media node that signaling named to this session
on its connection or in its token.

No other address can be reached, whatever the client asks for: the gateway is no open relay.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from conference.domain.addresses import IpAddress, parse_address, unmapped
from conference.domain.errors import ProtocolError
from conference.protocol.rate import TokenBucket

MAX_PATHS: Final = 4
MAX_DATAGRAM: Final = 1_500
UP_BYTES_PER_S: Final = 750_000
DOWN_BYTES_PER_S: Final = 2_500_000
BURST_S: Final = 1.0


class Budget:
    """Bytes that may pass; `refused` counts the datagrams that might not."""

    def __init__(self, rate: int, now: float) -> None:
        self._bucket = TokenBucket(rate, rate * BURST_S, now)
        self.refused = 0

    def take(self, count: int, now: float) -> bool:
        allowed = self._bucket.take(now, count)
        self.refused += not allowed
        return allowed


class _Socket(asyncio.DatagramProtocol):
    def __init__(self, heard: Callable[[bytes], None]) -> None:
        self._heard = heard
        self.transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)  # by duty, not by its class

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        if len(data) <= MAX_DATAGRAM:
            self._heard(data)

    def error_received(self, exc: Exception) -> None:
        """An earlier datagram found nobody; ICE notices by itself."""


class Paths:
    """`heard` is given the stream and each datagram that comes back."""

    def __init__(self, heard: Callable[[int, bytes], None], now: float) -> None:
        self._heard = heard
        self._allowed: set[tuple[IpAddress, int]] = set()
        self._sockets: dict[int, _Socket] = {}
        self.up = Budget(UP_BYTES_PER_S, now)
        self.down = Budget(DOWN_BYTES_PER_S, now)

    def allow(self, ip: str, port: int) -> None:
        """Signaling named this media node to the session. What is no address is not allowed."""
        try:
            self._allowed.add((unmapped(parse_address(ip)), port))
        except ValueError:
            return

    def allow_only(self, nodes: Iterable[tuple[str, int]]) -> None:
        """From now on new paths lead to these; those that are open stay, so that a move is made before the break."""
        self._allowed.clear()
        for ip, port in nodes:
            self.allow(ip, port)

    def allows(self, ip: str, port: int) -> bool:
        """Whether signaling named this address."""
        try:
            return (unmapped(parse_address(ip)), port) in self._allowed
        except ValueError:
            return False

    async def open(self, stream: int, ip: str, port: int) -> None:
        """Raises ProtocolError: not-a-media-node, too-many-paths, stream-in-use; OSError where there is no way."""
        try:
            target = (unmapped(parse_address(ip)), port)
        except ValueError:
            raise ProtocolError("not-a-media-node", "That is no address.") from None
        if target not in self._allowed:
            raise ProtocolError("not-a-media-node", "Only media nodes of this session can be reached.")
        if stream in self._sockets or stream % 2 == 0:
            raise ProtocolError("stream-in-use", "Choose an odd stream that is free.")
        if len(self._sockets) >= MAX_PATHS:
            raise ProtocolError("too-many-paths", f"A session has at most {MAX_PATHS} paths.")
        made = _Socket(lambda data: self._heard(stream, data))
        self._sockets[stream] = made
        try:
            loop = asyncio.get_running_loop()
            await loop.create_datagram_endpoint(lambda: made, remote_addr=(str(target[0]), port))
        except OSError:
            del self._sockets[stream]
            raise

    def send(self, stream: int, data: bytes, now: float) -> None:
        """Out of the path's socket; more than the session may send is dropped and counted."""
        made = self._sockets.get(stream)
        if made is not None and made.transport is not None and self.up.take(len(data), now):
            made.transport.sendto(data)

    def close(self, stream: int) -> None:
        made = self._sockets.pop(stream, None)
        if made is not None and made.transport is not None:
            made.transport.close()

    def close_all(self) -> None:
        for stream in tuple(self._sockets):
            self.close(stream)
