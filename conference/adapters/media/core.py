"""The reference engine without sockets and without a clock: commands and datagrams in, datagrams and events out.

Time is an argument (monotonic seconds) and randomness is injected, so that a seed and the same inputs give the same
run: differential tests of the native engine drive this class. `commands.py` applies commands, `packets.py` moves media,
`choosing.py` says who receives what; here are the demultiplexer (RFC 7983), consent and the event queue.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Final

from conference.adapters.media.choosing import Choosing
from conference.adapters.media.commands import Commands
from conference.adapters.media.ice import Address
from conference.adapters.media.packets import PacketMover
from conference.adapters.media.snapshots import snapshot
from conference.adapters.media.state import EngineState
from conference.adapters.media.transport import DISCONNECTED_S, Transport
from conference.domain.errors import ProtocolError
from conference.ports.forwarding import (
    CONSENT_TIMEOUT_S,
    Command,
    DtlsReceived,
    EngineSnapshot,
    EngineStats,
    Event,
    SendDtls,
)
from conference.protocol import stun

CONSENT_CHECK_S: Final = 0.2
MAX_DATAGRAM: Final = 1_500
MAX_EVENTS: Final = 4_096
ADDRESS_HOLD_S: Final = DISCONNECTED_S  # an address in use by one transport cannot be claimed by another


class ReferenceCore:
    """The engine's state. `send` takes each outgoing datagram, `random32` gives 32 random bits, `wake` is called when
    events wait after there were none. Call `tick` about every 20 ms."""

    def __init__(
        self,
        send: Callable[[bytes, Address], None],
        random32: Callable[[], int],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._wake = wake
        self._events: deque[Event] = deque()
        self._next_consent_check = float("-inf")
        self.dropped: Counter[str] = Counter()
        self.state = EngineState(random32, self._emit, send, self.dropped)
        self._choosing = Choosing(self.state)
        self.mover = PacketMover(self.state, self._choosing)
        self._commands = Commands(self.state)

    def apply(self, commands: Sequence[Command], now: float) -> None:
        """Takes the commands in order."""
        for command in commands:
            self._commands.apply(command, now)
        if any(not isinstance(command, SendDtls) for command in commands):
            self._choosing.settle(now)
            self.mover.request_key_frames(now)

    def poll_events(self, limit: int) -> list[Event]:
        """Up to `limit` events, oldest first."""
        return [self._events.popleft() for _ in range(min(limit, len(self._events)))]

    def clear(self) -> None:
        self.state.clear()
        self._events.clear()

    def stats(self) -> EngineStats:
        state = self.state
        return EngineStats(
            transports=len(state.transports),
            tracks=len(state.tracks),
            senders=len(state.senders),
            received_packets=state.received_packets,
            received_bytes=state.received_bytes,
            forwarded_packets=state.forwarded_packets,
            forwarded_bytes=state.forwarded_bytes,
            retransmitted_packets=state.retransmitted_packets,
            dropped=dict(self.dropped),
        )

    def snapshot(self, cpu_s: float = 0.0) -> EngineSnapshot:
        """`cpu_s` is what the one packet worker has used."""
        return snapshot(self.state, cpu_s)

    def _emit(self, event: Event) -> None:
        if len(self._events) >= MAX_EVENTS:
            self._events.popleft()
            self.dropped["event-queue-full"] += 1
        self._events.append(event)
        if len(self._events) == 1:
            self._wake()

    # --- datagrams ---------------------------------------------------------------------------------------------------
    def receive(self, data: bytes, address: Address, now: float) -> None:
        """RFC 7983 7 by the first byte. Media and DTLS are taken from validated pairs only."""
        if not data or len(data) > MAX_DATAGRAM:
            self.dropped["oversize"] += 1
            return
        first = data[0]
        if first < 4:
            self._receive_stun(data, address, now)
            return
        transport = self.state.by_address.get(address)
        if transport is None:
            self.dropped["stranger"] += 1
        elif 128 <= first < 192:
            self.mover.receive(transport, data, now)
        elif 20 <= first < 64 and transport.plain is None:
            self._emit(DtlsReceived(transport.transport_id, data))
        else:
            self.dropped["unknown-protocol"] += 1

    def _receive_stun(self, data: bytes, address: Address, now: float) -> None:
        try:
            request = stun.parse(data)
        except ProtocolError:
            self.dropped["bad-stun"] += 1
            return
        if request.type != stun.BINDING_REQUEST:
            return
        transport = self.state.by_ufrag.get(request.username.partition(":")[0])
        ice = transport.ice if transport is not None else None
        if transport is None or ice is None or self._is_held(address, transport, now):
            self.dropped["stun-refused"] += 1
            return
        before = ice.ufrags
        answer = ice.answer(request, address, now)
        if answer is None:
            self.dropped["stun-refused"] += 1
            return
        self.state.send(answer, address)
        self.state.claim_addresses(transport, now)
        for ufrag in before:
            if ufrag not in ice.ufrags:
                self.state.by_ufrag.pop(ufrag, None)
        if ice.selected is not None:
            self.state.change(transport, "connected")

    def _is_held(self, address: Address, transport: Transport, now: float) -> bool:
        """A participant cannot take over the address of another's living transport by forged checks."""
        owner = self.state.by_address.get(address)
        if owner is None or owner is transport:
            return False
        if owner.ice is None:
            return True
        pair = owner.ice.pairs.get(address)
        return pair is not None and now - pair.seen < ADDRESS_HOLD_S

    # --- what is periodic --------------------------------------------------------------------------------------------
    def tick(self, now: float) -> None:
        if now >= self._next_consent_check:
            self._next_consent_check = now + CONSENT_CHECK_S
            for transport in list(self.state.transports.values()):
                self._check_consent(transport, now)
        self.mover.tick(now)

    def _check_consent(self, transport: Transport, now: float) -> None:
        if transport.plain is not None:
            if transport.plain.is_silent(now):
                self.state.change(transport, "disconnected")
            return
        last = transport.ice.last_check if transport.ice is not None else None
        if transport.ice is None or last is None:
            return
        transport.ice.expire(now)
        self.state.claim_addresses(transport, now)
        if now - last >= CONSENT_TIMEOUT_S:
            self.state.change(transport, "failed")
            self.state.remove_transport(transport.transport_id)
            self._choosing.settle(now)
        elif now - last >= DISCONNECTED_S:
            self.state.change(transport, "disconnected")
