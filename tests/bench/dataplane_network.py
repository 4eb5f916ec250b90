"""Where servers run: a network namespace behind a veth pair, or this machine's loopback.

Janus refuses loopback addresses, so everything that is compared with it runs over the same pair. That needs root;
without it only the loopback is left, and Janus has no number.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SERVER_CORE: Final = 0
GENERATOR_CORE: Final = 1
_NICENESS: Final = -15
_AUTOGROUP: Final = Path("/proc/self/autogroup")
_SUBNET: Final = "10.231.77"  # private; a pair of its own, so that nothing is routed


@dataclass(frozen=True, slots=True)
class Network:
    """`server_host` is where servers bind, `generator_host` where the generator's peers do. `why_not` says what keeps a
    namespace from being used; None where one is."""

    server_host: str
    generator_host: str
    namespace: str | None
    why_not: str | None

    def command(self, *words: str) -> list[str]:
        """The words of a server's command, to run on a core of its own in the namespace."""
        inside = [] if self.namespace is None else ["ip", "netns", "exec", self.namespace]
        return [*inside, "taskset", "-c", str(SERVER_CORE), *first_in_turn(*words)]


def first_in_turn(*words: str) -> list[str]:
    """A command that runs before the other work of this session, where that is allowed."""
    return ["nice", "-n", str(_NICENESS), *words] if os.geteuid() == 0 else list(words)


@contextmanager
def priority() -> Iterator[None]:
    """Puts this session's processes before those of other sessions for the time of the block, where that is allowed:
    what else runs on the machine must not decide which engine looks fast. With autogroups the kernel compares a
    process's niceness only with others of its session."""
    if os.geteuid() != 0 or not _AUTOGROUP.exists():
        yield
        return
    before = _AUTOGROUP.read_text().rpartition(" ")[2]
    _AUTOGROUP.write_text(str(_NICENESS))
    try:
        yield
    finally:
        _AUTOGROUP.write_text(before)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def _obstacle() -> str | None:
    if os.geteuid() != 0:
        return "a network namespace needs root"
    if shutil.which("ip") is None:
        return "there is no ip command"
    return None


@contextmanager
def network() -> Iterator[Network]:
    """A pair for the time of the block, or the loopback where that cannot be made."""
    why_not = _obstacle()
    name, near, far = f"parley-bench-{os.getpid()}", f"pb{os.getpid() % 100_000}a", f"pb{os.getpid() % 100_000}b"
    if why_not is None:
        try:
            _make(name, near, far)
        except subprocess.CalledProcessError as error:
            why_not = f"no network namespace: {error.stderr.strip()}"
            _remove(name)
    if why_not is not None:
        yield Network("127.0.0.1", "127.0.0.1", None, why_not)
        return
    try:
        yield Network(f"{_SUBNET}.2", f"{_SUBNET}.1", name, None)
    finally:
        _remove(name)


def _make(name: str, near: str, far: str) -> None:
    _ip("netns", "add", name)
    _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
    _ip("addr", "add", f"{_SUBNET}.1/30", "dev", near)
    _ip("link", "set", near, "up")
    _ip("-n", name, "addr", "add", f"{_SUBNET}.2/30", "dev", far)
    _ip("-n", name, "link", "set", far, "up")
    _ip("-n", name, "link", "set", "lo", "up")


def _remove(name: str) -> None:
    """The pair goes with the namespace."""
    subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
