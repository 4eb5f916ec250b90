"""A PostgreSQL cluster of the tests' own, from Debian's binaries: free loopback port, no fsync, gone with the session.

The server refuses to run as root; as root it runs under an unprivileged user. A test takes `postgres_url`, which names
an empty database of its own.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.support.ports import free_port

START_DEADLINE_S: Final = 30.0
_UNPRIVILEGED: Final = ("postgres", "nobody")
_OPTIONS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "60",
    "shared_buffers": "32MB",
    "log_min_messages": "panic",
}


def find_binaries() -> Path | None:
    """Debian's folder of the newest server, or that of the `postgres` on the PATH; None where there is neither."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if installed:
        return installed[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def _server_user() -> str | None:
    """Whom the server runs as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in _UNPRIVILEGED if name in known)


class PostgresServer:
    """One cluster in a temporary folder."""

    def __init__(self, binaries: Path, options: Mapping[str, str] | None = None) -> None:
        """`options` of the server go before those of the tests."""
        self._binaries = binaries
        self._options = {**_OPTIONS, **(options or {})}
        self._user = _server_user()
        # Root's own temporary folder may be closed to the user that the server runs as.
        self._folder = Path(tempfile.mkdtemp(prefix="parley-postgres-", dir="/tmp" if self._user else None))
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self.port = free_port()
        if self._user:
            shutil.chown(self._folder, self._user)
        cluster = ["-D", str(self._folder / "data"), "-U", "parley", "-A", "trust", "-E", "UTF8", "--no-sync"]
        command = [str(binaries / "initdb"), *cluster, "--locale=C.UTF-8"]
        subprocess.run(command, check=True, user=self._user, cwd=self._folder, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        """Starts it and waits until it answers. Raises RuntimeError where it does not in time."""
        options = [word for name, value in self._options.items() for word in ("-c", f"{name}={value}")]
        command = [str(self._binaries / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port), *options]
        self._process = subprocess.Popen(command, user=self._user, cwd=self._folder, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_DEADLINE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError("PostgreSQL did not start")
            time.sleep(0.05)  # a poll of the condition, under the deadline above

    def _answers(self) -> bool:
        ask = [str(self._binaries / "pg_isready"), "-q", "-U", "parley", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(ask, check=False, timeout=START_DEADLINE_S).returncode == 0

    def stop(self) -> None:
        """Ends it at once; SIGQUIT also ends its children."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(timeout=START_DEADLINE_S)
            self._process = None

    def discard(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def new_database(self, *, like: str | None = None) -> str:
        """A database of its own, empty or a copy of the one at `like`; its SQLAlchemy URL."""
        name = f"parley_{next(self._numbers)}"
        template = ["-T", _name(like)] if like else []
        self._administer("createdb", *template, name)
        return f"postgresql://parley@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        self._administer("dropdb", "--force", _name(url))

    def end_connections(self, url: str) -> None:
        """Ends every connection to the database, as a fail-over does."""
        kill = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{_name(url)}'"
        self._administer("psql", "-q", "-o", "/dev/null", "-c", kill, "postgres")

    def _administer(self, program: str, *arguments: str) -> None:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "parley"]
        subprocess.run([str(self._binaries / program), *where, *arguments], check=True, timeout=START_DEADLINE_S)


def _name(url: str) -> str:
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    binaries = find_binaries()
    if binaries is None:
        reason = "no PostgreSQL server here: install the Debian package postgresql"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = PostgresServer(binaries)
    try:
        server.start()
        yield server
    finally:
        server.discard()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    url = postgres_server.new_database()
    yield url
    postgres_server.drop_database(url)
