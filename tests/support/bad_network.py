"""A network namespace behind a bad link: losses, delay, jitter, reordering and a rate for each direction, drawn from a
seed. `parley-tun` (dataplane/tun) carries the packets between two TUN devices, so that any kernel with TUN will do.

`near` is what this machine sends into the namespace, `far` what comes out of it.
"""

import json
import os
import select
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tests.support import rust_program
from tests.support.network import NoNetwork, Pair, namespace, run

PROGRAM: Final = "parley-tun"
ANSWER_S: Final = 10.0
_NICENESS: Final = -15  # a link that waits for a core would add a delay of its own

# Not where the kernel has none.
_NO_IPV6: Final = 'cd "/proc/sys/net/ipv6/conf/$0" 2>/dev/null || exit 0; echo 1 >disable_ipv6'

State = Mapping[str, float | bool | None]
GOOD: Final[State] = {}


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets and bytes of IP of one direction: sent into it, brought to the other end or on the way, left out by the
    queue, lost, not taken by the device at the other end."""

    sent: tuple[int, int]
    carried: tuple[int, int]
    dropped: tuple[int, int]
    lost: tuple[int, int]
    refused: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Report:
    """`latest_us`: how much later than its moment a packet left at most."""

    near: Counts
    far: Counts
    latest_us: int


class BadNetwork:
    """`pair` is used as any other; both directions are good at first."""

    def __init__(self, pair: Pair, process: subprocess.Popen[str]) -> None:
        self.pair = pair
        self._process = process

    def change(self, near: State | None = None, far: State | None = None) -> Report:
        """From now on a direction is so (the names are in dataplane/tun/src/command.rs); the counts until now. Raises
        NoNetwork for a state that is none."""
        return self._ask({name: state for name, state in (("near", near), ("far", far)) if state is not None})

    def both(self, state: State) -> Report:
        """The same for both directions."""
        return self.change(state, state)

    def counts(self) -> Report:
        """What became of the packets so far."""
        return self._ask({})

    def _ask(self, command: Mapping[str, State]) -> Report:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command, default=dict) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise NoNetwork(f"{PROGRAM} has ended") from None
        told = _answer(self._process, "report")
        near, far = (Counts(**{k: tuple(v) for k, v in told[end].items()}) for end in ("near", "far"))
        return Report(near, far, told["latest_us"])


def _answer(process: subprocess.Popen[str], kind: str) -> Any:
    out: IO[str] | None = process.stdout
    assert out is not None
    if not select.select([out], [], [], ANSWER_S)[0]:
        raise NoNetwork(f"{PROGRAM} does not answer")
    line = out.readline()
    if not line:
        raise NoNetwork(f"{PROGRAM} has ended: {process.stderr.read().strip() if process.stderr else ''}")
    answer = json.loads(line)
    if kind not in answer:
        raise NoNetwork(f"{PROGRAM}: {answer.get('error', line)}")
    return answer[kind]


def program() -> Path:
    """The program, as it was built last. Raises NoNetwork where it is not."""
    try:
        return rust_program.built(PROGRAM)
    except rust_program.NotBuilt as reason:
        raise NoNetwork(str(reason)) from None


@contextmanager
def bad_network(purpose: str, subnet: str, *, seed: int = 1) -> Iterator[BadNetwork]:
    """A namespace behind such a link for the time of the block. Raises NoNetwork where it cannot be made."""
    command = ["nice", "-n", str(_NICENESS)] if os.geteuid() == 0 else []
    with namespace(purpose, subnet) as made:
        pipe = subprocess.PIPE
        words = [*command, str(program()), made.near, made.far, "--seed", str(seed)]
        with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
            try:
                _answer(process, "ready")
                _set_up(made)
                yield BadNetwork(made, process)
            finally:
                assert process.stdin is not None
                process.stdin.close()
                try:
                    process.wait(ANSWER_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _set_up(made: Pair) -> None:
    """Nothing but what is sent goes over the link. The kernel's own IPv6 (solicitations, reports of groups) and
    services that find each other by multicast would be counted, and draw from the seed too."""
    run("ip", "link", "set", made.far, "netns", made.namespace)
    for device, where in ((made.near, ()), (made.far, made.inside())):
        run(*where, "ip", "link", "set", device, "multicast", "off")
        run(*where, "sh", "-c", _NO_IPV6, device)
    made.bring_up()
