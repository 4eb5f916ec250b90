"""`python -m tests.bench [name ...]`: runs the benches (all, or those whose name contains a word) one after the other.

A bench is a module of this package with `NAMES` (the results it gives) and `run() -> list[Result]`. A bench that fails
gives null for its names, and the run ends with status 1 after the others have run.
"""

import importlib
import pkgutil
import sys
import time
import traceback

import tests.bench
from tests.bench.results import FILE, Result, save


def _modules(words: list[str]) -> list[str]:
    names = [m.name for m in pkgutil.iter_modules(tests.bench.__path__) if m.name not in ("__main__", "results")]
    return [name for name in names if not words or any(word in name for word in words)]


def main(words: list[str]) -> int:
    failed = 0
    for name in _modules(words):
        bench = importlib.import_module(f"tests.bench.{name}")
        if not hasattr(bench, "run"):
            continue
        started = time.monotonic()
        print(f"{name} …", flush=True)
        try:
            results: list[Result] = bench.run()
        except Exception:
            traceback.print_exc()
            results = [Result(missing, None, "") for missing in bench.NAMES]
            failed += 1
        for result in results:
            print(f"  {result.name} = {result.value} {result.unit}")
        print(f"  ({time.monotonic() - started:.0f} s)", flush=True)
        save(results)
    print(f"written to {FILE}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
