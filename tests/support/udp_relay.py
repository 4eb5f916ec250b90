"""A UDP path to a media node that can be cut, and that can forget a flow for good, as NATs and firewalls do."""

import asyncio
from typing import Any

Address = tuple[str, int]


class UdpRelay:
    """Clients send to `port` on loopback. Each of their addresses has a socket of its own towards `target`."""

    def __init__(self, target: Address) -> None:
        self._target = target
        self._flows: dict[Address, asyncio.DatagramTransport] = {}
        self._opening: set[asyncio.Task[None]] = set()
        self._blocked: set[Address] = set()
        self._front: asyncio.DatagramTransport
        self.is_cut = False
        self.lost = 0
        self.port = 0

    async def __aenter__(self) -> "UdpRelay":
        loop = asyncio.get_running_loop()
        self._front, _ = await loop.create_datagram_endpoint(lambda: _Heard(self._come), local_addr=("127.0.0.1", 0))
        self.port = int(self._front.get_extra_info("sockname")[1])
        return self

    async def __aexit__(self, *ended: object) -> None:
        self._front.close()
        await asyncio.gather(*self._opening)
        for flow in self._flows.values():
            flow.close()

    @property
    def flows(self) -> int:
        """Addresses that were ever heard of."""
        return len(self._flows)

    def forget_flows(self) -> None:
        """What comes from the addresses of now, or is for them, is lost from now on."""
        self._blocked |= set(self._flows)

    def _passes(self, source: Address) -> bool:
        passes = not self.is_cut and source not in self._blocked
        self.lost += not passes
        return passes

    def _come(self, data: bytes, source: Address) -> None:
        if not self._passes(source):
            return
        flow = self._flows.get(source)
        if flow is not None:
            flow.sendto(data)
            return
        task = asyncio.ensure_future(self._open(source, data))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, source: Address, first: bytes) -> None:
        loop = asyncio.get_running_loop()
        made, _ = await loop.create_datagram_endpoint(
            lambda: _Heard(lambda data, _: self._back(data, source)), remote_addr=self._target
        )
        former = self._flows.get(source)
        if former is not None:  # two came at once
            made.close()
            made = former
        self._flows[source] = made
        made.sendto(first)

    def _back(self, data: bytes, source: Address) -> None:
        if self._passes(source):
            self._front.sendto(data, source)


class _Heard(asyncio.DatagramProtocol):
    def __init__(self, heard: Any) -> None:
        self._heard = heard

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._heard(data, (addr[0], addr[1]))

    def error_received(self, exc: Exception) -> None:
        """Nobody is there any more: as lost as on the way."""
