"""UDP sockets on loopback that stand for media nodes behind a tunnel: aiortc talks to them and does not know.

`rewrite` puts their addresses into SDP in the nodes' place. Loopback is reached by this machine alone; what comes back
goes to the address that spoke last, which ICE keeps to one.
"""

import asyncio
from contextlib import suppress
from typing import Any, Final

from conference.domain.errors import ProtocolError
from parley_client.tunnel import TunnelClient

HOST: Final = "127.0.0.1"
MAX_OF_CONNECTION: Final = 2  # paths of one peer connection; a session has four


class Proxies:
    """The sockets of one tunnel session. `connection` numbers the peer connections, 0 publish and 1 subscribe."""

    def __init__(self, tunnel: TunnelClient) -> None:
        self._tunnel = tunnel
        self._made: dict[tuple[str, int, int], _Proxy] = {}
        tunnel.heard = self._heard

    async def rewrite(self, sdp: str, connection: int) -> str:
        """The SDP with candidates that lead through the tunnel. Raises TimeoutError where the gateway is silent."""
        lines, count = [], 0
        for line in sdp.splitlines():
            if line.startswith("a=candidate:"):
                words = line.split(" ")
                is_ours = len(words) >= 8 and words[2].lower() == "udp" and words[5].isdecimal()
                if not is_ours or count == MAX_OF_CONNECTION:
                    continue
                port = await self._port(words[4], int(words[5]), connection)
                if port is None:
                    continue
                count += 1
                words[4], words[5] = HOST, str(port)
                line = " ".join(words)
            lines.append(line)
        return "\r\n".join(lines) + "\r\n"

    async def _port(self, ip: str, port: int, connection: int) -> int | None:
        key = (ip, port, connection)
        if key not in self._made:
            self._make_room(connection)
            stream, refused = await self._tunnel.path(ip, port)
            if refused:
                return None
            made = _Proxy(self._tunnel, stream)
            await asyncio.get_running_loop().create_datagram_endpoint(lambda: made, local_addr=(HOST, 0))
            self._made[key] = made
        return self._made[key].port

    def _make_room(self, connection: int) -> None:
        """A connection that has moved to other nodes gives up its oldest path."""
        own = [key for key in self._made if key[2] == connection]
        if len(own) >= MAX_OF_CONNECTION:
            oldest = self._made.pop(own[0])
            self._tunnel.close_path(oldest.stream)
            oldest.transport.close()

    def _heard(self, stream: int, data: bytes) -> None:
        for proxy in self._made.values():
            if proxy.stream == stream:
                proxy.back(data)

    def close(self) -> None:
        for proxy in self._made.values():
            proxy.transport.close()


class _Proxy(asyncio.DatagramProtocol):
    def __init__(self, tunnel: TunnelClient, stream: int) -> None:
        self._tunnel = tunnel
        self.stream = stream
        self.port = 0
        self.refused = 0  # datagrams that are none of a path
        self._client: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.port = int(transport.get_extra_info("sockname")[1])

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._client = addr
        try:
            self._tunnel.datagram(self.stream, data)
        except ProtocolError:
            self.refused += 1

    def back(self, data: bytes) -> None:
        if self._client is not None:
            with suppress(OSError):
                self.transport.sendto(data, self._client)
