"""Azurite for tests: on free loopback ports, in memory, stopped with the session; its clock is the test's to move.

`azurite` speaks http and takes the account key; `secure_azurite` speaks https and takes bearer tokens. A test that
takes `driven_clock` sees Azurite at the time of that clock, and no other time passes there.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from conference.adapters.memory.clock import ManualClock
from local.azurite.server import Azurite, Certificate
from local.edge.certificates import Certificates
from tests.support.emulators import require
from tests.support.ports import free_ports

CLOCK_MODULE: Final = Path(__file__).with_name("azurite_clock.cjs")
_numbers = count(1)


def fresh_name() -> str:
    """A container or queue that no other test uses."""
    return f"test-{os.getpid()}-{next(_numbers)}"


class DrivenClock(ManualClock):
    """A clock that Azurite goes by, too."""

    def __init__(self, file: Path) -> None:
        super().__init__(datetime.now(UTC).replace(microsecond=0))
        self._file = file
        self._tell()

    def advance(self, seconds: float) -> datetime:
        moved = super().advance(seconds)
        self._tell()
        return moved

    def _tell(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(str(int(self.now().timestamp() * 1000)))
        fresh.replace(self._file)  # whole, whenever it is read


def certificate(folder: Path) -> Certificate:
    """A certificate for 127.0.0.1 and the authority that signed it."""
    made = Certificates(folder)
    made.ensure(["127.0.0.1"], datetime.now(UTC))
    return Certificate(made.chain_file, made.key_file, made.ca_file)


@contextmanager
def running(clock_file: Path, trusted: Certificate | None = None, *, folder: Path | None = None) -> Iterator[Azurite]:
    """An Azurite of its own; real time passes there while the clock file is empty."""
    require("azurite")
    clock_file.write_text("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARLEY_CLOCK_FILE", str(clock_file))
        server = Azurite(*free_ports(2), certificate=trusted, folder=folder, preload=(CLOCK_MODULE,))
        server.start()
        try:
            yield server
        finally:
            server.kill()


@pytest.fixture(scope="session")
def azurite_clock_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("azurite") / "clock"


@pytest.fixture(scope="session")
def _azurite_process(azurite_clock_file: Path) -> Iterator[Azurite]:
    with running(azurite_clock_file) as server:
        yield server


@pytest.fixture(scope="session")
def secure_azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    folder = tmp_path_factory.mktemp("secure-azurite")
    with running(folder / "clock", certificate(folder / "tls")) as server:
        yield server


@pytest.fixture
def azurite(_azurite_process: Azurite, azurite_clock_file: Path) -> Azurite:
    """The session's server, running, at the real time."""
    azurite_clock_file.write_text("")
    if not _azurite_process.is_running:
        _azurite_process.start()
    return _azurite_process


@pytest.fixture
def driven_clock(azurite: Azurite, azurite_clock_file: Path) -> DrivenClock:
    """The clock that `azurite` goes by in this test."""
    return DrivenClock(azurite_clock_file)
