"""Pictures on their way to one subscriber: which temporal layers of VP8 go out, and the numbers they go out with.

A picture is forwarded or dropped as a whole: fewer layers hold from the next picture on, more of them from one that
needs nothing of the layers that were dropped (RFC 7741 4.2, Y bit).
"""

from typing import Final

from conference.adapters.media.numbering import Renumbering
from conference.protocol.payload import Vp8Descriptor, vp8_rewrite

MAX_TEMPORAL: Final = 3  # TID has two bits
_MANDATORY_BYTES: Final = 3  # of a dependency descriptor: flags, template id and frame number
MAX_PICTURES: Final = 64  # whose fate is remembered


class Vp8Pictures:
    """State of one sender. `limit` is the highest temporal layer that is wanted, None for all."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.top = MAX_TEMPORAL  # the highest layer that goes out now
        self.seen = 0  # the highest layer of the stream
        self._fates: dict[int, bool] = {}  # RTP time stamp -> goes out
        self._newest: int | None = None  # time stamp
        self._numbers = Renumbering(-1)
        self._tl0 = -1
        self._tl0_offset = 0

    @property
    def temporal(self) -> int:
        """The highest layer that is forwarded."""
        return min(self.top, self.seen)

    def switch(self, descriptor: Vp8Descriptor | None, *, is_other: bool) -> None:
        """A key frame begins; `is_other`: of another stream, whose pictures go on where those of the last stopped."""
        self.top = MAX_TEMPORAL if self.limit is None else self.limit
        self._fates.clear()
        self._newest = None
        if is_other:
            self.seen = 0
        if descriptor is None or descriptor.picture_id_at is None:
            return
        if self._numbers.highest_out < 0:
            self._numbers.begin(descriptor.picture_id, descriptor.picture_id)
        elif is_other:
            self._numbers.begin(descriptor.picture_id, self._numbers.highest_out + 1)
            self._tl0_offset = self._tl0 + 1 - descriptor.tl0

    def admits(self, descriptor: Vp8Descriptor, timestamp: int, *, is_key: bool = False) -> bool:
        """Whether the packet's picture goes out. `is_key`: the packet begins a key frame."""
        known = self._fates.get(timestamp)
        if known is not None:
            return known
        self.seen = max(self.seen, descriptor.temporal)
        if self._newest is None or (timestamp - self._newest) & 0xFFFFFFFF < 0x80000000:
            self._newest = timestamp
            self._adjust(descriptor, is_key)
        fate = descriptor.temporal <= self.top
        self._fates[timestamp] = fate
        if len(self._fates) > MAX_PICTURES:
            del self._fates[next(iter(self._fates))]
        return fate

    def _adjust(self, descriptor: Vp8Descriptor, is_key: bool) -> None:
        wanted = MAX_TEMPORAL if self.limit is None else self.limit
        is_next = descriptor.temporal == self.top + 1 <= wanted
        if is_key or wanted < self.top:
            self.top = wanted
        elif is_next and descriptor.is_sync:
            self.top = descriptor.temporal

    def drop(self, descriptor: Vp8Descriptor) -> None:
        """The picture is left out: the numbers of those after it close up."""
        if descriptor.picture_id_at is not None:
            self._numbers.drop(self._unroll(descriptor))

    def rewrite(self, payload: bytes, descriptor: Vp8Descriptor) -> bytes:
        """The payload with the subscriber's picture id and TL0PICIDX."""
        if descriptor.picture_id_at is None:
            return payload
        number = self._unroll(descriptor)
        picture = self._numbers.map(number)
        if picture is None:
            picture = number  # from before the switch: no key frame's packet, and shown by nobody
        tl0 = (descriptor.tl0 + self._tl0_offset) & 0xFF
        if self._numbers.forwarded(number, picture):
            self._tl0 = tl0
        if picture == number and not self._tl0_offset:
            return payload
        return vp8_rewrite(payload, descriptor, picture, tl0)

    def _unroll(self, descriptor: Vp8Descriptor) -> int:
        """The full picture number whose low bits are the descriptor's (RFC 7741: 7 or 15 bits)."""
        near, half = max(self._numbers.highest_in, 0), 0x4000 if descriptor.is_long else 0x40
        return near + ((descriptor.picture_id - near + half) & (2 * half - 1)) - half


class FrameNumbers:
    """Frame numbers of dependency descriptors (AV1 RTP specification, A.8.2): they go on where those of another layer
    stopped, since a receiver takes a smaller one for an old frame."""

    def __init__(self) -> None:
        self._offset = 0
        self._newest = -1

    def switch(self, descriptor: bytes | None) -> None:
        """Another stream begins with the frame of this descriptor."""
        if descriptor is not None and len(descriptor) >= _MANDATORY_BYTES and self._newest >= 0:
            self._offset = self._newest + 1 - int.from_bytes(descriptor[1:3], "big")

    def rewrite(self, descriptor: bytes) -> bytes:
        """The descriptor with the subscriber's number."""
        if len(descriptor) < _MANDATORY_BYTES:
            return descriptor
        number = (int.from_bytes(descriptor[1:3], "big") + self._offset) & 0xFFFF
        if self._newest < 0 or (number - self._newest) & 0xFFFF < 0x8000:
            self._newest = number
        return descriptor[:1] + number.to_bytes(2, "big") + descriptor[3:]
