"""The check of the lock files finds what is missing, does not fit, has no hash or names a registry."""

import pytest
from packaging.requirements import Requirement

from tools.check_locks import faults, wanted

pytestmark = pytest.mark.unit

PINNED = "one==1.2.0 \\\n    --hash=sha256:00\ntwo[x]==3.0 ; python_version >= '3.11' \\\n    --hash=sha256:01\n"


def found(lock: str, *requirements: str) -> list[str]:
    return list(faults(lock, iter([Requirement(text) for text in requirements])))


def test_a_lock_file_in_step_has_no_fault() -> None:
    assert found(PINNED, "one>=1.1,<2", "Two>=3") == []


def test_what_is_missing_or_does_not_fit_is_named() -> None:
    assert found(PINNED, "three>=1", "one>=2") == ["three>=1 is not pinned", "one>=2 does not fit the pinned 1.2.0"]


def test_a_pin_without_a_hash_and_a_registry_are_named() -> None:
    assert found("--index-url x://y\none==1.0\n") == ["names a registry", "one has no hash"]


def test_an_extra_takes_in_the_extras_that_it_names() -> None:
    project = {"all": ["a", "parley[some,more]"], "some": ["b"], "more": ["c", "parley[some]"]}
    names = sorted(requirement.name for requirement in wanted(project, ["base"], "all"))
    assert names == ["a", "b", "base", "c"]
