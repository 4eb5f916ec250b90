"""Where servers run: a network namespace behind a veth pair, or this machine's loopback.

Janus refuses loopback addresses, so everything that is compared with it runs over the same pair. That needs root;
without it only the loopback is left, and Janus has no number.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.support.network import BENCH_SUBNET, NoNetwork, pair

SERVER_CORE: Final = 0
GENERATOR_CORE: Final = 1
_NICENESS: Final = -15
_AUTOGROUP: Final = Path("/proc/self/autogroup")


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


@contextmanager
def network() -> Iterator[Network]:
    """A pair for the time of the block, or the loopback where that cannot be made."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(pair("bench", BENCH_SUBNET))
        except NoNetwork as reason:
            yield Network("127.0.0.1", "127.0.0.1", None, str(reason))
            return
        yield Network(made.far_host, made.near_host, made.namespace, None)
