"""The controlling side of ICE towards an ICE-lite agent (RFC 8445), as a sans-IO state machine.

Every candidate of the peer is checked with USE-CANDIDATE at once; the first that answers is used, and kept by consent
checks (RFC 7675) until its silence ends it. A check that is not answered is repeated soon. When to restart is the
caller's to decide, by `silence`. A lite agent sends no checks of its own, so none are answered here.
"""

from collections.abc import Callable, Iterable
from typing import Final, Literal

from conference.domain.errors import ProtocolError
from conference.protocol import stun

Address = tuple[str, int]
State = Literal["new", "checking", "connected", "failed"]
MAX_CANDIDATES: Final = 8
MAX_PENDING: Final = 64
RETRY_S: Final = 0.1
CONSENT_S: Final = 2.5
REPEAT_S: Final = 0.5  # until the answer comes
SILENCE_S: Final = 30.0  # RFC 7675 5.1
CHECK_S: Final = 15.0
_PRIORITY: Final = 126 << 24 | 65_535 << 8 | 255


class ControllingAgent:
    """`new_transaction` gives 12 random bytes. Times are seconds, monotonic."""

    def __init__(self, ufrag: str, tie_breaker: int, new_transaction: Callable[[], bytes]) -> None:
        self.ufrag = ufrag
        self.state: State = "new"
        self.selected: Address | None = None
        self._tie_breaker = tie_breaker
        self._new_transaction = new_transaction
        self._remote: tuple[str, str] = ("", "")
        self._candidates: list[Address] = []
        self._pending: dict[bytes, Address] = {}
        self._due = 0.0
        self._heard = 0.0

    def connect(self, ufrag: str, pwd: str, candidates: Iterable[Address], now: float) -> None:
        """Takes the peer's side; with other credentials than before, ICE restarts and the present pair goes on."""
        if (ufrag, pwd) != self._remote:
            self._remote = (ufrag, pwd)
            self._candidates.clear()
            self._pending.clear()
            self._due = now
            if self.state != "connected":
                self.state = "checking"
                self._heard = now
        for address in candidates:
            self.add(address)

    def restart(self, ufrag: str) -> None:
        """Our side of an ICE restart (RFC 8445 9). Checks go on with what is known of the peer until `connect` brings
        its new credentials, and the pair stays selected: whichever comes back first is used."""
        self.ufrag = ufrag

    def silence(self, now: float) -> float:
        """Seconds since the peer's last answer; 0 before the first one."""
        return now - self._heard if self.state == "connected" else 0.0

    def add(self, address: Address) -> None:
        if address not in self._candidates and len(self._candidates) < MAX_CANDIDATES:
            self._candidates.append(address)

    def tick(self, now: float) -> list[tuple[bytes, Address]]:
        """Checks that are due."""
        if self.state not in {"checking", "connected"}:
            return []
        limit = SILENCE_S if self.state == "connected" else CHECK_S
        if now - self._heard > limit:
            self.state = "failed"
            self.selected = None
            return []
        if now < self._due:
            return []
        is_settled = self.state == "connected" and self.selected in self._candidates
        self._due = now + (REPEAT_S if is_settled else RETRY_S)
        targets = [self.selected] if is_settled and self.selected else list(self._candidates)
        return [(self._check(address), address) for address in targets]

    def _check(self, address: Address) -> bytes:
        transaction = self._new_transaction()
        while len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[transaction] = address
        ufrag, pwd = self._remote
        return stun.binding_request(
            transaction,
            f"{ufrag}:{self.ufrag}",
            pwd,
            priority=_PRIORITY,
            use_candidate=True,
            tie_breaker=self._tie_breaker,
        )

    def receive(self, data: bytes, address: Address, now: float) -> bool:
        """A STUN datagram; True where it was a good answer to a check of ours."""
        try:
            message = stun.parse(data)
        except ProtocolError:
            return False
        asked = self._pending.get(message.transaction_id)
        if asked != address or message.type != stun.BINDING_SUCCESS:
            return False
        if not stun.has_integrity(message, self._remote[1]):
            return False
        del self._pending[message.transaction_id]
        self._heard = now
        if self.state == "checking" or self.selected not in self._candidates:
            self.selected = address
        if self.selected == address:
            self._due = now + CONSENT_S
        self.state = "connected"
        return True
