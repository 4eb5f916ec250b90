"""One side of a tunnel session over any wire: what comes in as frames goes out as events, and the other way round.

Wires come and go (`attach`); the session keeps what has to arrive and drops what has become late. It says what to send
now by `outgoing`, which a wire calls as long as it has room, so that frames wait where they can still be dropped.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final, TypeAlias

from conference.domain.errors import ProtocolError
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import RELIABLE, Frame, FrameType, is_newer
from conference.protocol.tunnel.queue import Level, MediaQueue
from conference.protocol.tunnel.reliable import Reliable

MAX_BAD: Final = 3
MAX_URGENT: Final = 64


@dataclass(frozen=True, slots=True)
class Signal:
    """A signaling message of the other side, JSON text."""

    text: bytes


@dataclass(frozen=True, slots=True)
class ControlCame:
    message: c.ControlMessage


@dataclass(frozen=True, slots=True)
class Media:
    """A frame of an open stream. `lost` frames of the stream are missing before it."""

    frame: Frame
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """A pong: the round trip of the wire in milliseconds."""

    round_trip_ms: int


Event: TypeAlias = Signal | ControlCame | Media | Heard


class TunnelSession:
    """See the module. Times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.reliable = Reliable()
        self.queue = MediaQueue()
        self._urgent: deque[Frame] = deque()  # numbered frames, acknowledgements, pings
        self._last: dict[int, int] = {}
        self._open: set[int] = set()
        self._bad = 0
        self.late = 0  # media frames that were no longer new

    # --- streams of the other side ---
    def open(self, stream: int) -> None:
        """From now on the other side may send media on it."""
        self._open.add(stream)

    def close(self, stream: int) -> None:
        self._open.discard(stream)
        self._last.pop(stream, None)

    def is_open(self, stream: int) -> bool:
        return stream in self._open

    # --- wires ---
    def attach(self) -> None:
        """A new wire carries stream 0 from now on: what was not acknowledged goes again, after an acknowledgement."""
        self._urgent = deque([self.reliable.ack(), *self.reliable.again()])

    def bad_wire(self) -> bool:
        """A wire ended for a bad frame; True where that happened too often."""
        self._bad += 1
        return self._bad >= MAX_BAD

    # --- in ---
    def receive(self, frame: Frame, now: float) -> list[Event]:
        """What a frame brings. Raises ProtocolError: `bad-frame`, `bad-control`, `too-far-behind`."""
        if frame.type in RELIABLE:
            ready = self.reliable.receive(frame, now)
            if self.reliable.ack_due(now):
                self._urge(self.reliable.ack())
            return [_delivered(each) for each in ready]
        if frame.type is FrameType.ACK:
            self.reliable.acknowledged(frame.sequence)
            return []
        if frame.type is FrameType.PING:
            self._urge(Frame(FrameType.PONG, 0, timestamp=frame.timestamp))
            return []
        if frame.type is FrameType.PONG:
            return [Heard((int(now * 1000) - frame.timestamp) & 0xFFFF_FFFF)]
        return self._media(frame)

    def _media(self, frame: Frame) -> list[Event]:
        if frame.stream not in self._open:
            raise ProtocolError("bad-frame", "the stream is not open")
        last = self._last.get(frame.stream)
        if last is not None and not is_newer(frame.sequence, last):
            self.late += 1
            return []
        lost = 0 if last is None else (frame.sequence - last - 1) & 0xFFFF
        self._last[frame.stream] = frame.sequence
        return [Media(frame, lost)]

    # --- out ---
    def signal(self, text: bytes) -> None:
        """Raises ProtocolError `too-far-behind`."""
        self._urgent.append(self.reliable.send(FrameType.SIGNAL, text))

    def control(self, message: c.ControlMessage) -> None:
        """Raises ProtocolError `too-far-behind`."""
        self._urgent.append(self.reliable.send(FrameType.CONTROL, c.encode(message)))

    def media(self, frame: Frame, now: float) -> None:
        """Sound, picture or datagram; its sequence is given when it leaves."""
        self.queue.put(frame, now)

    def ping(self, now: float) -> None:
        self._urge(Frame(FrameType.PING, 0, timestamp=int(now * 1000) & 0xFFFF_FFFF))

    def _urge(self, frame: Frame) -> None:
        """Unnumbered frames are only worth something now: a newer one of its type replaces an older."""
        self._urgent = deque(waiting for waiting in self._urgent if waiting.type is not frame.type)
        self._urgent.append(frame)

    def outgoing(self, now: float, room: int, *, media: bool = True) -> list[Frame]:
        """What goes now, at most about `room` bytes; signal and control first. `media` false: stream 0 alone."""
        if self.reliable.ack_due(now):
            self._urge(self.reliable.ack())
        frames: list[Frame] = []
        while room > 0 and self._urgent:
            frames.append(self._urgent.popleft())
            room -= frames[-1].size
        while media and room > 0 and (frame := self.queue.take(now)) is not None:
            frames.append(frame)
            room -= frame.size
        return frames

    def key_frames_wanted(self) -> list[int]:
        """Streams of ours that go on with a key frame only: for their encoder, or the publisher, each once."""
        return self.queue.key_frames_wanted()

    @property
    def has_outgoing(self) -> bool:
        return bool(self._urgent) or len(self.queue) > 0

    @property
    def level(self) -> Level:
        """What the sender's queue allows."""
        return self.queue.level


def _delivered(frame: Frame) -> Event:
    if frame.type is FrameType.SIGNAL:
        return Signal(frame.payload)
    return ControlCame(c.decode(frame.payload))
