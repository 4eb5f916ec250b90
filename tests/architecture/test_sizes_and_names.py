"""Size caps and names: small files, small functions, words of the field, nothing put off."""

import ast
import re
import statistics
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support import rust_source

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).resolve().parents[2]
CODE = {".py", ".rs", ".js", ".mjs", ".sh", ".bicep", ".html", ".css"}
VENDORED = ("functions/docs/static/", "web_client/vendor/")
VAGUE = {"utils", "util", "common", "helpers", "helper", "misc", "models", "shared"}
FILE_CAP, TEST_FILE_CAP, FUNCTION_CAP, FUNCTION_MEDIAN_CAP = 500, 800, 60, 10
PUT_OFF = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|\b(todo|unimplemented)!\(")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:root|home/\w+)/\w")

# Files over the cap, each with its reason. Keep it short.
FILE_EXCEPTIONS: dict[str, str] = {}


@cache
def _tracked() -> tuple[Path, ...]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    paths = (ROOT / name for name in listed.split("\0") if name and not name.startswith(VENDORED))
    return tuple(path for path in paths if path.is_file())


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _code() -> Iterator[Path]:
    return (path for path in _tracked() if path.suffix in CODE)


def _is_test(path: Path) -> bool:
    """Whether the file is of tests: those of the whole system, of a crate, or of a Rust module."""
    parts = path.relative_to(ROOT).parts
    return parts[0] == "tests" or (parts[0] == "dataplane" and ("tests" in parts or path.name == "tests.rs"))


def _functions(path: Path, text: str | None = None) -> Iterator[tuple[str, int]]:
    """Where each function is, and its lines; of a file in another language, none."""
    if path.suffix not in {".py", ".rs"}:
        return
    text = path.read_text() if text is None else text
    if path.suffix == ".rs":
        for function in rust_source.functions(text):
            yield f"{_name(path)}:{function.line} {function.name}", function.lines
    else:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                yield f"{_name(path)}:{node.lineno} {node.name}", node.end_lineno - node.lineno + 1


def test_files_stay_under_the_cap() -> None:
    long = []
    for path in _code():
        cap = TEST_FILE_CAP if _is_test(path) else FILE_CAP
        lines = path.read_text().count("\n")
        if lines > cap and _name(path) not in FILE_EXCEPTIONS:
            long.append(f"{_name(path)}: {lines} lines")
    assert not long


def test_every_exception_is_needed() -> None:
    stale = [name for name in FILE_EXCEPTIONS if (ROOT / name).read_text().count("\n") <= FILE_CAP]
    assert not stale


def test_functions_stay_under_the_cap() -> None:
    long = [
        f"{where}: {lines} lines" for path in _tracked() for where, lines in _functions(path) if lines > FUNCTION_CAP
    ]
    assert not long


@pytest.mark.parametrize("suffix", [".py", ".rs"])
def test_the_median_function_is_small(suffix: str) -> None:
    sizes = [
        lines
        for path in _tracked()
        if path.suffix == suffix and not _is_test(path)
        for _, lines in _functions(path, rust_source.shipped(path.read_text()) if suffix == ".rs" else None)
    ]
    assert statistics.median(sizes) <= FUNCTION_MEDIAN_CAP


def test_no_name_says_nothing() -> None:
    vague = [_name(path) for path in _tracked() if VAGUE & {*path.relative_to(ROOT).parent.parts, path.stem}]
    assert not vague


def test_nothing_is_put_off_and_no_machine_path_is_named() -> None:
    found = [
        f"{_name(path)}:{number}: {line.strip()[:80]}"
        for path in _code()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if PUT_OFF.search(line) or MACHINE_PATH.search(line)
    ]
    assert not found


def test_every_test_module_carries_the_marker_of_its_folder() -> None:
    strays = []
    for path in _tracked():
        parts = path.relative_to(ROOT).parts
        if parts[0] == "tests" and path.name.startswith("test_") and path.suffix == ".py":
            found = re.search(r"^pytestmark = (?:\[)?pytest\.mark\.(\w+)", path.read_text(), re.MULTILINE)
            if not found or found[1] != parts[1]:
                strays.append(_name(path))
    assert not strays
