"""Emulators of Azure's services that others wrote: installed by `tools/emulators.sh`, started on free ports."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
STARTS_WITHIN_S: Final = 60.0
_STOPS_WITHIN_S: Final = 20.0


def require(program: str) -> None:
    """Skips the test where the program is not installed; fails it where CI=1."""
    if (ROOT / "local/emulators/node_modules/.bin" / program).exists():
        return
    reason = f"{program} is not installed here: run tools/emulators.sh"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@contextmanager
def started(program: str, port: int, *arguments: str) -> Iterator[None]:
    """The program with its arguments, once it listens at `port`. Raises RuntimeError where it does not in time."""
    require(program)
    command = [str(ROOT / "tools/emulators.sh"), program, *arguments]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + STARTS_WITHIN_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{program} did not start")
            time.sleep(0.05)  # a poll of the condition, under the deadline above
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOPS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
