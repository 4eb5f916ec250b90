"""The whole system as `make run` starts it, on a free port and in a folder of its own."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from typing import Final

from tests.support.ports import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
READY: Final = re.compile(r"Parley is ready at (\S+)")
START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 20.0


@dataclass(slots=True)
class System:
    """A running system. `lines` is what its console printed so far."""

    url: str
    data_dir: Path
    process: subprocess.Popen[str]
    seconds_to_ready: float
    lines: list[str] = field(default_factory=list)


@contextmanager
def running(data_dir: Path, environment: Mapping[str, str] | None = None) -> Iterator[System]:
    """Starts the runner, waits until it says that Parley is ready, and stops it at the end (SIGINT, as Ctrl-C)."""
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "local.runner", "--with-parent"],  # a killed test run leaves nothing behind
        cwd=ROOT,
        env={
            **os.environ,
            "PORT": str(free_port()),
            "DATA_DIR": str(data_dir),
            "PYTHONUNBUFFERED": "1",
            "PARLEY_TURN_SERVER": "off",  # as most tests need no relay
            "PARLEY_MESH_LIMIT": "0",  # most tests are of the SFU; those of the mesh say so
            **(environment or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    system = System("", data_dir, process, 0.0)
    arrived: Queue[str] = Queue()
    reader = threading.Thread(target=_read, args=(process, system.lines, arrived), daemon=True)
    reader.start()
    try:
        system.url = _wait_ready(process, arrived, system.lines, started + START_TIMEOUT_S)
        system.seconds_to_ready = time.monotonic() - started
        yield system
    finally:
        stop(process)
        reader.join(STOP_TIMEOUT_S)


def _read(process: subprocess.Popen[str], lines: list[str], arrived: "Queue[str]") -> None:
    assert process.stdout
    with process.stdout:
        for line in process.stdout:
            lines.append(line.rstrip())
            arrived.put(line)


def _wait_ready(process: subprocess.Popen[str], arrived: "Queue[str]", lines: list[str], deadline: float) -> str:
    while time.monotonic() < deadline:
        try:
            line = arrived.get(timeout=0.2)
        except Empty:
            if process.poll() is not None:
                break
            continue
        if found := READY.search(line):
            return found[1]
    raise AssertionError("the system did not become ready:\n" + "\n".join(lines[-40:]))


def stop(process: subprocess.Popen[str]) -> None:
    """Ctrl-C; the runner ends its processes. A runner that does not end in time is a failure."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_TIMEOUT_S)
        raise AssertionError("the runner did not end on SIGINT") from None
