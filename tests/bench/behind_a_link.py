"""The whole system over https, and a place behind a bad link to it, from which a browser joins.

Edge, SFU and TURN are at the near end of the link, the browser is alone in the namespace at its far end.
"""

from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.visiting import sit_down
from tests.support import browser, media, rust_program
from tests.support.bad_network import PROGRAM, BadNetwork, bad_network
from tests.support.media import Devices, Person
from tests.support.network import BENCH_SUBNET, NoNetwork
from tests.support.system import System, running
from tests.support.visitor import Visitor

HTTPS: Final = 443


@dataclass(frozen=True, slots=True)
class Site:
    """The running system, the link to it, and a folder for what is made."""

    system: System
    network: BadNetwork
    folder: Path

    async def sits_down(
        self,
        stack: AsyncExitStack,
        person: Person,
        devices: Devices,
        *,
        is_behind: bool,
        probe: Path | None = None,
        script: str = "",
    ) -> Visitor:
        """Somebody signed in, behind the link or at its near end; the rest is as of `visiting.sit_down`."""
        flags = [browser.trusting(self.system.data_dir / "tls" / "leaf.pem")]
        program = browser.executable()
        assert program is not None
        started = self.network.pair.wrapped(program, self.folder) if is_behind else None
        return await sit_down(stack, self.system, person, devices, probe, script, flags=flags, program=started)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Raises RuntimeError with what is missing."""
    if reason := browser.missing() or media.missing_tool():
        raise RuntimeError(reason)
    try:
        rust_program.build(PROGRAM)
        with ExitStack() as stack:
            network = stack.enter_context(bad_network("bench", BENCH_SUBNET))
            system = stack.enter_context(running(folder / "system", _settings(network)))
            yield Site(system, network, folder)
    except (NoNetwork, rust_program.NotBuilt) as reason:
        raise RuntimeError(str(reason)) from None


def _settings(network: BadNetwork) -> dict[str, str]:
    relay = network.pair.second_host()
    return {
        "HOST": network.pair.near_host,
        "PUBLIC_IP": network.pair.near_host,
        "PORT": str(HTTPS),
        "TLS": "1",
        "PARLEY_TURN_SERVER": "embedded",
        "PARLEY_TURN_HOST": relay,
    }
