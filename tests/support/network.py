"""Networks that tests and benches make for themselves: a namespace behind a veth pair, and a slow link on it.

Everything needs root, and everything is named by the process that made it, so that what a killed run leaves behind is
found and removed by the next one. Namespaces and interfaces of others are never touched.
"""

import os
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BENCH_SUBNET: Final = "10.231.77"
# Two runs at a time must not share one: their routes would be each other's.
E2E_SUBNET: Final = f"10.231.{128 + os.getpid() % 128}"
E2E_HOSTS: Final = ["127.0.0.1", *(f"{E2E_SUBNET}.{last}" for last in range(1, 7))]  # that e2e tests may talk to
BURST: Final = "5kb"
LATENCY: Final = "300ms"
PREFIX: Final = "parley"
PREFIX_BITS: Final = 29  # six hosts
SECOND: Final = 3  # the last number of the near end's second address


class NoNetwork(Exception):
    """The machine cannot give what is asked for; the text says why."""


@dataclass(frozen=True, slots=True)
class Pair:
    """`near` is the interface of this machine, and the way to `far_host`, which is alone in `namespace`."""

    namespace: str
    near: str
    near_host: str
    far_host: str
    far: str

    def bring_up(self) -> None:
        """Gives both ends their addresses. Raises NoNetwork."""
        inside = ("ip", "-n", self.namespace)
        run("ip", "addr", "add", f"{self.near_host}/{PREFIX_BITS}", "dev", self.near)
        run("ip", "link", "set", self.near, "up")
        run(*inside, "addr", "add", f"{self.far_host}/{PREFIX_BITS}", "dev", self.far)
        run(*inside, "link", "set", self.far, "up")
        run(*inside, "link", "set", "lo", "up")

    def second_host(self) -> str:
        """Gives the near end one more address and tells it: two services can then own the same port."""
        host = f"{self.near_host.rpartition('.')[0]}.{SECOND}"
        run("ip", "addr", "add", f"{host}/{PREFIX_BITS}", "dev", self.near)
        return host

    def inside(self, *command: str) -> tuple[str, ...]:
        """The command that runs `command` inside the namespace."""
        return ("ip", "netns", "exec", self.namespace, *command)

    def throttle(self, kbit: int) -> None:
        """Lets no more through to the namespace than `kbit` thousand bits a second, by a token bucket whose queue holds
        300 ms. The other direction stays free. Raises NoNetwork where the kernel has no such bucket."""
        rate = f"{kbit}kbit"
        run("tc", "qdisc", "replace", "dev", self.near, "root", "tbf", "rate", rate, "burst", BURST, "latency", LATENCY)

    def release(self) -> None:
        """Makes the link as fast as the machine again."""
        run("tc", "qdisc", "del", "dev", self.near, "root")

    def wrapped(self, program: str, folder: Path) -> Path:
        """A script in `folder` that runs `program` inside the namespace, for what takes a path and not a command."""
        script = folder / f"{self.namespace}-{Path(program).name}"
        script.write_text(f'#!/bin/sh\nexec ip netns exec {self.namespace} {program} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return script


def run(*command: str) -> str:
    """What a command prints. Raises NoNetwork with what it says where it fails."""
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise NoNetwork(f"{' '.join(command)}: {ended.stderr.strip()}")
    return ended.stdout


def obstacle(*tools: str) -> str | None:
    """Why there can be no namespace, before anything is tried; None where nothing is known to be in the way."""
    if os.geteuid() != 0:
        return "a network namespace needs root"
    for tool in ("ip", *tools):
        if shutil.which(tool) is None:
            return f"there is no {tool} command"
    return None


@contextmanager
def pair(purpose: str, subnet: str) -> Iterator[Pair]:
    """A namespace behind a veth pair for the time of the block: .1 of `subnet` is here and .2 there; nothing is routed.

    Raises NoNetwork where it cannot be made.
    """
    with namespace(purpose, subnet) as made:
        run("ip", "link", "add", made.near, "type", "veth", "peer", "name", made.far, "netns", made.namespace)
        made.bring_up()
        yield made


@contextmanager
def namespace(purpose: str, subnet: str) -> Iterator[Pair]:
    """A namespace for the time of the block, and what a pair into it is to be called: the caller makes the two
    interfaces, puts `far` inside, and brings both up. Raises NoNetwork where it cannot be made."""
    if why_not := obstacle():
        raise NoNetwork(why_not)
    remove_leftovers(purpose)
    mark = f"{purpose[0]}{os.getpid() % 100_000}"
    made = Pair(f"{PREFIX}-{purpose}-{os.getpid()}", f"p{mark}a", f"{subnet}.1", f"{subnet}.2", f"p{mark}b")
    try:
        run("ip", "netns", "add", made.namespace)
        yield made
    finally:
        _remove(made.namespace)


def remove_leftovers(purpose: str) -> None:
    """Removes the namespaces of runs for the same purpose whose process is no more."""
    named = re.compile(rf"^{PREFIX}-{purpose}-(\d+)\b", re.MULTILINE)
    for found in named.finditer(run("ip", "netns", "list")):
        if not Path(f"/proc/{found[1]}").exists():
            _remove(found[0])


def _remove(namespace: str) -> None:
    """The pair goes with the namespace, and that goes with the last process in it."""
    with suppress(NoNetwork):
        for process in run("ip", "netns", "pids", namespace).split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        run("ip", "netns", "del", namespace)
