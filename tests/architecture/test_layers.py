"""The layers of docs/architecture.md, as import-linter contracts and a table of who may import which SDK."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.util import find_spec
from pathlib import Path

import grimp
import pytest

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).resolve().parents[2]
DEPLOYED = ("conference", "functions", "media_workers")

# SDK -> the modules (path prefixes) that may import it. Everything else goes through a port. The longest name decides.
SDK_HOMES = {
    "aiortc": ("conference/adapters/media",),
    "argon2": ("conference/adapters/argon2.py",),
    "asyncpg": ("conference/adapters/sql",),
    "azure": (
        "functions/",
        "function_app.py",
        "conference/adapters/acs",
        "conference/adapters/azure",
        "conference/adapters/blob",
        "conference/adapters/cosmos",
        "conference/adapters/keyvault",
        "conference/adapters/queues",
    ),
    "azure.core": ("conference/adapters/",),
    "azure.cosmos": ("conference/adapters/cosmos",),
    "fastapi": ("functions/",),
    "httpx": ("conference/adapters/http_json.py", "conference/adapters/webhook_http.py"),
    "jwt": ("conference/adapters/jws.py",),
    "livekit": ("conference/adapters/livekit.py",),
    "parley_dataplane": ("conference/adapters/media/native.py",),
    "pylibsrtp": ("conference/adapters/media",),
    "redis": ("conference/adapters/redis",),
    "sqlalchemy": ("conference/adapters/sql",),
}


def _sources() -> Iterator[Path]:
    for folder in DEPLOYED:
        yield from sorted((ROOT / folder).rglob("*.py"))
    yield ROOT / "function_app.py"


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_the_import_contracts_hold() -> None:
    # In a process of its own: import-linter switches the loggers of its process off.
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = grimp.build_graph(*DEPLOYED, "local")
    order = TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules})
    order.prepare()  # raises CycleError, which names the circle


def _homes(name: str) -> tuple[str, ...] | None:
    known = [sdk for sdk in SDK_HOMES if name == sdk or name.startswith(f"{sdk}.")]
    return SDK_HOMES[max(known, key=len)] if known else None


def test_each_sdk_is_imported_in_its_adapter_only() -> None:
    strays = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in _sources()
        for name in _imports(path)
        if (homes := _homes(name)) and not str(path.relative_to(ROOT)).startswith(homes)
    ]
    assert not strays


def test_every_rule_names_a_place_that_exists() -> None:
    homes = {home for places in SDK_HOMES.values() for home in places}
    assert [home for home in homes if not (ROOT / home).exists()] == []
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    named = {
        module.strip()
        for contract in contracts
        for key in ("layers", "source_modules", "modules")
        for entry in contract.get(key, ())
        for module in entry.split("|")
    }
    assert [module for module in named if find_spec(module) is None] == []


def _own_function_level_imports(path: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in DEPLOYED:
                    yield f"{path.relative_to(ROOT)}:{node.lineno} {node.module}"


# Built when first used: the import of function_app must stay light (tests/architecture/test_import_weight.py).
LAZY_WIRING = ("functions/wiring.py",)


def test_own_modules_are_imported_at_the_top() -> None:
    strays = [
        stray
        for path in _sources()
        if str(path.relative_to(ROOT)) not in LAZY_WIRING
        for stray in _own_function_level_imports(path)
    ]
    assert not strays
