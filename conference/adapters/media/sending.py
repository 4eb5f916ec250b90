"""The subscriber's side: one track on its way to one transport, under its own SSRC.

Law: an (ssrc, index) is sealed once. Outgoing numbers only grow at a switch; a late packet keeps the number that its
place gives it, or is dropped where that number is gone; a resend goes by RTX, under its own SSRC and numbers.
No sockets and no clock: `rewrite` returns the packet to seal, and `now` (seconds, monotonic) is an argument.
"""

import struct
from collections.abc import Callable
from typing import Final

from conference.adapters.media.headers import NOTHING, Head, HeadWriter, Passed, abs_send_time
from conference.adapters.media.numbering import Renumbering
from conference.adapters.media.pictures import FrameNumbers, Vp8Pictures
from conference.adapters.media.receiving import Stream
from conference.ports.forwarding import PauseReason, SenderChanged, SetSender, WantTrack
from conference.protocol import rtcp
from conference.protocol.payload import Vp8Descriptor, begins_key_frame, is_video, vp8_descriptor
from conference.protocol.rtp import RtpPacket, unroll

CACHE: Final = 512  # packets that RTX can bring back; at 1 Mb/s about five seconds
THUMBNAIL_WIDTH: Final = 240  # device pixels up to which the lowest layer is enough
RESEND_INTERVAL_S: Final = 0.02  # and at least a round trip
MAX_RESEND_INTERVAL_S: Final = 0.3
ASK_INTERVAL_S: Final = 0.5  # between a subscriber's requests for key frames, doubled by each that follows closely
MAX_ASK_INTERVAL_S: Final = 4.0
MAX_RESENDS: Final = 10
SR_INTERVAL_S: Final = 1.0
_FIXED: Final = struct.Struct("!BBHII")
_SEQUENCE: Final = struct.Struct("!H")
_NTP_UNITS: Final = 2**32


class Sent:
    """A packet in the cache: enough to send it again by RTX."""

    __slots__ = ("at", "data", "head", "number", "resends")

    def __init__(self, number: int, data: bytes, head: Head) -> None:
        self.number = number
        self.data = data
        self.head = head
        self.at = 0.0
        self.resends = 0


