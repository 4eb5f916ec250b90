"""The publisher's side: streams of a track, loss tracking, key frame requests, receiver reports, transport feedback.

No sockets and no clock: packets and `now` (seconds, monotonic) go in, what to send comes out.
"""

from typing import Final

from conference.ports.forwarding import TrackCodec
from conference.protocol import rtcp
from conference.protocol.feedback import HISTORY, PLI_INTERVAL_S, KeyFrameThrottle, LossTracker
from conference.protocol.payload import is_video
from conference.protocol.rtp import unroll

LAYER_ALIVE_S: Final = 1.5  # a layer that was silent for so long is not received any more
PLI_HIGH_INTERVAL_S: Final = 1.0  # of the higher layers, whose key frames are large


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
