"""Somebody behind a firewall meets somebody who is not: which rung of the ladder carries their media, and that it does.

The one behind the firewall is alone in a network namespace whose only way out is under test. The page is served over
https; edge and TURN have an address each, so that both own port 443.
"""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Playwright

from tests.support import browser as chromium
from tests.support import media
from tests.support.firewall import Firewall, firewall
from tests.support.media import GREEN, RED, Person
from tests.support.network import E2E_HOSTS, E2E_SUBNET, NoNetwork, Pair, obstacle, pair
from tests.support.system import System, running
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.allow_hosts(E2E_HOSTS)]

HTTPS: Final = 443
TURN: Final = 3478
CONNECTED_WITHIN_S: Final = 45.0

# What each connection of the page to the SFU uses now: [protocol, candidateType, relayProtocol] of the local candidate.
_SELECTED: Final = """async () => {
  const {publisher, subscriber} = globalThis.parley.call.transports;
  const found = [];
  for (const transport of [publisher, subscriber]) {
    const stats = await transport.connection.getStats();
    for (const entry of stats.values()) {
      if (entry.type !== 'transport' || !entry.selectedCandidatePairId) continue;
      const pair = stats.get(entry.selectedCandidatePairId);
      const {protocol, candidateType, relayProtocol} = stats.get(pair.localCandidateId);
      found.push([protocol, candidateType, relayProtocol ?? '']);
    }
  }
  return found;
}"""


@dataclass(frozen=True, slots=True)
class Place:
    """The system, the way to it, and what stands in that way; `relay` is the address of TURN."""

    system: System
    link: Pair
    wall: Firewall
    relay: str

    @property
    def edge_only(self) -> str:
        return f"ip daddr {self.link.near_host} tcp dport {HTTPS}"

    def relay_by(self, protocol: str, port: int) -> str:
        return f"ip daddr {self.relay} {protocol} dport {port}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A system on the near end of a pair; skips where there can be no namespace or no firewall on it."""
    if why_not := obstacle("nft"):
        (pytest.fail if os.environ.get("CI") else pytest.skip)(why_not)
    with ExitStack() as stack:
        try:
            link = stack.enter_context(pair("e2e", E2E_SUBNET))
            relay = link.second_host()
            wall = stack.enter_context(firewall(link))
        except NoNetwork as reason:
            pytest.skip(str(reason))
        variables = {
            "HOST": link.near_host,
            "PUBLIC_IP": link.near_host,
            "PORT": str(HTTPS),
            "TLS": "1",
            "PARLEY_TURN_SERVER": "embedded",
            "PARLEY_TURN_HOST": relay,
            "PARLEY_TURN_PORT": str(TURN),
            "PARLEY_TURN_TLS_PORT": str(HTTPS),
        }
        system = stack.enter_context(running(tmp_path_factory.mktemp("connectivity"), variables))
        yield Place(system, link, wall, relay)


Arrives = Callable[[Person, bool], Awaitable[Visitor]]


@pytest_asyncio.fixture
async def arrives(place: Place, playwright: Playwright, tmp_path: Path) -> AsyncIterator[Arrives]:
    """Somebody sits down, before the firewall or behind it, and signs in."""
    program = chromium.executable()
    assert program is not None
    async with AsyncExitStack() as stack:

        async def sit_down(person: Person, is_behind: bool) -> Visitor:
            trusted = chromium.trusting(place.system.data_dir / "tls" / "leaf.pem")
            started = place.link.wrapped(program, tmp_path) if is_behind else None
            devices = media.make_devices(person, tmp_path)
            browser = await stack.enter_async_context(
                chromium.launched(playwright, devices, [trusted], program=started)
            )
            context = await chromium.context_of(browser, base_url=place.system.url)
            visitor = Visitor(person, await context.new_page())
            await visitor.sign_in()
            return visitor

        yield sit_down


def _rung(selected: list[str]) -> str:
    protocol, candidate_type, relay_protocol = selected
    if candidate_type == "relay":
        return f"turn-{relay_protocol}"
    return {"udp": "udp", "tcp": "ice-tcp"}[protocol]


async def _uses(visitor: Visitor, rung: str) -> None:
    """Waits until both of a visitor's connections have selected a pair of that rung."""
    seen: list[str] = []

    async def look() -> bool:
        seen[:] = [_rung(selected) for selected in await visitor.evaluate(_SELECTED)]
        return seen == [rung, rung]

    await wait_for(look, lambda: f"{visitor.person.login} uses {rung}; last: {seen}", CONNECTED_WITHIN_S)


async def _meet_by(arrives: Arrives, rung: str) -> None:
    """Somebody behind the firewall and somebody before it get each other's picture and voice; the rung is that one."""
    alex, blair = await asyncio.gather(arrives(RED, False), arrives(GREEN, True))
    meeting_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    await blair.open_meeting(meeting_id)
    await blair.join(consent=None)
    for one, other in ((alex, blair), (blair, alex)):
        await one.sees(other)
        await one.hears(other)
    await _uses(blair, rung)
    await _uses(alex, "udp")


def test_edge_and_turn_own_port_443_with_one_certificate_for_both(place: Place) -> None:
    trusting = ssl.create_default_context(cafile=place.system.data_dir / "tls" / "ca.pem")
    for host in (place.link.near_host, place.relay):
        with (
            socket.create_connection((host, HTTPS), timeout=5) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as secured,
        ):
            assert ("IP Address", host) in secured.getpeercert()["subjectAltName"]


async def test_where_nothing_is_blocked_media_goes_over_udp(place: Place, arrives: Arrives) -> None:
    place.wall.open()
    await _meet_by(arrives, "udp")


async def test_where_udp_reaches_turn_alone_and_tcp_the_edge_alone_media_is_relayed_over_udp(
    place: Place, arrives: Arrives
) -> None:
    place.wall.permit(place.edge_only, place.relay_by("udp", TURN))
    await _meet_by(arrives, "turn-udp")
    assert place.wall.dropped() > 0


async def test_where_all_udp_is_blocked_media_goes_to_the_sfu_over_tcp(place: Place, arrives: Arrives) -> None:
    place.wall.forbid("meta l4proto udp")
    await _meet_by(arrives, "ice-tcp")
    assert place.wall.dropped() > 0


async def test_where_udp_and_the_media_ports_are_blocked_media_is_relayed_over_tcp(
    place: Place, arrives: Arrives
) -> None:
    place.wall.permit(place.edge_only, place.relay_by("tcp", TURN))
    await _meet_by(arrives, "turn-tcp")
    assert place.wall.dropped() > 0


async def test_where_all_but_tcp_443_is_blocked_media_is_relayed_over_tls(place: Place, arrives: Arrives) -> None:
    place.wall.permit(f"tcp dport {HTTPS}")
    await _meet_by(arrives, "turn-tls")
    assert place.wall.dropped() > 0
