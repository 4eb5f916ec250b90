"""What importing `function_app` costs against importing azure.functions and fastapi alone: the cold start's share."""

import statistics
import subprocess
import sys
from typing import Final

from tests.bench.results import Result

NAMES: Final = ("functions.import_ratio",)
ROUNDS: Final = 11
TIMED: Final = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def run() -> list[Result]:
    """Interleaved, each in a fresh interpreter; the median of the ratios of neighbours."""
    _seconds("import function_app")  # warms the byte code and the page cache
    _seconds("import azure.functions, fastapi")
    ratios = [_seconds("import function_app") / _seconds("import azure.functions, fastapi") for _ in range(ROUNDS)]
    return [Result(NAMES[0], statistics.median(ratios), "ratio")]
