"""What the reference engine knows: transports, tracks and senders with their indexes, and its counters."""

from collections import Counter
from collections.abc import Callable
from typing import Literal

from conference.adapters.media.ice import Address
from conference.adapters.media.sending import Sender
from conference.adapters.media.tracks import Track
from conference.adapters.media.transport import Transport
from conference.ports.forwarding import Event, IceChanged


class EngineState:
    """Indexes that belong together; removal keeps them in step. `ssrc` is the engine's own in what it reports,
    `random32` the one source of randomness."""

    def __init__(
        self,
        random32: Callable[[], int],
        emit: Callable[[Event], None],
        send: Callable[[bytes, Address], None],
        dropped: Counter[str],
    ) -> None:
        self.random32 = random32
        self.ssrc = random32() | 1
        self.emit = emit
        self.send = send
        self.dropped = dropped
        self.transports: dict[str, Transport] = {}
        self.by_ufrag: dict[str, Transport] = {}
        self.by_address: dict[Address, Transport] = {}
        self.tracks: dict[str, Track] = {}
        self.senders: dict[str, tuple[Transport, Sender]] = {}
        self.received_packets = self.received_bytes = 0
        self.forwarded_packets = self.forwarded_bytes = 0
        self.retransmitted_packets = 0

    def change(self, transport: Transport, state: Literal["connected", "disconnected", "failed"]) -> None:
        """Tells the state of a transport where it is another than before."""
        if transport.state != state:
            transport.state = state
            self.emit(IceChanged(transport.transport_id, state))

    def clear(self) -> None:
        self.transports.clear()
        self.by_ufrag.clear()
        self.by_address.clear()
        self.tracks.clear()
        self.senders.clear()

    def remove_transport(self, transport_id: str) -> None:
        transport = self.transports.pop(transport_id, None)
        if transport is None:
            return
        for ufrag in transport.ice.ufrags if transport.ice is not None else ():
            self.by_ufrag.pop(ufrag, None)
        self.forget_addresses(transport)
        for track_id in list(transport.tracks):
            self.remove_track(track_id)
        for sender in list(transport.senders.values()):
            self.remove_sender(sender.sender_id)

    def claim_addresses(self, transport: Transport, now: float) -> None:
        """Brings the index in step with the transport's pairs: those it lost go, those it won are its own alone."""
        pairs = transport.ice.pairs if transport.ice is not None else {}
        for address in [a for a in transport.addresses if a not in pairs]:
            transport.addresses.discard(address)
            if self.by_address.get(address) is transport:
                del self.by_address[address]
        for address in [a for a in pairs if a not in transport.addresses]:
            self.take_address(transport, address, now)

    def take_address(self, transport: Transport, address: Address, now: float) -> None:
        """What comes from this address is the transport's from now on."""
        former = self.by_address.get(address)
        if former is not None and former is not transport:
            if former.ice is not None:
                former.ice.release(address, now)
            former.addresses.discard(address)
        self.by_address[address] = transport
        transport.addresses.add(address)

    def forget_addresses(self, transport: Transport) -> None:
        for address in transport.addresses:
            self.by_address.pop(address, None)
        transport.addresses.clear()

    def remove_track(self, track_id: str) -> None:
        track = self.tracks.pop(track_id, None)
        if track is None:
            return
        for sender_id in list(track.senders):
            self.remove_sender(sender_id)
        owner = self.transports.get(track.transport_id)
        if owner is not None:
            owner.drop_track(track_id)

    def remove_sender(self, sender_id: str) -> None:
        found = self.senders.pop(sender_id, None)
        if found is None:
            return
        transport, sender = found
        transport.senders.pop(sender.ssrc, None)
        track = self.tracks.get(sender.track_id)
        if track is not None:
            track.senders.pop(sender_id, None)
