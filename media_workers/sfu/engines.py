"""Which forwarding engine a node runs, and with how many packet workers."""

import os
from dataclasses import dataclass
from typing import Final, Literal

NATIVE_WHEEL: Final = "parley_dataplane"
MAX_WORKERS: Final = 64  # of the native engine (dataplane/udp/src/pipes.rs): a pipe names both its workers in its id
Wanted = Literal["auto", "native", "reference"]


class EngineMissing(Exception):
    """The engine that was asked for is not installed. The text is for the operator."""


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """The engine to run, and why: `reason` goes into the start-up line."""

    name: Literal["native", "reference"]
    workers: int
    reason: str


def choose(wanted: Wanted, workers: int, *, is_installed: bool, cores: int) -> EngineChoice:
    """The choice by settings (`workers` 0: by the cores) and machine. Raises EngineMissing."""
    if wanted == "native" and not is_installed:
        raise EngineMissing(
            "PARLEY_SFU_ENGINE=native, but the native data plane is not installed: "
            f"install the package {NATIVE_WHEEL.replace('_', '-')}, or set PARLEY_SFU_ENGINE=auto"
        )
    if wanted == "reference" or not is_installed:
        asked = "asked for" if wanted == "reference" else "the native data plane is not installed"
        return EngineChoice("reference", 1, f"{asked}; it has one packet worker")
    asked = "asked for" if wanted == "native" else "its wheel is installed"
    if workers:
        return EngineChoice("native", workers, f"{asked}; as many packet workers as set")
    by_cores = min(max(1, cores - 1), MAX_WORKERS)
    return EngineChoice("native", by_cores, f"{asked}; one packet worker per core less one of {cores}")


def usable_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
