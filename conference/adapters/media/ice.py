"""The ICE-lite side of one transport: answers checks, follows nomination, keeps consent (RFC 8445, RFC 7675).

Every pair that passed the integrity check may send to us, and we send on the nominated pair of the highest priority
that is still alive. A lite agent sends no checks; the peer's silence is the loss of consent.
"""

from dataclasses import dataclass
from typing import Final

from conference.ports.forwarding import CONSENT_TIMEOUT_S
from conference.protocol import stun

Address = tuple[str, int]
MAX_PAIRS: Final = 16
STALE_S: Final = 6.0  # a nominated pair that was silent for so long yields to one that is not


@dataclass(slots=True)
class Pair:
    """A remote address that passed a connectivity check."""

    address: Address
    priority: int
    nominated: bool
    seen: float


class IceAgent:
    """Pairs and credentials of one transport. `selected` is the nominated pair in use; None before nomination."""

    def __init__(self, ufrag: str, pwd: str) -> None:
        self._passwords = {ufrag: pwd}
        self._current = ufrag
        self.pairs: dict[Address, Pair] = {}
        self.selected: Address | None = None
        self.last_check: float | None = None

    @property
    def ufrags(self) -> tuple[str, ...]:
        return tuple(self._passwords)

    @property
    def destination(self) -> Address | None:
        """Where to send: the selected pair, and before nomination the one that was checked last.

        RFC 8445 lets a lite agent wait for nomination. Chromium nominates towards one only with its second check, and
        its ClientHello comes between the two: an answer held back is asked for again 50 ms later."""
        if self.selected is not None:
            return self.selected
        latest = max(self.pairs.values(), key=lambda pair: pair.seen, default=None)
        return latest.address if latest else None

    def restart(self, ufrag: str, pwd: str) -> None:
        """New credentials beside the present ones, which go with the first check that uses the new ones."""
        self._passwords = {self._current: self._passwords[self._current], ufrag: pwd}

    def forget(self) -> None:
        """Drops all pairs and credentials: only a restart brings the transport back."""
        self._passwords = {self._current: ""}
        self.pairs.clear()
        self.selected = None

    def answer(self, request: stun.StunMessage, address: Address, now: float) -> bytes | None:
        """The answer to a check, None where it must be ignored. A good check validates its address."""
        ufrag = request.username.partition(":")[0]
        password = self._passwords.get(ufrag)
        if not password or not stun.has_integrity(request, password):
            return None
        if request.ice_controlled:
            return stun.role_conflict(request, password)
        if ufrag != self._current:
            self._passwords = {ufrag: password}
            self._current = ufrag
        self._validate(request, address, now)
        return stun.binding_success(request, address[0], address[1], password)

    def _validate(self, request: stun.StunMessage, address: Address, now: float) -> None:
        pair = self.pairs.get(address)
        if pair is None:
            if len(self.pairs) >= MAX_PAIRS:
                others = [known for known in self.pairs if known != self.selected]
                del self.pairs[min(others, key=lambda known: self.pairs[known].seen)]
            pair = self.pairs[address] = Pair(address, request.priority, False, now)
        pair.seen = self.last_check = now
        pair.priority = request.priority
        pair.nominated = pair.nominated or request.use_candidate
        self.select(now)

    def release(self, address: Address, now: float) -> None:
        """The address belongs to another transport now: the peer behind it is not ours any more."""
        if self.pairs.pop(address, None) is not None:
            self.select(now)

    def select(self, now: float) -> None:
        """Chooses the pair to send on."""
        alive = [p for p in self.pairs.values() if p.nominated and now - p.seen < STALE_S]
        alive = alive or [p for p in self.pairs.values() if p.nominated]
        best = max(alive, key=lambda p: (p.priority, p.seen), default=None)
        self.selected = best.address if best else None

    def expire(self, now: float) -> None:
        """Removes the pairs whose consent is gone."""
        for address in [a for a, pair in self.pairs.items() if now - pair.seen >= CONSENT_TIMEOUT_S]:
            del self.pairs[address]
        self.select(now)
