"""Fixtures of all tests, and the rule that only markers which name it may open sockets."""

import pytest
from pytest_socket import disable_socket, enable_socket

pytest_plugins = ["tests.support.redis"]

_WITH_SOCKETS = {"contract", "sim", "interop", "e2e", "bench"}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if _WITH_SOCKETS.isdisjoint(mark.name for mark in item.iter_markers()):
        disable_socket(allow_unix_socket=True)  # the event loop wakes itself through a socket pair
    else:
        enable_socket()
