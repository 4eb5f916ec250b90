"""Admission of DTLS handshakes: a bounded rate and a bounded queue, oldest dropped.

A handshake costs a millisecond of CPU and comes before any authentication of the peer's certificate. A dropped one is
not lost: the peer repeats its ClientHello, and that asks again.
"""

from collections import OrderedDict
from typing import Final

MAX_WAITING: Final = 64
RATE_PER_S: Final = 200.0
BURST: Final = 20.0


class HandshakeQueue:
    """Transports that wait for their handshake to begin. `now` is in monotonic seconds."""

    def __init__(self, now: float, *, rate: float = RATE_PER_S, burst: float = BURST) -> None:
        self._waiting: OrderedDict[str, None] = OrderedDict()
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def ask(self, transport_id: str) -> None:
        if transport_id in self._waiting:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popitem(last=False)
            self.dropped += 1
        self._waiting[transport_id] = None

    def forget(self, transport_id: str) -> None:
        self._waiting.pop(transport_id, None)

    def admit(self, now: float) -> list[str]:
        """Those that may begin now, oldest first."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        admitted = []
        while self._waiting and self._tokens >= 1:
            self._tokens -= 1
            admitted.append(self._waiting.popitem(last=False)[0])
        return admitted
