"""What holds for every test: sockets are off unless the module's marker needs them, and then only loopback; and no
property is judged by its speed."""

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import disable_socket, enable_socket, socket_allow_hosts

pytest_plugins = ["tests.support.redis", "tests.support.azurite", "tests.support.vault"]  # their fixtures

# How long an example takes says nothing on a busy machine. With CI=1 Hypothesis has the same rule.
settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
if settings.get_current_profile_name() == "default":
    settings.load_profile("shared-machine")

NEEDS_SOCKETS = frozenset({"contract", "interop", "e2e", "bench"})
LOOPBACK = ["127.0.0.1", "::1", "localhost"]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    enable_socket()
    if any(item.get_closest_marker(name) for name in NEEDS_SOCKETS):
        socket_allow_hosts(LOOPBACK, allow_unix_socket=True)
    else:
        disable_socket(allow_unix_socket=True)  # asyncio wakes its own loop over a socket pair
