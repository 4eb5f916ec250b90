"""CPU for each forwarded packet: the slope of CPU time over several rates. What costs without packets is left out."""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_CPUCLOCK_SCHED: Final = 2  # the kernel's number for "all threads, scheduler's precision"


def process_cpu_s(pid: int) -> float:
    """CPU seconds of all threads of a process so far, user and system, to the nanosecond.

    `/proc/<pid>/stat` says the same in steps of 10 ms. Raises OSError for a process that is gone."""
    return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured window: packets that arrived each second, and CPU seconds each second."""

    packets_per_s: float
    cpu: float


def us_per_packet(points: Sequence[Point]) -> float:
    """Microseconds of CPU for each packet: the slope of the least-squares line. Raises ValueError for fewer than two
    different rates."""
    mean_x = statistics.fmean(p.packets_per_s for p in points) if points else 0.0
    mean_y = statistics.fmean(p.cpu for p in points) if points else 0.0
    spread = sum((p.packets_per_s - mean_x) ** 2 for p in points)
    if spread <= 0:
        raise ValueError("a slope needs two different rates")
    return sum((p.packets_per_s - mean_x) * (p.cpu - mean_y) for p in points) / spread * 1e6


@dataclass(frozen=True, slots=True)
class Spread:
    """What several rounds gave."""

    median: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.lowest:.2f} to {self.highest:.2f})"


def spread(values: Sequence[float]) -> Spread:
    """Raises statistics.StatisticsError for no values."""
    return Spread(statistics.median(values), min(values), max(values))
