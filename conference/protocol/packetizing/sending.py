"""RTP of one outgoing stream: numbers, a bounded history that answers NACK by RTX (RFC 4588), sender reports.

Time stamps are the frames' own. Reports tell the sender's clock as it gave it (`Clock`), carried on to the present, so
that sound and picture of one sender share a time line whoever packetises them.
"""

from collections import OrderedDict
from typing import Final

from conference.protocol import rtcp
from conference.protocol.rtp import RtpPacket

MAX_PAYLOAD: Final = 1_150
HISTORY: Final = 512  # packets
_NTP_EPOCH_S: Final = 2_208_988_800


def ntp_time(unix_ms: float) -> int:
    """64-bit NTP time stamp of Unix milliseconds (RFC 5905 6)."""
    return (int((unix_ms / 1000 + _NTP_EPOCH_S) * 2**32)) & 0xFFFFFFFFFFFFFFFF


def unix_ms(ntp: int) -> float:
    """Unix milliseconds of a 64-bit NTP time stamp; without its highest bit it is of the era from 2036 (RFC 4330 3)."""
    era = 0 if ntp >> 63 else 2**32
    return (ntp / 2**32 + era - _NTP_EPOCH_S) * 1000


class OutgoingStream:
    """One SSRC and, where negotiated, its RTX. `extensions` go with every packet, `repair_extensions` with RTX."""

    def __init__(
        self, ssrc: int, rtx_ssrc: int | None, sequence: int, extensions: dict[int, bytes], repair: dict[int, bytes]
    ) -> None:
        self.ssrc = ssrc
        self.rtx_ssrc = rtx_ssrc
        self.payload_type = 0
        self.rtx_payload_type: int | None = None
        self.clock_rate = 90_000
        self._sequence = sequence & 0xFFFF
        self._rtx_sequence = (sequence * 7) & 0xFFFF
        self._extensions = extensions
        self._repair = repair
        self._sent: OrderedDict[int, RtpPacket] = OrderedDict()
        self._packets = self._octets = 0
        self._clock: tuple[int, float, float] | None = None  # timestamp, its Unix ms, when it was told
        self.repaired = 0

    def packets(
        self, payloads: list[bytes], timestamp: int, *, extensions: dict[int, bytes] | None = None, marker: bool = True
    ) -> list[RtpPacket]:
        """The packets of one frame; `marker` is set on the last."""
        made = []
        for place, payload in enumerate(payloads):
            self._sequence = (self._sequence + 1) & 0xFFFF
            packet = RtpPacket(
                self.payload_type,
                self._sequence,
                timestamp,
                self.ssrc,
                payload,
                marker=marker and place == len(payloads) - 1,
                extensions={**self._extensions, **(extensions or {})},
            )
            made.append(packet)
            self._packets += 1
            self._octets += len(payload)
            if self.rtx_payload_type is not None:
                self._sent[self._sequence] = packet
                if len(self._sent) > HISTORY:
                    self._sent.popitem(last=False)
        return made

    def repair(self, numbers: tuple[int, ...]) -> list[RtpPacket]:
        """What was asked for and is still known, as RTX."""
        if self.rtx_payload_type is None or self.rtx_ssrc is None:
            return []
        made = []
        for number in numbers:
            lost = self._sent.get(number)
            if lost is None:
                continue
            self._rtx_sequence = (self._rtx_sequence + 1) & 0xFFFF
            payload = number.to_bytes(2, "big") + lost.payload
            made.append(
                RtpPacket(
                    self.rtx_payload_type,
                    self._rtx_sequence,
                    lost.timestamp,
                    self.rtx_ssrc,
                    payload,
                    marker=lost.marker,
                    extensions=dict(self._repair),
                )
            )
        self.repaired += len(made)
        return made

    def tell_clock(self, timestamp: int, ntp_ms: float, now: float) -> None:
        self._clock = (timestamp, ntp_ms, now)

    def report(self, now: float) -> rtcp.SenderReport | None:
        """None before the sender has told its clock or sent anything."""
        if self._clock is None or not self._packets:
            return None
        timestamp, told_ms, at = self._clock
        elapsed = now - at
        return rtcp.SenderReport(
            self.ssrc,
            ntp_time(told_ms + elapsed * 1000),
            (timestamp + round(elapsed * self.clock_rate)) & 0xFFFFFFFF,
            self._packets,
            self._octets,
        )
