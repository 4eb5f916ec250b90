"""Checks, without a network, that the lock files are in step with pyproject.toml.

Each requirement that a lock file stands for, through all extras that it names, must be pinned there by a version that
fits and with hashes; and no lock file may name a registry. `make lock` mends what this finds.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT: Final = Path(__file__).resolve().parents[1]
LOCKS: Final = {
    "requirements.txt": "functions",
    "requirements/run.txt": "local",
    "requirements/azurite.txt": "azurite",
    "requirements/dev.txt": "dev",
}
_PIN = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)(.*)$", re.MULTILINE)


def wanted(project: Mapping[str, Sequence[str]], base: Sequence[str], extra: str) -> Iterator[Requirement]:
    """The requirements of an extra and of every extra that it takes in, with the base ones."""
    pending, seen = [extra], {extra}
    requirements = [Requirement(text) for text in base]
    while pending:
        for requirement in map(Requirement, project[pending.pop()]):
            if requirement.name == "parley":
                fresh = requirement.extras - seen
                seen |= fresh
                pending.extend(fresh)
            else:
                requirements.append(requirement)
    yield from requirements


def faults(lock: str, requirements: Iterator[Requirement]) -> Iterator[str]:
    """What is wrong with the text of a lock file."""
    if "://" in lock or "--index" in lock or "--find-links" in lock:
        yield "names a registry"
    pins: dict[str, list[Version]] = {}
    for name, version, rest in _PIN.findall(lock):
        pins.setdefault(canonicalize_name(name), []).append(Version(version))
        if not rest.rstrip().endswith("\\"):
            yield f"{name} has no hash"
    for requirement in requirements:
        versions = pins.get(canonicalize_name(requirement.name), [])
        if not versions:
            yield f"{requirement} is not pinned"
        elif not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"{requirement} does not fit the pinned {versions[0]}"


def main() -> int:
    """Prints every fault; gives the exit code."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = [
        f"{name}: {fault}"
        for name, extra in LOCKS.items()
        for fault in faults(
            (ROOT / name).read_text(encoding="utf-8"),
            wanted(project["optional-dependencies"], project["dependencies"], extra),
        )
    ]
    sys.stdout.write("".join(f"{line}\n" for line in found) or "The lock files are in step with pyproject.toml.\n")
    if found:
        sys.stdout.write("Run: make lock\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
