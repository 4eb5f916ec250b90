"""DTLS endpoints of an SFU node: datagrams in and out, SRTP keys and data channel messages out.

The engine demultiplexes and sends; the handshake and SCTP are control-plane work behind this port. The SFU is always
the DTLS server; the tunnel gateway is its client. All callbacks run in the event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from conference.ports.forwarding import SrtpProfile

DtlsState = Literal["connecting", "connected", "closed", "failed"]
DtlsRole = Literal["server", "client"]
Fingerprint = tuple[str, str]  # algorithm, colon-separated hex


@dataclass(frozen=True, slots=True)
class DtlsCallbacks:
    """What an endpoint tells. `on_data` gets each data channel message; bytes for binary ones."""

    send: Callable[[bytes], None]
    on_keys: Callable[[SrtpProfile, bytes, bytes], None]  # profile, receive key + salt, send key + salt
    on_state: Callable[[DtlsState], None]
    on_data: Callable[[str | bytes], None]


class DtlsEndpoint(Protocol):
    """One association."""

    def start(self) -> None:
        """Begins to answer the handshake; datagrams received before wait in a bounded queue."""

    def receive(self, datagram: bytes) -> None:
        """A datagram from the peer. Never raises; what does not fit in the queue is dropped."""

    async def close(self) -> None:
        """Tells the peer (close_notify, SCTP ABORT) and ends."""


class DtlsEndpoints(Protocol):
    """Makes endpoints that share the process's certificate."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, colon-separated hex."""

    def open(
        self,
        fingerprints: Sequence[Fingerprint],
        callbacks: DtlsCallbacks,
        *,
        with_data: bool,
        data_port: int = 5000,
        role: DtlsRole = "server",
    ) -> DtlsEndpoint:
        """An endpoint that accepts a peer with these fingerprints. `with_data` opens the `parley` channel (id 0)."""
