"""The meeting of `test_meeting.py` with PROFILE=azurite: emulators of Azure in place of the embedded stores."""

from collections.abc import Iterator

import pytest

from tests.e2e.test_meeting import (  # noqa: F401 - they are collected here once more, for another system
    test_the_host_ends_the_meeting_for_all,
    test_the_host_moderates,
    test_three_people_see_and_hear_each_other,
)
from tests.support.system import System, running

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    variables = {"PARLEY_DEBUG_HOOKS": "1", "PROFILE": "azurite"}
    with running(tmp_path_factory.mktemp("azurite"), variables) as started:
        yield started
        assert not (started.data_dir / "parley.db").exists()  # nothing was kept beside the emulators
        assert not list((started.data_dir / "media").glob("**/*.*"))
        assert not (started.data_dir / "keys").exists()  # those that sign are sealed, under the vault's
