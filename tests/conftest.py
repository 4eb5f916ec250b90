"""What holds for every test: sockets are off unless the module's marker needs them, and then only loopback."""

import pytest
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

pytest_plugins = ["tests.support.redis", "tests.support.azurite", "tests.support.vault"]  # their fixtures

NEEDS_SOCKETS = frozenset({"contract", "interop", "e2e", "bench"})
LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    enable_socket()
    if any(item.get_closest_marker(name) for name in NEEDS_SOCKETS):
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=True)  # asyncio wakes its own loop over a socket pair
