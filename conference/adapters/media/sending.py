"""The subscriber's side: one track on its way to one transport, under its own SSRC.

Law: an (ssrc, index) is sealed once. Outgoing numbers only grow at a switch; a late packet keeps the number that its
place gives it, or is dropped where that number is gone; a resend goes by RTX, under its own SSRC and numbers.
No sockets and no clock: `rewrite` returns the packet to seal, and `now` (seconds, monotonic) is an argument.
"""

import struct
from collections.abc import Callable
from typing import Final

from conference.adapters.media.receiving import Stream
from conference.ports.forwarding import SetSender
from conference.protocol import rtcp
from conference.protocol.payload import Vp8Descriptor, vp8_descriptor, vp8_rewrite
from conference.protocol.rtp import RtpPacket, extension_block, unroll

CACHE: Final = 512  # packets that RTX can bring back; at 1 Mb/s about five seconds
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

    __slots__ = ("at", "data", "number", "resends")

    def __init__(self, number: int, data: bytes, at: float) -> None:
        self.number = number
        self.data = data
        self.at = at
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
        self.is_video = command.codec.name != "opus"
        self.is_connected = False  # the subscriber's transport has keys and a nominated pair
        self.is_paused = False
        self.rid: str | None = None  # the layer that is asked for; None: the highest
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
        self._head, self._wide_at, self._level = self._extensions(command)
        self._highest = 0x10000 + (random32() & 0x3FFF)
        self._offset = 0  # outgoing number = incoming + offset
        self._first = 0  # incoming numbers below were mapped by a former offset: they are gone
        self._clock_offset = random32()
        self._last_timestamp = 0
        self._last_at: float | None = None
        self._cache: list[Sent | None] = [None] * CACHE
        self._rtx_number = random32() & 0x3FFF
        self._reports: dict[int, float] = {}  # middle 32 bits of NTP -> when sent
        self._next_report = 0.0
        self._picture = self._tl0 = -1
        self._picture_offset = self._tl0_offset = 0

    @staticmethod
    def _extensions(command: SetSender) -> tuple[bytes, int | None, int | None]:
        """The extension block as a template, and where in a packet its wide number and its audio level stand."""
        ids = command.extensions
        elements: list[tuple[int, bytes]] = []
        at, wide_at, level_at = 12 + 4, None, None
        if ids.transport_cc is not None:
            elements.append((ids.transport_cc, b"\0\0"))
            wide_at = at + 1
            at += 3
        if ids.audio_level is not None:
            elements.append((ids.audio_level, b"\x7f"))
            level_at = at + 1
            at += 2
        if ids.mid is not None:
            elements.append((ids.mid, command.mid.encode()))
        return extension_block(elements), wide_at, level_at

    @property
    def wants_key_frame(self) -> bool:
        """True while the next packet that may be forwarded is the first of a key frame of `target`."""
        return self.is_video and self.target is not None and (self._is_waiting or self.target is not self.current)

    def pause(self, paused: bool) -> None:
        """A resumed video begins with a key frame; what comes before it is dropped."""
        self.is_paused = paused
        self._is_waiting = self._is_waiting or paused

    def accepts(self, stream: Stream, is_key: bool) -> bool:
        """Whether the packet may go out. Switches to `stream` where this is the packet to switch at."""
        if self.is_paused or not self.is_connected:
            return False
        if stream is self.current and not self._is_waiting:
            return True
        return stream is self.target and (is_key or not self.is_video)

    def rewrite(self, packet: RtpPacket, number: int, stream: Stream, now: float, level: int | None) -> bytes | None:
        """The outgoing packet; None for one whose number is gone. Call only after `accepts`."""
        if stream is not self.current or self._is_waiting:
            self._switch(packet, number, stream, now)
        if number < self._first:
            return None
        out = number + self._offset
        slot = self._cache[out % CACHE]
        if out <= self._highest - CACHE or (slot is not None and slot.number == out):
            return None
        timestamp = (packet.timestamp + self._clock_offset) & 0xFFFFFFFF
        data = self._build(packet, out, timestamp, level)
        self._cache[out % CACHE] = Sent(out, b"" if self.rtx_ssrc is None else data, 0.0)
        if out > self._highest:
            self._highest, self._last_timestamp, self._last_at = out, timestamp, now
        self.forwarded += 1
        self.octets += len(packet.payload)
        return data

    def _build(self, packet: RtpPacket, out: int, timestamp: int, level: int | None) -> bytes:
        first = 0x80 | (0x10 if self._head else 0) | (0x20 if packet.padding else 0)
        second = self.codec.payload_type | (0x80 if packet.marker else 0)
        payload = packet.payload
        if self.codec.name == "VP8" and payload:
            payload = self._rewrite_vp8(payload)
        data = bytearray(_FIXED.pack(first, second, out & 0xFFFF, timestamp, self.ssrc))
        data += self._head
        if self._wide_at is not None:
            _SEQUENCE.pack_into(data, self._wide_at, self._take_number() & 0xFFFF)
        if self._level is not None and level is not None:
            data[self._level] = level
        data += payload
        if packet.padding:
            data += bytes(packet.padding - 1) + bytes((packet.padding,))
        return bytes(data)

    # --- switching ---------------------------------------------------------------------------------------------------
    def _switch(self, packet: RtpPacket, number: int, stream: Stream, now: float) -> None:
        """Numbers go on where they stopped. The clock goes on too: within a stream by itself, between streams by their
        sender reports, else by the time that has passed."""
        self._offset = self._highest + 1 - number
        self._first = number
        if self.current is not None and stream is not self.current:
            self._clock_offset = self._clock_for(packet.timestamp, stream, self.current, now)
        descriptor = vp8_descriptor(packet.payload) if self.codec.name == "VP8" else None
        if descriptor is not None and self._picture >= 0 and stream is not self.current:
            self._picture_offset = self._picture + 1 - descriptor.picture_id
            self._tl0_offset = self._tl0 + 1 - descriptor.tl0
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

    def _rewrite_vp8(self, payload: bytes) -> bytes:
        descriptor = vp8_descriptor(payload)
        if descriptor is None or descriptor.picture_id_at is None:
            return payload
        picture = (descriptor.picture_id + self._picture_offset) & (0x7FFF if descriptor.is_long else 0x7F)
        tl0 = (descriptor.tl0 + self._tl0_offset) & 0xFF
        self._remember_picture(descriptor, picture, tl0)
        if not self._picture_offset and not self._tl0_offset:
            return payload
        return vp8_rewrite(payload, descriptor, picture, tl0)

    def _remember_picture(self, descriptor: Vp8Descriptor, picture: int, tl0: int) -> None:
        """Late packets of older pictures must not set the marks back."""
        half = 0x4000 if descriptor.is_long else 0x40
        if self._picture < 0 or (picture - self._picture) & (2 * half - 1) < half:
            self._picture, self._tl0 = picture, tl0

    # --- feedback of the subscriber ----------------------------------------------------------------------------------
    def resend(self, sequence: int, now: float) -> bytes | None:
        """The RTX packet (RFC 4588) for a lost number; None where it is gone or was resent just now."""
        if self.rtx_ssrc is None or self.codec.rtx_payload_type is None:
            return None
        number = unroll(sequence, self._highest)
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
        if self._wide_at is not None:
            _SEQUENCE.pack_into(data, self._wide_at, self._take_number() & 0xFFFF)
        at = 12 + len(self._head)
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
