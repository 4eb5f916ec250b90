"""What a receiver of RTP tells its sender: what is missing, when to ask for a key frame, and when packets came.

Of an SFU's publishers and of a tunnelled client's SFU alike. Packets and `now` (seconds, monotonic) go in.
"""

from typing import Final

from conference.protocol import rtcp
from conference.protocol.rtp import unroll

HISTORY: Final = 1_024  # packets in which duplicates are recognised; older ones are dropped
MAX_GAP: Final = 256  # a greater jump is a new start, not a loss
NACK_DELAY_S: Final = 0.01
NACK_RETRY_S: Final = 0.08
NACK_TRIES: Final = 10
MAX_MISSING: Final = 512  # of one stream; more are no losses to repair but a broken link
MAX_ASKED: Final = 256  # in one request
PLI_INTERVAL_S: Final = 0.5
PLI_URGENT_S: Final = 0.2


class KeyFrameThrottle:
    """At most one request per interval; a throttled one is deferred to the interval's end, never dropped."""

    __slots__ = ("_due", "_interval", "_last")

    def __init__(self, interval: float = PLI_INTERVAL_S) -> None:
        self._interval = interval
        self._last = -interval
        self._due: float | None = None

    def request(self, now: float, *, urgent: bool = False) -> None:
        """`urgent` (a new subscriber) may pass after a shorter time."""
        due = max(now, self._last + (PLI_URGENT_S if urgent else self._interval))
        self._due = due if self._due is None else min(self._due, due)

    @property
    def is_pending(self) -> bool:
        return self._due is not None

    def take(self, now: float) -> bool:
        """True once for a request that is due."""
        if self._due is None or now < self._due:
            return False
        self._due, self._last = None, now
        return True

    def fulfilled(self) -> None:
        """A key frame came: what was asked for before is answered."""
        self._due = None


class LossTracker:
    """Which numbers are missing, and when to ask for them."""

    __slots__ = ("_missing", "gave_up")

    def __init__(self) -> None:
        self._missing: dict[int, list[float]] = {}  # number -> [next request at, tries]
        self.gave_up = False

    def gap(self, first: int, end: int, now: float) -> None:
        """The numbers from `first` up to, not including, `end` have not come."""
        if end - first > MAX_GAP or len(self._missing) + end - first > MAX_MISSING:
            self._missing.clear()
            self.gave_up = True
            return
        for number in range(first, end):
            self._missing[number] = [now + NACK_DELAY_S, 0]

    def arrived(self, number: int) -> None:
        if self._missing:
            self._missing.pop(number, None)

    def due(self, now: float) -> list[int]:
        """The numbers to ask for now. Sets `gave_up` when one has been asked for too often."""
        if not self._missing:
            return []
        wanted: list[int] = []
        for number, entry in list(self._missing.items()):
            if len(wanted) >= MAX_ASKED:
                break
            if now < entry[0]:
                continue
            if entry[1] >= NACK_TRIES:
                del self._missing[number]
                self.gave_up = True
                continue
            entry[0] = now + NACK_RETRY_S
            entry[1] += 1
            wanted.append(number)
        return wanted


class ArrivalLog:
    """Arrival times by transport-wide number, and the feedback about them."""

    __slots__ = ("_arrivals", "_count", "_highest", "_next", "media_ssrc")

    def __init__(self) -> None:
        self._arrivals: dict[int, float] = {}
        self._highest = -1
        self._next = -1  # the first number not yet reported
        self._count = 0
        self.media_ssrc = 0

    def add(self, number: int, now: float) -> None:
        full = number if self._highest < 0 else unroll(number, self._highest)
        if self._highest < 0:
            self._next = full
        if full > self._highest:
            self._highest = full
        if len(self._arrivals) < HISTORY and full > self._highest - HISTORY:
            self._arrivals.setdefault(full, now)

    def feedback(self, sender_ssrc: int) -> list[bytes]:
        """The feedback packets about what has arrived since the last call.

        A number that came after its gap was reported gets a packet of its own: one that spanned the numbers between it
        and the newest would tell again, as lost, what was told as received."""
        if not self._arrivals:
            return []
        arrivals = sorted(self._arrivals.items())
        self._arrivals = {}
        packets = []
        while arrivals:
            first = arrivals[0][0]
            base = self._next if 0 <= first - self._next < HISTORY else first
            part = arrivals if first >= self._next else _first_run(arrivals, self._next)
            packet, used = rtcp.transport_feedback(sender_ssrc, self.media_ssrc, self._count, base, part)
            self._next = max(self._next, arrivals[used - 1][0] + 1)
            self._count = (self._count + 1) & 0xFF
            packets.append(packet)
            arrivals = arrivals[used:]
        return packets


def _first_run(arrivals: list[tuple[int, float]], end: int) -> list[tuple[int, float]]:
    """The first arrivals whose numbers follow one another and are less than `end`."""
    first = arrivals[0][0]
    return [arrival for place, arrival in enumerate(arrivals) if arrival[0] == first + place and arrival[0] < end]
