"""The Python client is a package of its own: in step with the repository, and above all layers that it builds on."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "clients/python"
MAY_IMPORT = ("conference.protocol.tunnel", "conference.protocol.messages", "conference.domain.errors")
OURS = {"conference", "functions", "media_workers", "local", "tests"}


def _project(folder: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    return project


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_version_licence_and_python_are_the_repositorys() -> None:
    ours, whole = _project(CLIENT), _project(ROOT)
    for key in ("version", "license", "requires-python"):
        assert ours[key] == whole[key]
    assert (CLIENT / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert f"parley=={whole['version']}" in ours["dependencies"]


def test_its_requirements_are_those_of_the_repository() -> None:
    whole = {text for extra in _project(ROOT)["optional-dependencies"].values() for text in extra}
    own = [text for text in _project(CLIENT)["dependencies"] if not text.startswith("parley==")]
    assert own
    assert set(own) <= whole


def test_it_says_that_it_is_typed() -> None:
    assert (CLIENT / "parley_client/py.typed").exists()


def test_it_uses_the_tunnels_framing_and_nothing_else_of_the_repository() -> None:
    sources = sorted((CLIENT / "parley_client").glob("*.py"))
    assert len(sources) > 5
    strays = [
        f"{path.name} imports {name}"
        for path in sources
        for name in _imports(path)
        if name.partition(".")[0] in OURS and not name.startswith(MAY_IMPORT)
    ]
    assert not strays


def test_nothing_that_is_deployed_imports_it() -> None:
    strays = [
        f"{path.relative_to(ROOT)}"
        for folder in ("conference", "functions", "media_workers", "local")
        for path in (ROOT / folder).rglob("*.py")
        for name in _imports(path)
        if name.partition(".")[0] == "parley_client"
    ]
    assert not strays
