"""What importing `function_app` costs against importing azure.functions and fastapi alone: the cold start's share.

FastAPI and the adapters are imported by the first request; `first_use_ratio` is with all that it imports.
"""

import statistics
import subprocess
import sys
from typing import Final

from tests.bench.results import Result

NAMES: Final = ("functions.import_ratio", "functions.first_use_ratio")
BASE: Final = "import azure.functions, fastapi"
INDEXED: Final = "import function_app"
USED: Final = "import function_app, functions.app, functions.wiring"
ROUNDS: Final = 11
TIMED: Final = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def _seconds(statement: str) -> float:
    command = [sys.executable, "-c", TIMED.format(statement)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout)


def run() -> list[Result]:
    """Interleaved, each in a fresh interpreter; the median of the ratios of neighbours."""
    rounds = [(_seconds(BASE), _seconds(INDEXED), _seconds(USED)) for _ in range(ROUNDS + 1)][1:]  # the first warms
    base, indexed, used = (statistics.median(times) * 1_000 for times in zip(*rounds, strict=True))
    print(
        f"  azure.functions and fastapi {base:.0f} ms, function_app {indexed:.0f} ms, first request's too {used:.0f} ms"
    )
    return [
        Result(NAMES[0], statistics.median(indexed / base for base, indexed, _ in rounds), "ratio"),
        Result(NAMES[1], statistics.median(used / base for base, _, used in rounds), "ratio"),
    ]
