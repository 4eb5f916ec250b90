"""Importing `function_app` is what a cold start waits for: it must not pull in what only a request needs."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.architecture
ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    "sqlalchemy",
    "alembic",
    "redis",
    "argon2",
    "jwt",
    "httpx",
    "pydantic_settings",
    "azure.identity",
    "azure.core",
)
ROUNDS = 5
MOST = 1.3


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_import_brings_in_no_store_and_no_sdk() -> None:
    found = run(f"import sys, function_app; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert found == "[]"


def test_the_import_costs_no_more_than_fastapi_and_a_little() -> None:
    timed = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    ours = min(float(run(timed.format("function_app"))) for _ in range(ROUNDS))
    base = min(float(run(timed.format("azure.functions, fastapi"))) for _ in range(ROUNDS))
    assert ours <= MOST * base


def test_the_worker_finds_one_app_and_its_functions() -> None:
    """As the worker's loader: exactly one FunctionRegister in the module, names unique, `get_functions()` once."""
    code = (
        "import function_app, azure.functions as func\n"
        "from azure.functions.decorators.function_app import FunctionRegister\n"
        "found = [v for v in vars(function_app).values() if isinstance(v, FunctionRegister)]\n"
        "print(len(found), sorted(f.get_function_name() for f in found[0].get_functions()))"
    )
    names = ["deliver_webhooks", "expire_leases", "http", "on_event", "relay_outbox", "retention", "rotate_keys"]
    assert run(code) == f"1 {names}"


def test_the_entry_is_a_page_at_most() -> None:
    assert len((ROOT / "function_app.py").read_text().splitlines()) < 20
