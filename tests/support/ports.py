"""Ports that nobody has at this moment, for servers that tests start."""

import socket
from contextlib import ExitStack


def free_ports(number: int) -> list[int]:
    """TCP ports of loopback, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
        return [int(each.getsockname()[1]) for each in sockets]


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
