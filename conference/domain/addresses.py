"""Which IP addresses a relay may reach: everything that is special is refused, in every notation. And which hosts are
this machine, where less is asked for: only what says so plainly.

An address may hide another one: IPv4-mapped and -compatible IPv6, NAT64, 6to4, Teredo. CVE-2026-27624 is a relay that
looked at the outer form only. So an address is unwrapped before it is judged, and judged by all that it holds.
"""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IpAddress = IPv4Address | IPv6Address

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

_NAT64: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE: Final = IPv6Network("::/96")
# Beyond what ipaddress calls private, multicast, reserved or unspecified (RFC 6890 and its registry).
_SPECIAL: Final = tuple(
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays, RFC 7526
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "168.63.129.16/32",  # Azure's host, which answers its guests only
        "::/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fec0::/10",
    )
)


def is_loopback(host: str | None) -> bool:
    """Whether an address's host, in lower case and without brackets, is this machine. What goes there may be in plain
    text, or open by a key that everybody knows, so no other notation counts: `127.1`, `127.0.0.2`, `localhost.`"""
    return host in _LOOPBACK


def parse_address(text: str) -> IpAddress:
    """The address in `text`, without a zone. Raises ValueError."""
    return ip_address(text.partition("%")[0])


def unmapped(address: IpAddress) -> IpAddress:
    """The address as it is routed: an IPv4-mapped one is the IPv4 address that it stands for."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _held(address: IpAddress) -> list[IpAddress]:
    """The address and every IPv4 address that it may be translated to."""
    found: list[IpAddress] = [address]
    if not isinstance(address, IPv6Address):
        return found
    low = IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None:
        return [address.ipv4_mapped]
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        found.append(low)
    if address.sixtofour is not None:
        found.append(address.sixtofour)
    if address.teredo is not None:
        found.extend(address.teredo)
    return found


def is_special(address: IpAddress) -> bool:
    """Whether the address, or one that it holds, is not a host on the public internet."""
    return any(_is_special(held) for held in _held(address))


def _is_special(address: IpAddress) -> bool:
    return (
        address.is_private
        or address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_reserved
        or address.is_unspecified
        or not address.is_global
        or any(address in network for network in _SPECIAL if network.version == address.version)
    )
