"""The script that installs the tests' programs, on a machine that is made up by its PATH."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

PROGRAMS = ("chromium", "ffmpeg", "espeak-ng", "turnserver", "ip", "nft", "squid")
PACKAGES = ("chromium", "ffmpeg", "espeak-ng", "coturn", "iproute2", "nftables", "squid")
SCRIPT = Path(__file__).resolve().parents[3] / "tools" / "test_programs.sh"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs: bash alone, and a PostgreSQL that is already there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    program(folder, "postgres", "exit 0")
    return folder


def program(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
    (folder / name).chmod(0o755)


def told(machine: Path, *words: str) -> str:
    ended = subprocess.run(
        ["bash", str(SCRIPT), *words],
        env={"PATH": str(machine)},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return ended.stdout


def test_where_everything_is_there_nothing_is_said(machine: Path) -> None:
    for name in PROGRAMS:
        program(machine, name, "exit 0")
    assert told(machine) == ""


def test_an_ordinary_user_is_told_what_is_missing(machine: Path) -> None:
    program(machine, "id", "echo 1000")
    program(machine, "apt-get", "exit 99")
    assert f"Not installed here: {' '.join(PACKAGES)}." in told(machine)


def test_what_only_benches_compare_with_is_missed_only_for_them(machine: Path) -> None:
    for name in PROGRAMS:
        program(machine, name, "exit 0")
    program(machine, "id", "echo 1000")
    assert told(machine) == ""
    assert "Not installed here: janus." in told(machine, "bench")


def test_root_gets_the_missing_packages_and_learns_which_failed(machine: Path, tmp_path: Path) -> None:
    program(machine, "id", "echo 0")
    program(machine, "ffmpeg", "exit 0")
    program(machine, "apt-get", f'echo "$@" >>{tmp_path}/asked; [ "${{!#}}" != espeak-ng ]')
    assert "espeak-ng could not be installed." in told(machine)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [line.split()[-1] for line in asked] == ["-qq", *(name for name in PACKAGES if name != "ffmpeg")]
