"""Sources are parsed without garbage collection in between."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _uninterrupted() -> Iterator[None]:
    """Python 3.11's parser cannot be entered again while it makes a tree. Collecting what an earlier test left behind
    may print a traceback, which parses source: so it is done before."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
