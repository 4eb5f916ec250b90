"""The app as the worker in Azure indexes it: the entry is found, every signature is one that it takes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest

from tests.support.functions_worker import SCRIPT, faults

pytestmark = pytest.mark.architecture
ROOT = Path(__file__).parents[2]


def test_the_worker_would_take_every_function() -> None:
    code = (
        "import importlib\n"
        "from tests.support.functions_worker import faults\n"
        "print(faults(importlib.import_module('function_app').app))"  # by the file's stem, as the worker does
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_the_entry_has_a_name_that_the_worker_takes() -> None:
    assert SCRIPT.fullmatch("function_app.py")
    assert not SCRIPT.fullmatch("functions/function_app.py")
    assert (ROOT / "function_app.py").parent == (ROOT / "host.json").parent


async def _optional(timer: func.TimerRequest | None) -> None: ...


async def _listed(timer: list[func.TimerRequest]) -> None: ...


async def _renamed(clock: func.TimerRequest) -> None: ...


async def _foreign(timer: func.QueueMessage) -> None: ...


async def _unknown(timer: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821


async def _telling(timer: func.TimerRequest) -> str:
    return ""


async def _odd_context(timer: func.TimerRequest, context: str) -> None: ...


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (_optional, "non-type annotation"),
        (_listed, "non-type annotation"),
        (_renamed, "clock is no binding"),
        (_foreign, "cannot be a QueueMessage"),
        (_unknown, "Nowhere is not there at run time"),
        (_telling, "only an HTTP function returns something"),
        (_odd_context, "context is no func.Context"),
    ],
)
def test_a_signature_that_azure_would_refuse_is_found(handler: Callable[..., Any], fault: str) -> None:
    app = func.FunctionApp()
    app.function_name("ring")(app.timer_trigger(arg_name="timer", schedule="0 0 3 * * *")(handler))
    assert fault in " ".join(faults(app))
