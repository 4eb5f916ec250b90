"""RTP packets of one stream to whole frames in order: a reorder buffer with a deadline.

What is missing is waited for; what is still missing at the deadline is given up, and of a video stream nothing is given
out then before the next key frame, which `needs_key` asks for. Packets are kept by unrolled number, 1,024 at most.
"""

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Final, NamedTuple

from conference.protocol.packetizing import h264, vp8
from conference.protocol.rtp import RtpPacket, unroll

MAX_PACKETS: Final = 1_024
MAX_FRAME: Final = 262_144
AUDIO_WAIT_S: Final = 0.06
VIDEO_WAIT_S: Final = 0.25
_JUMP: Final = 2_048  # numbers; farther away is another start
_VIDEO: Final[dict[str, ModuleType]] = {"VP8": vp8, "H264": h264}


class WholeFrame(NamedTuple):
    """`data` is what a decoder takes; `extensions` are those of its first packet."""

    timestamp: int
    data: bytes
    is_key: bool
    is_discardable: bool
    extensions: dict[int, bytes]


class FrameAssembler:
    """One stream. `codec` is opus, VP8 or H264."""

    def __init__(self, codec: str) -> None:
        self._format = _VIDEO.get(codec)
        self._wait = AUDIO_WAIT_S if self._format is None else VIDEO_WAIT_S
        self._packets: dict[int, tuple[RtpPacket, float]] = {}
        self._next = -1  # the first number that was not given out
        self._highest = -1
        self._is_broken = self._format is not None  # nothing before a key frame
        self.needs_key = False
        self.lost = 0  # packets that were given up

    def push(self, packet: RtpPacket, now: float) -> list[WholeFrame]:
        """A packet; the frames that are whole now, in order."""
        if self._next < 0:
            self._next = self._highest = packet.sequence + 0x10000
        number = unroll(packet.sequence, self._highest)
        if abs(number - self._highest) > _JUMP or len(self._packets) >= MAX_PACKETS:
            self._restart(packet.sequence)
            number = self._next
        if number < self._next:
            return []
        self._highest = max(self._highest, number)
        self._packets.setdefault(number, (packet, now))
        return self._take(now)

    def expire(self, now: float) -> list[WholeFrame]:
        """Gives up what has been missing for too long; the frames that may go then."""
        return self._take(now)

    def _restart(self, sequence: int) -> None:
        self.lost += len(self._packets)
        self._packets.clear()
        self._next = self._highest = sequence + 0x10000
        self._break()

    def _break(self) -> None:
        if self._format is not None:
            self._is_broken = self.needs_key = True

    def _take(self, now: float) -> list[WholeFrame]:
        found: list[WholeFrame] = []
        while self._packets:
            end = self._end()
            if end is not None:
                found += self._give(end)
            elif not self._give_up(now):
                break
        return found

    def _end(self) -> int | None:
        """One past the last packet of the frame that begins at `_next`, where all of it is there."""
        first = self._packets.get(self._next)
        if first is None:
            return None
        if self._format is None or not first[0].payload:
            return self._next + 1
        number = self._next
        while (entry := self._packets.get(number)) is not None:
            if entry[0].timestamp != first[0].timestamp:
                return number  # its marker was lost, or never set
            number += 1
            if entry[0].marker:
                return number
        return None

    def _give(self, end: int) -> list[WholeFrame]:
        packets = [self._packets.pop(number)[0] for number in range(self._next, end)]
        self._next = end
        payloads = [packet.payload for packet in packets if packet.payload]
        if not payloads:
            return []  # padding
        first = packets[0]
        if self._format is None:
            return [WholeFrame(first.timestamp, payloads[0], False, False, first.extensions)]
        join: Callable[[Sequence[bytes]], bytes | None] = self._format.join
        data = join(payloads)
        if data is None or len(data) > MAX_FRAME:
            self._break()
            return []
        is_key = self._format.is_key_frame(data)
        if self._is_broken and not is_key:
            self.needs_key = True
            return []
        self._is_broken = self.needs_key = False
        return [WholeFrame(first.timestamp, data, is_key, self._format.is_discardable(payloads), first.extensions)]

    def _give_up(self, now: float) -> bool:
        """Goes past what is missing, where something behind it has waited for too long: to where a frame begins."""
        oldest = min(arrival for _, arrival in self._packets.values())
        if now - oldest < self._wait:
            return False
        present = sorted(self._packets)
        if self._format is None:
            self.lost += present[0] - self._next
            self._next = present[0]
            return True
        start = self._next_start(present)
        gone = [number for number in present if number < start]
        self.lost += start - self._next - len(gone)
        for number in gone:
            del self._packets[number]
        self._next = start
        self._break()
        return bool(self._packets)

    def _next_start(self, present: list[int]) -> int:
        """The first packet behind the gap that begins another picture than the broken one."""
        assert self._format is not None
        head = self._packets.get(self._next)
        for number in present:
            packet = self._packets[number][0]
            is_other = head is None or packet.timestamp != head[0].timestamp
            if number > self._next and is_other and self._format.begins_picture(packet.payload):
                return number
        return present[-1] + 1
