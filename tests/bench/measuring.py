"""Processes that a bench starts, and what the kernel says of them."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

STOP_S: Final = 20.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_LINE_LIMIT: Final = 1 << 24


@asynccontextmanager
async def started(
    module: str, *arguments: str, environment: Mapping[str, str] | None = None, talks: bool = False
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m module`, ended at the end. With `talks` its input and output are pipes."""
    pipe = asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments, env=environment, stdin=pipe, stdout=pipe, limit=_LINE_LIMIT
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            async with asyncio.timeout(STOP_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident_kb(pid: int) -> int:
    """Resident memory in KiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
