"""The publisher's side: streams of a track, loss tracking, key frame requests, receiver reports, transport feedback.

No sockets and no clock: packets and `now` (seconds, monotonic) go in, what to send comes out.
"""

from typing import Final

from conference.ports.forwarding import TrackCodec
from conference.protocol import rtcp
from conference.protocol.payload import is_video
from conference.protocol.rtp import unroll

LAYER_ALIVE_S: Final = 1.5  # a layer that was silent for so long is not received any more
HISTORY: Final = 1_024  # packets in which duplicates are recognised; older ones are dropped
MAX_GAP: Final = 256  # a greater jump is a new start, not a loss
NACK_DELAY_S: Final = 0.01
NACK_RETRY_S: Final = 0.08
NACK_TRIES: Final = 10
MAX_MISSING: Final = 512  # of one stream; more are no losses to repair but a broken link
MAX_ASKED: Final = 256  # in one request
PLI_INTERVAL_S: Final = 0.5
PLI_HIGH_INTERVAL_S: Final = 1.0  # of the higher layers, whose key frames are large
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


class RateMeter:
    """Bits and packets per second, of the last full second."""

    __slots__ = ("_at", "_bytes", "_packets", "bitrate_bps", "packets_per_s")

    def __init__(self) -> None:
        self.bitrate_bps = self.packets_per_s = 0
        self._at: float | None = None
        self._bytes = self._packets = 0

    def add(self, size: int) -> None:
        self._bytes += size
        self._packets += 1

    def close(self, now: float) -> None:
        """Ends the present interval."""
        if self._at is not None and now > self._at:
            self.bitrate_bps = round(self._bytes * 8 / (now - self._at))
            self.packets_per_s = round(self._packets / (now - self._at))
        self._at, self._bytes, self._packets = now, 0, 0


class Stream:
    """One primary SSRC of a track: a simulcast layer, or the whole track. Numbers are unrolled to full length."""

    __slots__ = (
        "_expected_before",
        "_jitter",
        "_received_before",
        "_ring",
        "_transit",
        "base",
        "clock_rate",
        "highest",
        "is_beginning",
        "is_video",
        "key_frames",
        "last_arrival",
        "loss",
        "losses",
        "place",
        "rates",
        "received",
        "rid",
        "size",
        "sr",
        "sr_arrival",
        "ssrc",
    )

    def __init__(self, ssrc: int, rid: str, place: int, codec: TrackCodec) -> None:
        self.ssrc = ssrc
        self.rid = rid
        self.place = place  # rank among the track's layers, 0 lowest
        self.clock_rate = codec.clock_rate
        self.is_video = is_video(codec.name)
        self.highest = self.base = -1
        self.received = 0
        self.last_arrival = 0.0
        self.is_beginning = False  # the newest packet is the first, or the first after a silence
        self.sr: rtcp.SenderReport | None = None
        self.sr_arrival = 0.0
        self.losses = LossTracker()
        self.key_frames = KeyFrameThrottle(PLI_HIGH_INTERVAL_S if place else PLI_INTERVAL_S)
        self.rates = RateMeter()
        self.loss = 0.0  # fraction between the last two reports
        self.size = (0, 0)  # of the picture, where a key frame told it
        self._ring = [-1] * HISTORY
        self._transit: float | None = None
        self._jitter = 0.0
        self._expected_before = self._received_before = 0

    def receive(self, sequence: int, timestamp: int, now: float, *, has_nack: bool) -> int | None:
        """The unrolled number of a packet; None for a duplicate or one that is too late."""
        if self.highest < 0:
            self.highest = self.base = number = sequence + 0x10000  # so that what came before it is not negative
            self._measure(timestamp, now)  # what the second packet is measured against
        else:
            number = unroll(sequence, self.highest)
        if number <= self.highest - HISTORY or self._ring[number % HISTORY] == number:
            return None
        self._ring[number % HISTORY] = number
        if number > self.highest:
            if has_nack and number > self.highest + 1:
                self.losses.gap(self.highest + 1, number, now)
            self.highest = number
            self._measure(timestamp, now)
        else:
            self.losses.arrived(number)
        self.is_beginning = not self.received or now - self.last_arrival >= LAYER_ALIVE_S
        self.received += 1
        self.last_arrival = now
        return number

    @property
    def jitter_s(self) -> float:
        return self._jitter / self.clock_rate

    @property
    def lost(self) -> int:
        """Packets that have not come, of all since the start."""
        return max(self.highest - self.base + 1 - self.received, 0) if self.received else 0

    def _measure(self, timestamp: int, now: float) -> None:
        """Interarrival jitter, RFC 3550 6.4.1."""
        transit = now * self.clock_rate - timestamp
        if self._transit is not None:
            change = abs(transit - self._transit)
            if change < self.clock_rate * 10:  # a wrap of the time stamp is no jitter
                self._jitter += (change - self._jitter) / 16
        self._transit = transit

    def report(self, now: float) -> tuple[rtcp.ReportBlock, float]:
        """The report block since the last one, and the fraction lost."""
        expected = self.highest - self.base + 1
        interval = expected - self._expected_before
        lost = interval - (self.received - self._received_before)
        self._expected_before, self._received_before = expected, self.received
        fraction = self.loss = min(max(lost, 0) / interval, 1.0) if interval > 0 else 0.0
        last_sr = delay = 0
        if self.sr is not None:
            last_sr = self.sr.ntp >> 16 & 0xFFFFFFFF
            delay = int((now - self.sr_arrival) * 65_536)
        block = rtcp.ReportBlock(
            self.ssrc,
            min(int(fraction * 256), 255),
            expected - self.received,
            self.highest - 0x10000,
            int(self._jitter),
            last_sr,
            delay,
        )
        return block, fraction


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
