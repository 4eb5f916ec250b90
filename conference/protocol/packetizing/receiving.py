"""One incoming stream of a WebRTC client: RTX undone, losses asked for, reports made, whole frames given.

Packets and `now` (seconds, monotonic) go in; frames and RTCP come out.
"""

from typing import Final

from conference.protocol import rtcp
from conference.protocol.feedback import KeyFrameThrottle, LossTracker
from conference.protocol.packetizing.assembly import FrameAssembler, WholeFrame
from conference.protocol.packetizing.sending import unix_ms
from conference.protocol.rtp import RtpPacket, unroll

CLOCK_INTERVAL_S: Final = 2.0


class IncomingStream:
    """`ssrc` and `rtx_ssrc` as the offer names them; `codec` is opus, VP8 or H264."""

    def __init__(self, ssrc: int, rtx_ssrc: int | None, codec: str, payload_type: int, clock_rate: int) -> None:
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.assembler = FrameAssembler(codec)
        self.is_video = codec != "opus"
        self._payload_type = payload_type
        self._clock_rate = clock_rate
        self._losses = LossTracker()
        self._key_frames = KeyFrameThrottle()
        self._highest = self._base = -1
        self._received = self._expected_before = self._received_before = 0
        self._jitter = 0.0
        self._transit: float | None = None
        self._sr: tuple[rtcp.SenderReport, float] | None = None
        self._clock_at = -CLOCK_INTERVAL_S

    def receive(self, packet: RtpPacket, now: float) -> list[WholeFrame]:
        """A packet of the stream or of its RTX."""
        if packet.ssrc == self.rtx_ssrc:
            if len(packet.payload) < 2:
                return []  # a probe
            packet = RtpPacket(
                self._payload_type,
                int.from_bytes(packet.payload[:2], "big"),
                packet.timestamp,
                self.ssrc,
                packet.payload[2:],
                marker=packet.marker,
                extensions=packet.extensions,
            )
        elif packet.payload_type != self._payload_type:
            return []
        self._count(packet, now)
        frames = self.assembler.push(packet, now)
        self._ask(now)
        return frames

    def expire(self, now: float) -> list[WholeFrame]:
        frames = self.assembler.expire(now)
        self._ask(now)
        return frames

    def want_key_frame(self, now: float) -> None:
        self._key_frames.request(now, urgent=True)

    def _ask(self, now: float) -> None:
        if self.assembler.needs_key and not self._key_frames.is_pending:
            self._key_frames.request(now)
        elif not self.assembler.needs_key and self._losses.gave_up:
            self._losses.gave_up = False

    def _count(self, packet: RtpPacket, now: float) -> None:
        if self._highest < 0:
            self._highest = self._base = packet.sequence + 0x10000
            self._received = 1
            return
        number = unroll(packet.sequence, self._highest)
        self._received += 1
        if number <= self._highest:
            self._losses.arrived(number)
            return
        if self.is_video and number > self._highest + 1:
            self._losses.gap(self._highest + 1, number, now)
        self._highest = number
        transit = now * self._clock_rate - packet.timestamp
        if self._transit is not None and abs(transit - self._transit) < self._clock_rate * 10:
            self._jitter += (abs(transit - self._transit) - self._jitter) / 16  # RFC 3550 6.4.1
        self._transit = transit

    def feedback(self, sender_ssrc: int, now: float) -> list[bytes]:
        """NACK and PLI that are due."""
        found = []
        lost = self._losses.due(now)
        if lost:
            found.append(rtcp.nack(sender_ssrc, self.ssrc, [number & 0xFFFF for number in lost]))
        if self._key_frames.take(now):
            found.append(rtcp.picture_loss(sender_ssrc, self.ssrc))
            if self.assembler.needs_key:
                self._key_frames.request(now)  # until one has come
        elif self.is_video and not self.assembler.needs_key and self._received:
            self._key_frames.fulfilled()
        return found

    def sender_report(self, report: rtcp.SenderReport, now: float) -> tuple[int, float] | None:
        """Takes a report; (time stamp, Unix ms) where the client is to be told again."""
        self._sr = (report, now)
        if now - self._clock_at < CLOCK_INTERVAL_S:
            return None
        self._clock_at = now
        return report.rtp_timestamp, max(0.0, unix_ms(report.ntp))

    def report(self, now: float) -> rtcp.ReportBlock | None:
        """The report block since the last one; None before the first packet."""
        if self._highest < 0:
            return None
        expected = self._highest - self._base + 1
        interval, got = expected - self._expected_before, self._received - self._received_before
        self._expected_before, self._received_before = expected, self._received
        fraction = max(interval - got, 0) * 256 // interval if interval > 0 else 0
        last_sr = delay = 0
        if self._sr is not None:
            last_sr = self._sr[0].ntp >> 16 & 0xFFFFFFFF
            delay = int((now - self._sr[1]) * 65_536)
        highest = self._highest - 0x10000
        return rtcp.ReportBlock(
            self.ssrc, min(fraction, 255), expected - self._received, highest, int(self._jitter), last_sr, delay
        )
