"""Stream 0: signal and control frames reach the other side once and in order, whatever wires come and go.

Each side keeps what is not acknowledged and sends it again on a new wire. Both directions are bounded: a peer that does
not acknowledge, or that sends out of order without end, is too far behind, and the session ends.
"""

from collections import deque
from typing import Final

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel.frame import Frame, FrameType, is_newer

MAX_FRAMES: Final = 512
MAX_BYTES: Final = 1_048_576
ACK_EVERY: Final = 16
ACK_AFTER_S: Final = 0.1


class Reliable:
    """One side. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._kept: deque[Frame] = deque()
        self._bytes = 0
        self._next_out = 0
        self._expected = 0
        self._early: dict[int, Frame] = {}
        self._early_bytes = 0
        self._unacknowledged = 0
        self._oldest_at: float | None = None

    @property
    def unacknowledged(self) -> int:
        """Frames that the peer has not said to have."""
        return len(self._kept)

    # --- out ---
    def send(self, type_: FrameType, payload: bytes) -> Frame:
        """A frame with its number, kept until it is acknowledged. Raises ProtocolError `too-far-behind`."""
        if len(self._kept) >= MAX_FRAMES or self._bytes + len(payload) > MAX_BYTES:
            raise ProtocolError("too-far-behind", "the other side does not acknowledge what it is sent")
        frame = Frame(type_, 0, payload, self._next_out)
        self._next_out = (self._next_out + 1) & 0xFFFF
        self._kept.append(frame)
        self._bytes += len(payload)
        return frame

    def acknowledged(self, expected: int) -> None:
        """The peer has everything before `expected`. One that was never sent raises ProtocolError `bad-frame`."""
        pending = (self._next_out - expected) & 0xFFFF
        if pending > 0x7FFF:
            raise ProtocolError("bad-frame", "an acknowledgement of what was not sent")
        while len(self._kept) > pending:  # an old acknowledgement, overtaken on another wire, says less
            self._bytes -= len(self._kept.popleft().payload)

    def again(self) -> list[Frame]:
        """What a new wire begins with, after the acknowledgement."""
        return list(self._kept)

    # --- in ---
    def receive(self, frame: Frame, now: float) -> list[Frame]:
        """The frames that are next, in order; none for a repetition. Raises ProtocolError `too-far-behind`."""
        self._unacknowledged += 1
        self._oldest_at = now if self._oldest_at is None else self._oldest_at
        ahead = (frame.sequence - self._expected) & 0xFFFF
        if ahead and not is_newer(frame.sequence, (self._expected - 1) & 0xFFFF):
            return []
        if ahead >= MAX_FRAMES:
            raise ProtocolError("too-far-behind", "too much is missing in between")
        if frame.sequence not in self._early:
            self._early[frame.sequence] = frame
            self._early_bytes += len(frame.payload)
        ready = []
        while (following := self._early.pop(self._expected, None)) is not None:
            self._early_bytes -= len(following.payload)
            ready.append(following)
            self._expected = (self._expected + 1) & 0xFFFF
        if self._early_bytes > MAX_BYTES:  # no peer keeps more for a repetition
            raise ProtocolError("too-far-behind", "too much waits for what is missing")
        return ready

    def ack(self) -> Frame:
        """An acknowledgement of all that came; it need not be sent again."""
        self._unacknowledged, self._oldest_at = 0, None
        return Frame(FrameType.ACK, 0, sequence=self._expected)

    def ack_due(self, now: float) -> bool:
        return self._unacknowledged >= ACK_EVERY or (
            self._oldest_at is not None and now >= self._oldest_at + ACK_AFTER_S
        )

    @property
    def ack_at(self) -> float | None:
        """When an acknowledgement is due; None where nothing waits for one."""
        return None if self._oldest_at is None else self._oldest_at + ACK_AFTER_S
