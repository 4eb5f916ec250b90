"""One child process: its own session, its output in a log file, and no life beyond the runner's.

On Linux the kernel kills the child when the runner dies, however that happens (PR_SET_PDEATHSIG). Its output goes to
`logs/<name>.log`; errors are handed to the console, and the last lines are kept for the moment when it dies.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, TextIO

from local.runner.specs import Spec

MAX_LOG: Final = 10 * 1024 * 1024
MAX_LINE: Final = 64 * 1024
KEPT_LINES: Final = 15
_PR_SET_PDEATHSIG: Final = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Log:
    """A log file that starts anew, with one predecessor kept, when it has grown too large."""

    def __init__(self, file: Path) -> None:
        self._path = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._open()

    def write(self, line: str) -> None:
        self._file.write(line)
        self._file.flush()
        if self._file.tell() > MAX_LOG:
            self._file.close()
            self._file = self._open()

    def close(self) -> None:
        self._file.close()

    def _open(self) -> TextIO:
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_size > MAX_LOG:
                self._path.replace(self._path.with_suffix(".log.1"))
        return self._path.open("a", encoding="utf-8", errors="replace")


class Child:
    """A started process. `report` gets a short text for each error line that it prints."""

    def __init__(self, process: asyncio.subprocess.Process, log: Log, report: Callable[[str], None]) -> None:
        self._process = process
        self._log = log
        self._report = report
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._copying = asyncio.create_task(self._copy())

    @classmethod
    async def start(cls, spec: Spec, log: Log, report: Callable[[str], None]) -> "Child":
        """Starts the process. Raises OSError where the program cannot be run."""
        process = await asyncio.create_subprocess_exec(
            *spec.argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
            stderr=STDOUT,
            env=dict(spec.environment),
            start_new_session=True,
            limit=MAX_LINE,
            preexec_fn=_die_with_parent(os.getpid()),
        )
        return cls(process, log, report)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        """The exit code, when all output has been copied."""
        code = await self._process.wait()
        with contextlib.suppress(TimeoutError):
            # A grandchild may hold the pipe open: it does not keep the runner.
            async with asyncio.timeout(1):
                await asyncio.shield(self._copying)
        self.signal(signal.SIGKILL)  # whatever is left of its session
        return code

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the process and all that it has started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def _copy(self) -> None:
        output = self._process.stdout
        if output is None:
            return
        while True:
            try:
                raw = await output.readline()
            except ValueError:  # a line over the limit: asyncio has dropped it
                raw = b"(a line was too long)\n"
            if not raw:
                return
            line = raw.decode("utf-8", "replace")
            self._log.write(line)
            self.last_lines.append(line.rstrip())
            problem = problem_in(line)
            if problem:
                self._report(problem)


def problem_in(line: str) -> str:
    """The message of a log line that tells an error; empty for any other line."""
    if line.startswith("{"):
        try:
            entry = json.loads(line)
        except ValueError:
            return ""
        return str(entry.get("message", "")) if entry.get("level") in ("ERROR", "CRITICAL") else ""
    first = line.split(maxsplit=1)[:1]
    return line.strip() if first in (["ERROR"], ["CRITICAL"], ["Traceback"], ["Error:"]) else ""


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    if _libc is None:
        return None
    prctl = _libc.prctl

    def prepare() -> None:  # runs between fork and exec: no import, no lock, no allocation worth the name
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return prepare
