"""The names and addresses by which this machine can be reached: for the certificate and for what is printed."""

import socket


def lan_address() -> str:
    """The IPv4 address from which this machine reaches others; empty where there is no way out.

    A datagram socket is pointed at an address kept for documentation (RFC 5737) and asked for its own: nothing is sent.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if address.startswith("127.") else address


def certificate_names(*more: str) -> list[str]:
    """What the certificate is for: loopback, the host name, the LAN address and `more`."""
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname(), lan_address(), *more]
    return sorted({name for name in names if name and name.isascii() and name not in ("0.0.0.0", "::")})  # noqa: S104
