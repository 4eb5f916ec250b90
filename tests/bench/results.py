"""The one file that benches write: `{"<name>": {"value": number or null, "unit": string}}`."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILE: Final = Path("build/bench.json")


@dataclass(frozen=True, slots=True)
class Result:
    """A named number; None where it could not be measured here (the bench printed why)."""

    name: str
    value: float | None
    unit: str


def save(results: list[Result], file: Path = FILE) -> None:
    """Merges `results` into the file, so that a run of one bench keeps the others' numbers."""
    file.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(file.read_text()) if file.exists() else {}
    known.update({r.name: {"value": None if r.value is None else round(r.value, 4), "unit": r.unit} for r in results})
    file.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]
