"""Whom a relay may talk to: exactly the media nodes, the relay's own ports, and hosts of the public internet."""

from dataclasses import dataclass
from typing import Final

from conference.domain.addresses import IpAddress, is_special, parse_address, unmapped

MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Ports:
    first: int
    last: int

    def __contains__(self, port: int) -> bool:
        return self.first <= port <= self.last


@dataclass(frozen=True, slots=True)
class PeerRules:
    """`media` are the nodes by address; `relay` is the address that this server relays from, at `relay_ports`."""

    relay: IpAddress
    relay_ports: Ports
    media: tuple[tuple[IpAddress, Ports], ...] = ()

    def allows(self, address: IpAddress, port: int) -> bool:
        """Whether a datagram may go there, or come from there."""
        peer = unmapped(address)
        known = [*self.media, (self.relay, self.relay_ports)]
        if any(peer == host and port in ports for host, ports in known):
            return True
        return not is_special(address) and peer != self.relay

    def allows_host(self, address: IpAddress) -> bool:
        """Whether there is any port there: a permission names none."""
        peer = unmapped(address)
        return peer == self.relay or any(peer == host for host, _ in self.media) or not is_special(address)


def parse_peers(text: str) -> tuple[tuple[IpAddress, Ports], ...]:
    """`host:port` or `host:first-last`, with commas between; IPv6 in brackets. Raises ValueError."""
    return tuple(_parse(item.strip()) for item in text.split(",") if item.strip())


def _parse(item: str) -> tuple[IpAddress, Ports]:
    host, _, ports = item.rpartition(":")
    first, _, last = ports.partition("-")
    span = Ports(int(first), int(last or first))
    if not 0 < span.first <= span.last <= MAX_PORT:
        raise ValueError(f"{item} has no range of ports")
    return unmapped(parse_address(host.strip("[]"))), span
