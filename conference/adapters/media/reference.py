"""The reference forwarding engine: asyncio, libsrtp, Python. Small and correct, not fast.

It is the oracle of the native engine and serves machines where that cannot be built. One UDP socket, read in bounded
batches; no task and no timer per packet: what is periodic runs in one tick. `commands.py` applies commands,
`packets.py` moves media; here are the socket, the demultiplexer (RFC 7983), the tick and the event queue.
"""

import asyncio
import socket
from collections import Counter, deque
from collections.abc import Callable, Sequence
from secrets import randbits
from typing import Final

from conference.adapters.media.commands import Commands
from conference.adapters.media.ice import Address
from conference.adapters.media.packets import PacketMover
from conference.adapters.media.state import EngineState
from conference.adapters.media.transport import DISCONNECTED_S, Transport
from conference.domain.errors import ProtocolError
from conference.ports.forwarding import (
    CONSENT_TIMEOUT_S,
    Command,
    DtlsReceived,
    EngineStats,
    Event,
    IceChanged,
    SendDtls,
)
from conference.protocol import stun

TICK_S: Final = 0.02
CONSENT_CHECK_S: Final = 0.5
MAX_BATCH: Final = 64  # datagrams read before the loop runs on
MAX_DATAGRAM: Final = 1_500
MAX_EVENTS: Final = 4_096
SOCKET_BUFFER: Final = 4 << 20
ADDRESS_HOLD_S: Final = DISCONNECTED_S  # an address in use by one transport cannot be claimed by another


class ReferenceEngine:
    """ForwardingEngine in Python. `clock` gives monotonic seconds."""

    def __init__(self, host: str, port: int, clock: Callable[[], float]) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._events: deque[Event] = deque()
        self._next_consent_check = 0.0
        self._wakeup: Callable[[], None] = lambda: None
        self._dropped: Counter[str] = Counter()
        self._state = EngineState(randbits(32) | 1, self._emit, self._send, self._dropped)
        self._mover = PacketMover(self._state)
        self._commands = Commands(self._state)

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
        return str(host), int(port)

    async def stop(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        if self._socket is not None and self._loop is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._state.clear()
        self._events.clear()

    # --- the port ----------------------------------------------------------------------------------------------------
    def apply(self, commands: Sequence[Command]) -> None:
        now = self._clock()
        for command in commands:
            self._commands.apply(command, now)
        if any(not isinstance(command, SendDtls) for command in commands):
            self._mover.request_key_frames(now)

    def poll_events(self, limit: int) -> list[Event]:
        return [self._events.popleft() for _ in range(min(limit, len(self._events)))]

    def on_wakeup(self, callback: Callable[[], None]) -> None:
        self._wakeup = callback

    def stats(self) -> EngineStats:
        state = self._state
        return EngineStats(
            transports=len(state.transports),
            tracks=len(state.tracks),
            senders=len(state.senders),
            received_packets=state.received_packets,
            received_bytes=state.received_bytes,
            forwarded_packets=state.forwarded_packets,
            forwarded_bytes=state.forwarded_bytes,
            retransmitted_packets=state.retransmitted_packets,
            dropped=dict(self._dropped),
        )

    def _emit(self, event: Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self._dropped["event-queue-full"] += 1
        self._events.append(event)
        if len(self._events) == 1 and self._loop is not None:
            self._loop.call_soon(self._wakeup)

    # --- socket ------------------------------------------------------------------------------------------------------
    def _send(self, data: bytes, address: Address) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(data, address)
        except BlockingIOError:
            self._dropped["send-buffer-full"] += 1
        except OSError:
            self._dropped["send-failed"] += 1

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
            self._receive(data, address, now)

    def _receive(self, data: bytes, address: Address, now: float) -> None:
        """RFC 7983 7 by the first byte. Media and DTLS are taken from validated pairs only."""
        if not data or len(data) > MAX_DATAGRAM:
            self._dropped["oversize"] += 1
            return
        first = data[0]
        if first < 4:
            self._receive_stun(data, address, now)
            return
        transport = self._state.by_address.get(address)
        if transport is None:
            self._dropped["stranger"] += 1
        elif 128 <= first < 192:
            self._mover.receive(transport, data, now)
        elif 20 <= first < 64:
            self._emit(DtlsReceived(transport.transport_id, data))
        else:
            self._dropped["unknown-protocol"] += 1

    def _receive_stun(self, data: bytes, address: Address, now: float) -> None:
        try:
            request = stun.parse(data)
        except ProtocolError:
            self._dropped["bad-stun"] += 1
            return
        if request.type != stun.BINDING_REQUEST:
            return
        transport = self._state.by_ufrag.get(request.username.partition(":")[0])
        if transport is None or self._is_held(address, transport, now):
            self._dropped["stun-refused"] += 1
            return
        before = transport.ice.ufrags
        answer = transport.ice.answer(request, address, now)
        if answer is None:
            self._dropped["stun-refused"] += 1
            return
        self._send(answer, address)
        self._state.claim_addresses(transport, now)
        for ufrag in before:
            if ufrag not in transport.ice.ufrags:
                self._state.by_ufrag.pop(ufrag, None)
        if transport.ice.selected is not None:
            self._change(transport, "connected")

    def _is_held(self, address: Address, transport: Transport, now: float) -> bool:
        """A participant cannot take over the address of another's living transport by forged checks."""
        owner = self._state.by_address.get(address)
        if owner is None or owner is transport:
            return False
        pair = owner.ice.pairs.get(address)
        return pair is not None and now - pair.seen < ADDRESS_HOLD_S

    # --- what is periodic --------------------------------------------------------------------------------------------
    def _tick(self) -> None:
        if self._loop is None or self._socket is None:
            return
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        now = self._clock()
        if now >= self._next_consent_check:
            self._next_consent_check = now + CONSENT_CHECK_S
            for transport in list(self._state.transports.values()):
                self._check_consent(transport, now)
        self._mover.tick(now)

    def _check_consent(self, transport: Transport, now: float) -> None:
        last = transport.ice.last_check
        if last is None:
            return
        transport.ice.expire(now)
        self._state.claim_addresses(transport, now)
        if now - last >= CONSENT_TIMEOUT_S:
            self._change(transport, "failed")
            self._state.remove_transport(transport.transport_id)
        elif now - last >= DISCONNECTED_S:
            self._change(transport, "disconnected")

    def _change(self, transport: Transport, state: str) -> None:
        if transport.state != state:
            transport.state = state
            if state in {"connected", "disconnected", "failed"}:
                self._emit(IceChanged(transport.transport_id, state))  # type: ignore[arg-type]
