"""The reference forwarding engine: asyncio, libsrtp, Python. Small and correct, not fast.

It is the oracle of the native engine and serves machines where that cannot be built. One UDP socket, read in bounded
batches; no task and no timer per packet: what is periodic runs in one tick. What it does with datagrams is in
`core.py`; here are the socket, the tick and the wake-ups.

It estimates no bandwidth: nothing is held back for lack of it, and what it reports has no estimate.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from secrets import randbits
from typing import Final

from conference.adapters.media.core import MAX_DATAGRAM, ReferenceCore
from conference.adapters.media.ice import Address
from conference.ports.forwarding import Command, EngineSnapshot, EngineStats, Event

TICK_S: Final = 0.02
MAX_BATCH: Final = 64  # datagrams read before the loop runs on
SOCKET_BUFFER: Final = 4 << 20


def _random32() -> int:
    return randbits(32)


class ReferenceEngine:
    """ForwardingEngine in Python, one packet worker. `clock` gives monotonic seconds."""

    name = "reference"
    has_tcp = False
    is_healthy = True  # it lives and dies with the process

    def __init__(
        self, host: str, port: int, clock: Callable[[], float], random32: Callable[[], int] = _random32
    ) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._wakeup: Callable[[], None] = lambda: None
        self._ports: tuple[int, ...] = ()
        self.core = ReferenceCore(self._send, random32, self._wake)

    async def start(self) -> tuple[str, int]:
        """Binds the socket; returns its address. Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                self._socket.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
            self._socket.bind((self._host, self._port))
        except OSError:
            self._socket.close()
            raise
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        host, port = self._socket.getsockname()
        self._ports = (int(port),)
        return str(host), int(port)

    @property
    def ports(self) -> tuple[int, ...]:
        return self._ports

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self.core.clear()

    # --- the port ----------------------------------------------------------------------------------------------------
    def apply(self, commands: Sequence[Command]) -> None:
        self.core.apply(commands, self._clock())

    def poll_events(self, limit: int) -> list[Event]:
        return self.core.poll_events(limit)

    def on_wakeup(self, callback: Callable[[], None]) -> None:
        self._wakeup = callback

    def stats(self) -> EngineStats:
        return self.core.stats()

    def snapshot(self) -> EngineSnapshot:
        return self.core.snapshot(time.thread_time())

    # --- socket and tick ---------------------------------------------------------------------------------------------
    def _wake(self) -> None:
        if self._loop is not None:
            self._loop.call_soon(self._wakeup)

    def _send(self, data: bytes, address: Address) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(data, address)
        except BlockingIOError:
            self.core.dropped["send-buffer-full"] += 1
        except OSError:
            self.core.dropped["send-failed"] += 1

    def _readable(self) -> None:
        sock = self._socket
        if sock is None:
            return
        now = self._clock()
        for _ in range(MAX_BATCH):
            try:
                data, address = sock.recvfrom(MAX_DATAGRAM + 1)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of an earlier send
                continue
            self.core.receive(data, address, now)

    def _tick(self) -> None:
        if self._loop is None or self._socket is None:
            return
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        self.core.tick(self._clock())
