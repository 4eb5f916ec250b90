"""Ends the runner with the `make` that started it, whatever way make is told to end.

Ctrl-C in a terminal reaches both. But make waits for its recipe without passing on a SIGINT that was sent to make
alone, and a killed make leaves its recipe running. So the runner asks the kernel for a SIGTERM when its parent dies,
and looks whether make has given up its SIGINT handler, which is what it does on receiving one. Linux only; elsewhere
nothing is watched.
"""

import asyncio
import ctypes
import os
import signal
import sys
from pathlib import Path
from typing import Final

POLL_S: Final = 0.2
_PR_SET_PDEATHSIG: Final = 1


def end_with_parent() -> None:
    """SIGTERM for this process when the parent dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


async def interrupted(parent: int | None = None) -> None:
    """Returns when the parent has received a SIGINT; never, where that cannot be told."""
    pid = os.getppid() if parent is None else parent
    if not catches_sigint(pid):
        await asyncio.Event().wait()
    while catches_sigint(pid):  # noqa: ASYNC110 - the kernel tells this to nobody
        await asyncio.sleep(POLL_S)


def catches_sigint(pid: int) -> bool:
    """True where the process has a handler for SIGINT (SigCgt of proc(5))."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return False
    mask = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:")), 0)
    return bool(mask >> (signal.SIGINT - 1) & 1)
