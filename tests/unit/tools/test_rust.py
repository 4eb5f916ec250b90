"""The scripts that use the Rust toolchain, in a small tree and on a machine that is made up by its PATH."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit

TOOLS = Path(__file__).resolve().parents[3] / "tools"
ORDINARY = ("bash", "env", "dirname", "sed", "sort", "head", "tail", "find", "xargs", "cksum", "mkdir", "rm", "cat")


class Machine:
    """A tree with the scripts and a data plane of one file, and a folder of programs."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "tree"
        self.programs = folder / "bin"
        self.programs.mkdir()
        for name in ORDINARY:
            found = shutil.which(name)
            assert found
            (self.programs / name).symlink_to(found)
        for name in ("rust.sh", "dataplane.sh"):
            self.write(f"tools/{name}", (TOOLS / name).read_text()).chmod(0o755)
        self.write("dataplane/Cargo.toml", '[workspace.package]\nrust-version = "1.95"\n')
        self.write("dataplane/rust-toolchain.toml", '[toolchain]\nchannel = "1.95.0"\n')
        for name in (
            "Cargo.lock",
            "core/Cargo.toml",
            "udp/Cargo.toml",
            "core/src/lib.rs",
            "udp/src/lib.rs",
            "python/a",
        ):
            self.write(f"dataplane/{name}", name)

    def write(self, name: str, text: str) -> Path:
        path = self.tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def program(self, name: str, text: str) -> None:
        (self.programs / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (self.programs / name).chmod(0o755)

    def give_rust(self, version: str = "1.96.1") -> None:
        self.program("cc", "exit 0")
        self.program("rustc", f'echo "rustc {version} (abc 2026-01-01)"')
        self.program("cargo", '[ "$1" = --version ] || echo "cargo $* in ${PWD##*/}"')

    def give_wheel_tools(self) -> None:
        """A maturin that makes a wheel, and an interpreter whose pip installs it."""
        self.program("maturin", f'echo "built" >>"{self.tree}/log"; : >"${{!#}}/parley.whl"')
        python = self.write(
            ".venv/bin/python",
            '#!/usr/bin/env bash\nsite="${0%/bin/*}/lib/python3.11/site-packages/parley_dataplane"\n'
            'mkdir -p "$site"; : >"$site/_native.abi3.so"\n',
        )
        python.chmod(0o755)

    def run(self, *command: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
        surroundings = {"PATH": str(self.programs), "HOME": str(self.tree)} | ({"CI": "1"} if ci else {})
        return subprocess.run(
            ["bash", *command], cwd=self.tree, env=surroundings, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def builds(self) -> int:
        log = self.tree / "log"
        return log.read_text().count("built") if log.exists() else 0


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_command_runs_in_the_data_plane_where_there_is_a_toolchain(machine: Machine) -> None:
    machine.give_rust()
    assert machine.run("tools/rust.sh", "cargo", "test", "--locked").stdout == "cargo test --locked in dataplane\n"


def test_a_toolchain_in_its_own_folder_is_found_too(machine: Machine) -> None:
    machine.give_rust()
    home = machine.tree / ".cargo" / "bin"
    home.mkdir(parents=True)
    for name in ("cargo", "rustc"):
        os.rename(machine.programs / name, home / name)
    assert machine.run("tools/rust.sh", "cargo", "fmt").stdout == "cargo fmt in dataplane\n"


def test_without_a_toolchain_a_command_is_skipped_with_the_reason(machine: Machine) -> None:
    ran = machine.run("tools/rust.sh", "cargo", "test")
    assert ran.returncode == 0
    assert "Skipped, since there is no Rust toolchain (cargo): cargo test" in ran.stdout
    assert "Rust 1.95.0" in ran.stdout


def test_a_toolchain_that_is_too_old_is_none(machine: Machine) -> None:
    machine.give_rust("1.85.0")
    assert "Rust 1.85.0 is older than 1.95" in machine.run("tools/rust.sh", "cargo", "test").stdout


def test_a_toolchain_that_cannot_be_set_up_is_none(machine: Machine) -> None:
    machine.give_rust()
    machine.program("rustc", "echo no network >&2; exit 1")
    assert "Rust 1.95.0 could not be set up" in machine.run("tools/rust.sh", "cargo", "test").stdout


def test_in_continuous_integration_a_missing_toolchain_is_a_failure(machine: Machine) -> None:
    machine.give_wheel_tools()
    assert machine.run("tools/rust.sh", "cargo", "test", ci=True).returncode == 1
    assert machine.run("tools/dataplane.sh", ci=True).returncode == 1


def test_the_wheel_is_built_once_and_again_when_its_sources_change(machine: Machine) -> None:
    machine.give_rust()
    machine.give_wheel_tools()
    for _ in range(2):
        assert machine.run("tools/dataplane.sh").returncode == 0
    assert machine.builds == 1
    machine.write("dataplane/core/src/lib.rs", "changed")
    assert machine.run("tools/dataplane.sh").returncode == 0
    assert machine.builds == 2


def test_a_wheel_that_was_taken_away_is_built_again(machine: Machine) -> None:
    machine.give_rust()
    machine.give_wheel_tools()
    machine.run("tools/dataplane.sh")
    shutil.rmtree(machine.tree / ".venv/lib")
    machine.run("tools/dataplane.sh")
    assert machine.builds == 2


def test_a_build_that_fails_says_why_and_the_system_goes_on(machine: Machine) -> None:
    machine.give_rust()
    machine.give_wheel_tools()
    machine.program("maturin", "echo error: it does not compile; exit 1")
    ran = machine.run("tools/dataplane.sh")
    assert ran.returncode == 0
    assert "error: it does not compile" in ran.stderr
    assert "The SFU uses its reference engine" in ran.stdout
    assert machine.run("tools/dataplane.sh", ci=True).returncode == 1


def test_without_a_toolchain_an_installed_wheel_is_used_as_it_is(machine: Machine) -> None:
    machine.give_wheel_tools()
    assert "The SFU uses its reference engine" in machine.run("tools/dataplane.sh").stdout
    machine.run(".venv/bin/python")
    ran = machine.run("tools/dataplane.sh")
    assert ran.returncode == 0
    assert "the installed one is used as it is" in ran.stdout
