"""The security page in step with the tests, and the security floors of dependencies."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.architecture

ROOT = Path(__file__).resolve().parents[2]

# The first version without known holes that concern us.
FLOORS = {"pyopenssl": (26, 0), "pyjwt": (2, 13), "starlette": (1, 0), "aiohttp": (3, 14), "cryptography": (46, 0)}
LOCKS = ("requirements.txt", "requirements/run.txt", "requirements/dev.txt")
PINNED = re.compile(r"^([a-z0-9-]+)==(\d+)\.(\d+)", re.MULTILINE)


PAGE = (ROOT / "docs/security.md").read_text()


def test_every_test_that_the_security_page_names_exists() -> None:
    named = set(re.findall(r"`([^`]*test_\w+(?:\.py)?)`", PAGE))
    source = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    missing = [
        name
        for name in named
        if not ((ROOT / name).exists() if name.endswith(".py") else re.search(rf"def {name}\(", source))
    ]
    assert len(named) > 20
    assert not missing


def test_every_test_of_the_data_plane_that_the_security_page_names_exists() -> None:
    named = set(re.findall(r"`dataplane::(\w+)`", PAGE))
    folders = ("core", "udp")
    source = "\n".join(path.read_text() for folder in folders for path in (ROOT / "dataplane" / folder).rglob("*.rs"))
    missing = [name for name in named if not re.search(rf"#\[test\]\s+(?:#\[.*\]\s+)*fn {name}\(", source)]
    assert len(named) > 10
    assert not missing


@pytest.mark.parametrize("lock", LOCKS)
def test_locked_versions_are_above_their_security_floors(lock: str) -> None:
    pinned = {name: (int(major), int(minor)) for name, major, minor in PINNED.findall((ROOT / lock).read_text())}
    low = {name: pinned[name] for name, floor in FLOORS.items() if name in pinned and pinned[name] < floor}
    assert not low
    assert "pyjwt" in pinned
