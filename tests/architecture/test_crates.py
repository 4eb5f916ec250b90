"""The layers of the native data plane: which crate may use which, where unsafe code may be, and what the sans-IO ones
may not touch. Read from manifests and source text, so that it holds without a Rust toolchain."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.rust_source import code, shipped

pytestmark = pytest.mark.architecture

WORKSPACE = Path(__file__).resolve().parents[2] / "dataplane"

# Crate -> those of our own that it may use.
OWN = {
    "core": set[str](),
    "udp": {"parley-core"},
    "python": {"parley-core", "parley-udp"},
    "netem": {"parley-core"},
    "load": {"parley-core"},
    "tun": {"parley-core", "parley-netem"},
    "fuzz": {"parley-core"},
}
SANS_IO = ("core", "netem")

# What a crate without sockets, clock and threads does not name. Addresses (std::net::SocketAddr) are plain values.
OUTSIDE = re.compile(
    r"\b(?:UdpSocket|TcpListener|TcpStream|UnixStream|SystemTime|std::time::Instant|thread::|std::(?:env|fs|io|process|thread)"
    r"|libc|pyo3|socket2|mio|tokio)\b"
)
# Crates that would bring a socket, a clock or an interpreter in; `ring` asks libc for random numbers by itself.
OUTSIDE_CRATES = {"pyo3", "libc", "mio", "nix", "rtrb", "rustix", "socket2", "tokio"}

# Where unsafe code may be: system calls, and a test's allocator that counts.
UNSAFE_HOMES = ("udp/src/sys/", "udp/tests/", "load/src/sys.rs", "tun/src/sys.rs", "core/tests/no_allocation.rs")


@cache
def _manifest(folder: str) -> dict[str, Any]:
    return tomllib.loads((WORKSPACE / folder / "Cargo.toml").read_text())


def _lock(folder: str) -> list[dict[str, Any]]:
    packages: list[dict[str, Any]] = tomllib.loads((WORKSPACE / folder / "Cargo.lock").read_text())["package"]
    return packages


def _sources(folder: str = ".") -> Iterator[tuple[str, str]]:
    for path in sorted((WORKSPACE / folder).rglob("*.rs")):
        name = path.relative_to(WORKSPACE).as_posix()
        if "target" not in path.relative_to(WORKSPACE).parts:
            yield name, path.read_text()


def test_every_crate_has_a_rule_and_every_rule_a_crate() -> None:
    workspace = _manifest(".")["workspace"]
    assert {*workspace["members"], *workspace["exclude"]} == set(OWN)
    assert {path.parent.name for path in WORKSPACE.glob("*/Cargo.toml")} == set(OWN)
    assert [home for home in UNSAFE_HOMES if not (WORKSPACE / home).exists()] == []


@pytest.mark.parametrize("folder", OWN)
def test_a_crate_uses_only_those_below_it(folder: str) -> None:
    manifest = _manifest(folder)
    used = {
        name for key in ("dependencies", "dev-dependencies", "build-dependencies") for name in manifest.get(key, ())
    }
    assert {name for name in used if name.startswith("parley-")} <= OWN[folder]


@pytest.mark.parametrize("folder", SANS_IO)
def test_a_sans_io_crate_depends_on_nothing_from_outside(folder: str) -> None:
    packages = {package["name"]: package.get("dependencies", []) for package in _lock(".")}
    pending, tree = [f"{name}" for name in _manifest(folder).get("dependencies", ())], set[str]()
    assert not OUTSIDE_CRATES & set(pending)
    while pending:
        name = pending.pop().split(" ")[0]
        if name not in tree:
            tree.add(name)
            pending += packages[name]
    assert not tree & {"pyo3", "mio", "socket2", "tokio"}


@pytest.mark.parametrize("folder", SANS_IO)
def test_a_sans_io_crate_names_no_socket_clock_or_thread(folder: str) -> None:
    strays = [
        f"{name}: {found[0]}" for name, text in _sources(f"{folder}/src") for found in OUTSIDE.finditer(shipped(text))
    ]
    assert not strays


@pytest.mark.parametrize("folder", SANS_IO)
def test_a_sans_io_crate_forbids_unsafe_code(folder: str) -> None:
    assert "#![forbid(unsafe_code)]" in (WORKSPACE / folder / "src/lib.rs").read_text()


def test_unsafe_code_is_at_home_where_the_system_is_called() -> None:
    assert _manifest(".")["workspace"]["lints"]["rust"]["unsafe_code"] == "deny"
    word = re.compile(r"\bunsafe\b(?!\()|\ballow\(unsafe_code")
    strays = [name for name, text in _sources() if word.search(code(text)) and not name.startswith(UNSAFE_HOMES)]
    assert not strays


@pytest.mark.parametrize("folder", sorted(set(OWN) - {"fuzz"}))
def test_a_crate_obeys_the_lints_of_the_workspace(folder: str) -> None:
    assert _manifest(folder)["lints"] == {"workspace": True}
    assert _manifest(folder)["package"]["rust-version"] == {"workspace": True}


def test_the_pinned_toolchain_is_the_oldest_that_is_promised() -> None:
    channel: str = tomllib.loads((WORKSPACE / "rust-toolchain.toml").read_text())["toolchain"]["channel"]
    assert channel.startswith(_manifest(".")["workspace"]["package"]["rust-version"])


@pytest.mark.parametrize("folder", [".", "fuzz"])
def test_every_foreign_crate_is_locked_by_checksum_from_one_registry(folder: str) -> None:
    foreign = [package for package in _lock(folder) if not package["name"].startswith("parley-")]
    assert len(foreign) > 10
    assert all(len(package["checksum"]) == 64 for package in foreign)
    (source,) = {package["source"] for package in foreign}
    assert source.startswith("registry+")


def test_the_notices_name_every_crate_of_the_wheel() -> None:
    needs = {package["name"]: package.get("dependencies", []) for package in _lock(".")}
    pending = [name for folder in ("core", "udp", "python") for name in _manifest(folder)["dependencies"]]
    crates: set[str] = set()
    while pending:
        name = pending.pop().split(" ")[0]
        if name not in crates and not name.startswith("parley-"):
            crates.add(name)
            pending += needs[name]
    # crates for other systems are locked and never compiled
    foreign = {name for name in crates if not re.match(r"windows|r-efi$", name)}
    named = set(re.findall(r"[\w-]+", (WORKSPACE.parent / "THIRD_PARTY_NOTICES.md").read_text()))
    assert len(foreign) > 30
    assert not foreign - named
