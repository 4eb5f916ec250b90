"""What the compiled module offers. Commands are the dataclasses of `conference.ports.forwarding`, read by their
attributes; events come as tuples whose first element names the event's class there and whose rest are its fields."""

from collections.abc import Sequence
from typing import Any, final

__all__ = ["Engine", "Node", "parse_rtp", "parse_stun", "stun_has_integrity"]

_LayerFields = tuple[str, int, int, float, float, int, int, int, int]
_TrackFields = tuple[str, str, int, int, list[_LayerFields]]
_SubscriberFields = tuple[str, int | None, int, float, float | None, int, int, dict[str, int]]

@final
class Node:
    """Packet workers on UDP (and ICE/TCP) ports. All is cheap but `snapshot` and `stop`, which release the GIL."""

    def __new__(cls, host: str, base_port: int, workers: int, seed: int) -> Node:
        """Binds `workers` ports from `base_port` on (0: any free ones) and starts the threads. Raises OSError, and
        ValueError for a host that is no IP address."""

    @property
    def ports(self) -> list[int]: ...
    @property
    def is_healthy(self) -> bool:
        """False once a worker has ended by itself."""

    def apply(self, commands: Sequence[Any]) -> None:
        """Hands the commands over in order. Raises TypeError or ValueError for one that is none."""

    def poll_events(self, limit: int) -> list[tuple[Any, ...]]: ...
    def event_fd(self) -> int:
        """Readable while events wait; owned by the node."""

    def stats(self) -> tuple[tuple[int, int, int, int, int, int, int, int], dict[str, int]]:
        """(transports, tracks, senders, received packets and bytes, forwarded packets and bytes, retransmitted), and
        drops by reason; at most 200 ms old."""

    def workers(self) -> list[tuple[float, int, int, int]]:
        """Of each worker: CPU seconds, transports, packets queued in pacers, packets dropped at full pipes."""

    def snapshot(self) -> tuple[list[_TrackFields], list[_SubscriberFields]]: ...
    def shift_clock(self, micros: int) -> None:
        """Moves the workers' clock ahead (for tests of time-outs)."""

    def stop(self) -> None: ...

@final
class Engine:
    """One packet worker without sockets and clock, for tests: time is in microseconds, datagrams come and go with
    addresses."""

    def __new__(cls, seed: int) -> Engine: ...
    def apply(self, now: int, commands: Sequence[Any]) -> list[tuple[tuple[str, int], bytes]]: ...
    def receive(
        self, now: int, datagrams: Sequence[tuple[tuple[str, int], bytes]]
    ) -> list[tuple[tuple[str, int], bytes]]:
        """Takes the datagrams of one drain in and forwards them."""

    def tick(self, now: int) -> list[tuple[tuple[str, int], bytes]]: ...
    def poll_events(self) -> list[tuple[Any, ...]]: ...
    def dropped(self) -> dict[str, int]: ...

def parse_rtp(data: bytes) -> tuple[int, bool, int, int, int, list[tuple[int, bytes]], bytes, int]:
    """(payload type, marker, sequence, time stamp, SSRC, extensions, payload, padding). Raises ValueError."""

def parse_stun(data: bytes) -> tuple[int, bytes, str, int, bool, bool, bool]:
    """(type, transaction id, user name, priority, use candidate, ICE controlled, has integrity attribute). Raises
    ValueError."""

def stun_has_integrity(data: bytes, password: str) -> bool:
    """Whether MESSAGE-INTEGRITY was made with the password. Raises ValueError."""
