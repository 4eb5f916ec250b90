"""The benches, their guide and the file that they write are in step."""

import importlib
import json
import pkgutil
import re
from pathlib import Path

import pytest

import tests.bench
from tests.bench.results import Result, percentile, save

pytestmark = pytest.mark.architecture

GUIDE = Path(__file__).resolve().parents[2] / "docs/performance.md"
HEADING = re.compile(r"^### `([a-z0-9_.]+)`", re.MULTILINE)
PROMISED = {
    "join.first_frame_p50_ms",
    "join.first_frame_p95_ms",
    "signaling.relay_per_s",
    "signaling.relay_p99_ms",
    "signaling.idle_connection_kb",
    "functions.import_ratio",
    "api.joins_per_s.sqlite",
    "api.joins_per_s.postgresql",
    "store.sqlite.join_per_s",
    "store.sqlite.join_p95_ms",
    "store.postgresql.join_per_s",
    "store.postgresql.join_p95_ms",
    "store.cosmos.join_per_s",
    "store.cosmos.join_p95_ms",
    "dataplane.video.us_per_packet",
    "dataplane.video.ratio_to_sendto",
    "dataplane.video.ratio_to_janus",
    "dataplane.audio.us_per_packet",
    "dataplane.audio.ratio_to_sendto",
    "dataplane.audio.ratio_to_janus",
    "dataplane.delay_p99_ms",
    "blob.upload_mb_per_s",
}


def names() -> list[str]:
    modules = [
        importlib.import_module(f"tests.bench.{module.name}")
        for module in pkgutil.iter_modules(tests.bench.__path__)
        if module.name != "__main__"
    ]
    return [name for module in modules if hasattr(module, "run") for name in module.NAMES]


def test_each_result_has_one_bench_and_none_that_was_promised_is_missing() -> None:
    assert len(names()) == len(set(names()))
    assert set(names()) >= PROMISED


def test_the_guide_has_one_section_a_result() -> None:
    assert sorted(HEADING.findall(GUIDE.read_text())) == sorted(names())


def test_a_run_of_one_bench_keeps_the_numbers_of_the_others(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    save([Result("a", 1.23456, "ms"), Result("b", 2.0, "ratio")], file)
    save([Result("b", None, "")], file)
    assert json.loads(file.read_text()) == {
        "a": {"value": 1.2346, "unit": "ms"},
        "b": {"value": None, "unit": ""},
    }


def test_a_percentile_is_one_of_the_values() -> None:
    assert percentile([5.0, 1.0, 4.0, 2.0, 3.0], 50) == 3.0
    assert percentile([float(n) for n in range(1, 101)], 99) == 99.0
    assert percentile([7.0], 95) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
