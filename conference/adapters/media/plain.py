"""The path of a plain transport: one address that the control layer vouches for, no checks. The peer proves that it is
there by what it sends: each end sends RTCP every second.
"""

from typing import Final

from conference.adapters.media.ice import Address

PLAIN_SILENCE_S: Final = 3.0  # without an authentic packet the peer counts as gone


class PlainPath:
    """What a transport has in place of an ICE agent."""

    def __init__(self, address: Address, now: float) -> None:
        self.address = address
        self.heard_at = now

    def is_silent(self, now: float) -> bool:
        return now - self.heard_at >= PLAIN_SILENCE_S