class Sender:
    """Rewrites a track's packets for one subscriber. `take_number` gives the transport's next wide number."""

    def __init__(self, command: SetSender, take_number: Callable[[], int], random32: Callable[[], int]) -> None:
        self.sender_id = command.sender_id
        self.track_id = command.track_id
        self.ssrc = command.ssrc
        self.rtx_ssrc = command.rtx_ssrc
        self.cname = command.cname
        self.codec = command.codec
        self.is_video = is_video(command.codec.name)
        self.is_connected = False  # the subscriber's transport has keys and a nominated pair
        self.is_stopped = False  # by PauseSender
        self.is_beyond = False  # the last N
        self.was_paused = False  # when that was last acted on
        self.want: WantTrack | None = None
        self.rid: str | None = None  # the layer that is pinned; None: the highest
        self.is_strict = False  # nothing but the pinned layer
        self.current: Stream | None = None
        self.target: Stream | None = None
        self.forwarded = 0
        self.octets = 0
        self.is_first_told = False
        self.reported_at = float("-inf")
        self.fraction_lost = 0.0
        self.round_trip_s: float | None = None
        self._ask_interval = ASK_INTERVAL_S
        self._asked_at = float("-inf")
        self.is_ask_deferred = False  # until the next key frame
        self._take_number = take_number
        self._is_waiting = True  # for a key frame
        self._heads = HeadWriter(command.extensions, command.mid)
        self._numbers = Renumbering(0x10000 + (random32() & 0x3FFF))
        self._clock_offset = random32()
        self._last_timestamp = 0
        self._last_at: float | None = None
        self._cache: list[Sent | None] = [None] * CACHE
        self._rtx_number = random32() & 0x3FFF
        self._reports: dict[int, float] = {}  # middle 32 bits of NTP -> when sent
        self._next_report = 0.0
        self._pictures = Vp8Pictures()
        self._frames = FrameNumbers()
        self._told: tuple[PauseReason, Stream | None, int] | None = None

    # --- what is forwarded -------------------------------------------------------------------------------------------
    @property
    def pause_reason(self) -> PauseReason:
        if self.is_stopped or (self.want is not None and not self.want.visible):
            return "hidden"
        return "last-n" if self.is_beyond else "none"

    @property
    def is_paused(self) -> bool:
        return self.pause_reason != "none"

    @property
    def is_thumbnail(self) -> bool:
        return self.want is not None and 0 < self.want.width <= THUMBNAIL_WIDTH and not self.want.pinned

    @property
    def wants_key_frame(self) -> bool:
        """True while the next packet that may be forwarded is the first of a key frame of `target`."""
        return self.is_video and self.target is not None and (self._is_waiting or self.target is not self.current)

    def wait(self) -> None:
        """What was interrupted begins with a key frame again; what comes before it is dropped."""
        self._is_waiting = True

    def limit_temporal(self, limit: int | None) -> None:
        """The highest temporal layer that goes out, of VP8; None for all."""
        self._pictures.limit = limit

    def news(self) -> SenderChanged | None:
        """What a video forwards now, where that has changed since the last call."""
        reason, current, temporal = self.pause_reason, self.current, self._pictures.temporal
        if reason == "none" and (current is None or self._is_waiting):
            return None  # it is told with the first packet
        state = (reason, current, temporal) if reason == "none" else (reason, None, 0)
        if not self.is_video or state == self._told:
            return None
        self._told = state
        if current is None or reason != "none":
            return SenderChanged(self.sender_id, reason, "", 0, 0)
        return SenderChanged(self.sender_id, reason, current.rid, current.place, temporal)

    def accepts(self, stream: Stream, is_key: bool) -> bool:
        """Whether the packet may go out. Switches to `stream` where this is the packet to switch at."""
        if not self.is_connected or self.is_paused:
            return False
        if self.is_strict and self.rid is not None and stream.rid != self.rid:
            return False
        if stream is self.current and not self._is_waiting:
            return True
        return stream is self.target and (is_key or not self.is_video)

    def rewrite(
        self, packet: RtpPacket, number: int, stream: Stream, now: float, passed: Passed = NOTHING
    ) -> bytes | None:
        """The outgoing packet; None for one that is left out, or whose number is gone. Call only after `accepts`."""
        descriptor = vp8_descriptor(packet.payload) if self.codec.name == "VP8" else None
        if stream is not self.current or self._is_waiting:
            if self.current is not None and stream is not self.current:
                self._frames.switch(passed.descriptor)
            self._switch(packet, number, stream, descriptor, now)
        is_key = descriptor is not None and begins_key_frame(self.codec.name, packet.payload)
        if descriptor is None or self._pictures.admits(descriptor, packet.timestamp, is_key=is_key):
            return self._place(packet, number, descriptor, passed, now)
        if self._numbers.drop(number):
            self._pictures.drop(descriptor)
            return None
        # The place of a late packet was kept: a subscriber that saw a gap would ask for it in vain.
        filler = RtpPacket(0, 0, packet.timestamp, 0, b"", padding=1)
        return self._place(filler, number, None, NOTHING, now)

    def _place(
        self, packet: RtpPacket, number: int, descriptor: Vp8Descriptor | None, passed: Passed, now: float
    ) -> bytes | None:
        out = self._numbers.map(number)
        if out is None:
            return None
        slot = self._cache[out % CACHE]
        if out <= self._numbers.highest_out - CACHE or (slot is not None and slot.number == out):
            return None
        payload = packet.payload if descriptor is None else self._pictures.rewrite(packet.payload, descriptor)
        timestamp = (packet.timestamp + self._clock_offset) & 0xFFFFFFFF
        if passed.descriptor is not None:
            passed = passed._replace(descriptor=self._frames.rewrite(passed.descriptor))
        head = self._heads.head(passed)
        data = self._build(packet, payload, out, timestamp, head, passed.level, now)
        self._cache[out % CACHE] = Sent(out, b"" if self.rtx_ssrc is None else data, head)
        if self._numbers.forwarded(number, out):
            self._last_timestamp, self._last_at = timestamp, now
        self.forwarded += 1
        self.octets += len(payload)
        return data

    def _build(
        self, packet: RtpPacket, payload: bytes, out: int, timestamp: int, head: Head, level: int | None, now: float
    ) -> bytes:
        first = 0x80 | (0x10 if head.block else 0) | (0x20 if packet.padding else 0)
        second = self.codec.payload_type | (0x80 if packet.marker else 0)
        data = bytearray(_FIXED.pack(first, second, out & 0xFFFF, timestamp, self.ssrc))
        data += head.block
        self._stamp(data, head, now)
        if head.level_at is not None and level is not None:
            data[head.level_at] = level
        data += payload
        if packet.padding:
            data += bytes(packet.padding - 1) + bytes((packet.padding,))
        return bytes(data)

    def _stamp(self, data: bytearray, head: Head, now: float) -> None:
        """What each packet that goes out says of itself, also one that is sent again."""
        if head.wide_at is not None:
            _SEQUENCE.pack_into(data, head.wide_at, self._take_number() & 0xFFFF)
        if head.time_at is not None:
            data[head.time_at : head.time_at + 3] = abs_send_time(now)

    # --- switching ---------------------------------------------------------------------------------------------------
    def _switch(
        self, packet: RtpPacket, number: int, stream: Stream, descriptor: Vp8Descriptor | None, now: float
    ) -> None:
        """Numbers go on where they stopped. The clock goes on too: within a stream by itself, between streams by their
        sender reports, else by the time that has passed."""
        self._numbers.begin(number, self._numbers.highest_out + 1)
        is_other = self.current is not None and stream is not self.current
        if self.current is not None and is_other:
            self._clock_offset = self._clock_for(packet.timestamp, stream, self.current, now)
        self._pictures.switch(descriptor, is_other=is_other)
        self.current = stream
        self._is_waiting = False

    def _clock_for(self, timestamp: int, stream: Stream, former: Stream, now: float) -> int:
        elapsed = max(now - (self._last_at if self._last_at is not None else now), 0.001)
        expected = self._last_timestamp + max(int(elapsed * stream.clock_rate), 1)
        offset = (expected - timestamp) & 0xFFFFFFFF
        if stream.sr is not None and former.sr is not None:
            apart = (stream.sr.ntp - former.sr.ntp) * stream.clock_rate // _NTP_UNITS
            drift = stream.sr.rtp_timestamp - former.sr.rtp_timestamp - apart
            aligned = (self._clock_offset - drift) & 0xFFFFFFFF
            ahead = (timestamp + aligned - self._last_timestamp) & 0xFFFFFFFF
            if 0 < ahead < expected - self._last_timestamp + stream.clock_rate // 2:
                offset = aligned
        return offset

    # --- feedback of the subscriber ----------------------------------------------------------------------------------
    def resend(self, sequence: int, now: float) -> bytes | None:
        """The RTX packet (RFC 4588) for a lost number; None where it is gone or was resent just now."""
        if self.rtx_ssrc is None or self.codec.rtx_payload_type is None:
            return None
        number = unroll(sequence, self._numbers.highest_out)
        sent = self._cache[number % CACHE]
        if sent is None or sent.number != number or sent.resends >= MAX_RESENDS:
            return None
        if now - sent.at < min(max(RESEND_INTERVAL_S, self.round_trip_s or 0.0), MAX_RESEND_INTERVAL_S):
            return None  # the copy may be on its way
        sent.at = now
        sent.resends += 1
        self._rtx_number += 1
        data = bytearray(sent.data)
        data[1] = data[1] & 0x80 | self.codec.rtx_payload_type
        _SEQUENCE.pack_into(data, 2, self._rtx_number & 0xFFFF)
        data[8:12] = self.rtx_ssrc.to_bytes(4, "big")
        self._stamp(data, sent.head, now)
        at = 12 + len(sent.head.block)
        data[at:at] = _SEQUENCE.pack(number & 0xFFFF)
        return bytes(data)

    def may_ask_key_frame(self, now: float) -> bool:
        """Whether the subscriber's request goes through now. Every key frame costs everybody who receives the track, so
        one who asks all the time is served ever more slowly; what is held back comes due later."""
        quiet = now - self._asked_at
        if quiet < self._ask_interval:
            self.is_ask_deferred = True
            return False
        is_close = quiet < 2 * MAX_ASK_INTERVAL_S
        self._ask_interval = min(2 * self._ask_interval, MAX_ASK_INTERVAL_S) if is_close else ASK_INTERVAL_S
        self._asked_at, self.is_ask_deferred = now, False
        return True

    def is_ask_due(self, now: float) -> bool:
        """True once for a request that was held back."""
        return self.is_ask_deferred and self.may_ask_key_frame(now)

    def reported(self, block: rtcp.ReportBlock, now: float) -> None:
        """The peer's view of this sender."""
        self.reported_at = now
        self.fraction_lost = block.fraction_lost / 256
        sent_at = self._reports.get(block.last_sr)
        if sent_at is not None:
            self.round_trip_s = max(now - sent_at - block.delay / 65_536, 0.0)

    def report(self, now: float) -> bytes | None:
        """The sender report that is due: the publisher's clock, moved on to now, in our time stamps."""
        stream = self.current
        if stream is None or stream.sr is None or not self.forwarded or now < self._next_report:
            return None
        self._next_report = now + SR_INTERVAL_S
        passed = now - stream.sr_arrival
        ntp = stream.sr.ntp + int(passed * _NTP_UNITS)
        timestamp = stream.sr.rtp_timestamp + int(passed * stream.clock_rate) + self._clock_offset
        self._reports[ntp >> 16 & 0xFFFFFFFF] = now
        if len(self._reports) > 8:
            del self._reports[next(iter(self._reports))]
        report = rtcp.SenderReport(self.ssrc, ntp, timestamp & 0xFFFFFFFF, self.forwarded, self.octets)
        return rtcp.sender_report(report) + rtcp.cname(self.ssrc, self.cname)
