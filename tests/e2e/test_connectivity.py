"""Somebody behind a firewall meets somebody who is not: which rung of the ladder carries their media, and that it does.

The one behind the firewall is alone in a network namespace whose only way out is under test. The page is served over
https; edge and TURN have an address each, so that both own port 443.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Protocol

import aiohttp
import pytest
import pytest_asyncio
from playwright.async_api import Playwright

from tests.e2e.conftest import SCREENSHOTS
from tests.support import browser as chromium
from tests.support import media
from tests.support.browser import screenshot
from tests.support.caller import call_as
from tests.support.firewall import Firewall, firewall
from tests.support.media import GREEN, RED, Person
from tests.support.network import E2E_HOSTS, E2E_SUBNET, NoNetwork, Pair, obstacle, pair
from tests.support.proxies import buffering_proxy, squid
from tests.support.system import System, running
from tests.support.tunnel_guest import Guest, Wanted
from tests.support.visitor import Visitor, meet, see_and_hear_each_other, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.allow_hosts(E2E_HOSTS)]

HTTPS: Final = 443
TURN: Final = 3478
SQUID: Final = 3128
INTERCEPTING: Final = 8443
SHADE: Final = 200  # luma of the native client's picture
CONNECTED_WITHIN_S: Final = 45.0

# What each connection of the page to the SFU uses now: [protocol, candidateType, relayProtocol] of the local candidate.
_SELECTED: Final = """async () => {
  const {publisher, subscriber, isTunnelled} = globalThis.parley.call.transports;
  const found = [];
  for (const transport of isTunnelled ? [] : [publisher, subscriber].filter(Boolean)) {
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

# Notices go away by themselves: `told` is the codes of those that were there.
_COLLECT_NOTICES: Final = """() => {
  globalThis.told = [];
  const collect = () => document.querySelectorAll('.toast').forEach(({dataset}) => globalThis.told.push(dataset.code));
  new MutationObserver(collect).observe(document.body, {childList: true, subtree: true});
}"""

_SOUND_PACKETS: Final = """async (userId) => (await globalThis.parley.stats())
  .find((entry) => entry.userId === userId && entry.source === 'microphone')?.packetsReceived ?? 0"""


@dataclass(frozen=True, slots=True)
class Place:
    """The system, the way to it, and what stands in that way; `relay` is the address of TURN."""

    system: System
    link: Pair
    wall: Firewall
    relay: str

    @property
    def authority(self) -> Path:
        return self.system.data_dir / "tls" / "ca.pem"

    @property
    def edge_only(self) -> str:
        return f"ip daddr {self.link.near_host} tcp dport {HTTPS}"

    def relay_by(self, protocol: str, port: int) -> str:
        return f"ip daddr {self.relay} {protocol} dport {port}"


def _cannot(reason: str) -> NoReturn:
    """What a machine cannot do is a reason to skip, on every machine: not each kernel has namespaces and nftables."""
    pytest.skip(reason)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A system on the near end of a pair; skips where there can be no namespace or no firewall on it."""
    if why_not := obstacle("nft"):
        _cannot(why_not)
    with ExitStack() as stack:
        try:
            link = stack.enter_context(pair("e2e", E2E_SUBNET))
            relay = link.second_host()
            wall = stack.enter_context(firewall(link))
        except NoNetwork as reason:
            _cannot(str(reason))
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


class Arrives(Protocol):
    def __call__(
        self, person: Person, is_behind: bool, flags: Sequence[str] = (), leaf: Path | None = None
    ) -> Awaitable[Visitor]: ...


@pytest_asyncio.fixture
async def arrives(place: Place, playwright: Playwright, tmp_path: Path) -> AsyncIterator[Arrives]:
    """Somebody sits down, before the firewall or behind it, and signs in."""
    program = chromium.executable()
    assert program is not None
    async with AsyncExitStack() as stack:

        async def sit_down(
            person: Person, is_behind: bool, flags: Sequence[str] = (), leaf: Path | None = None
        ) -> Visitor:
            trusted = chromium.trusting(leaf or place.system.data_dir / "tls" / "leaf.pem")
            started = place.link.wrapped(program, tmp_path) if is_behind else None
            devices = media.make_devices(person, tmp_path)
            browser = await stack.enter_async_context(
                chromium.launched(playwright, devices, [trusted, *flags], program=started)
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


async def _uses(visitor: Visitor, rungs: tuple[str, ...]) -> None:
    """Waits until each of a visitor's two connections has selected a pair of one of these rungs."""
    seen: list[str] = []

    async def look() -> bool:
        seen[:] = [_rung(selected) for selected in await visitor.evaluate(_SELECTED)]
        return len(seen) == 2 and set(seen) <= set(rungs)

    await wait_for(look, lambda: f"{visitor.person.login} uses {rungs}; last: {seen}", CONNECTED_WITHIN_S)


async def _meet_by(arrives: Arrives, *rungs: str) -> tuple[Visitor, Visitor]:
    """Somebody behind the firewall and somebody before it get each other's picture and voice; by one of these rungs."""
    alex, blair = await asyncio.gather(arrives(RED, False), arrives(GREEN, True))
    await meet(alex, blair)
    await see_and_hear_each_other(alex, blair)
    await _uses(blair, rungs)
    await _uses(alex, ("udp",))
    return alex, blair


async def _meet_in_browsers_by_tunnel(arrives: Arrives, kind: str, flags: Sequence[str] = (), **behind: Path) -> None:
    """The same, where the one behind the firewall finds by itself that nothing but that wire of the tunnel passes."""
    alex, blair = await asyncio.gather(arrives(RED, False), arrives(GREEN, True, flags, **behind))
    meeting_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    await blair.open_meeting(meeting_id)
    await blair.evaluate(_COLLECT_NOTICES)
    await blair.join(consent=None)
    await _goes_by_tunnel(alex, blair, kind)


async def _goes_by_tunnel(alex: Visitor, blair: Visitor, kind: str) -> None:
    async def by_it() -> bool:
        now = "parley.call.state === 'connected' && parley.call.transports.tunnel?.kind"
        return bool(await blair.evaluate(now) == kind)

    await wait_for(by_it, f"{blair.person.login} goes by the tunnel's {kind}", CONNECTED_WITHIN_S)
    await wait_for(lambda: blair.evaluate("globalThis.told?.includes('way')"), "the page tells it")
    await screenshot(blair.page, SCREENSHOTS, f"ladder-{kind}")
    await see_and_hear_each_other(alex, blair)
    await _uses(alex, ("udp",))


async def _token(place: Place, room_id: str) -> str:
    """A join token for one more person, who asks for it before the firewall."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=place.authority))
    async with aiohttp.ClientSession(connector=connector) as http:
        blair = await call_as(http, place.system.url, GREEN)
        status, grant = await blair.post(f"/v1/rooms/{room_id}/join", {"userId": blair.user_id})
    assert status == 200
    return str(grant["token"])


async def _meet_through_tunnel(
    place: Place, arrives: Arrives, kinds: tuple[str, ...], *, blocked: list[str], authority: Path, proxy: str = ""
) -> None:
    """A native client behind the firewall and a browser before it get each other's media; its tunnel's wire is the
    last of `kinds`, and those in `blocked` did not open."""
    alex = await arrives(RED, False)
    room_id = await alex.create_meeting(recording=False)
    await alex.join(consent=None)
    token = await _token(place, room_id)
    wanted = Wanted(place.system.url, str(authority), token, room_id, alex.user_id, kinds, SHADE, proxy)
    guest = await Guest.start(place.link.inside(), wanted)
    try:
        assert await guest.says() == {"kind": kinds[-1], "blocked": blocked}
        user_id = (await guest.says())["userId"]
        received = await guest.says()
        assert received["pictures"] >= 20
        assert received["sounds"] >= 20

        async def grey() -> bool:
            seen = await alex.look_at(user_id)
            return seen is not None and seen["rate"] >= 10 and all(abs(c - SHADE) < 30 for c in seen["colour"])

        await wait_for(grey, "Chromium shows the native client's picture")
        await _gets_sound(alex, user_id)
    finally:
        await guest.leave()


async def _gets_sound(visitor: Visitor, user_id: str) -> None:
    async def look() -> bool:
        return bool(await visitor.evaluate(_SOUND_PACKETS, user_id) > 50)

    await wait_for(look, f"{visitor.person.login} gets the sound of the native client")


def test_edge_and_turn_own_port_443_with_one_certificate_for_both(place: Place) -> None:
    trusting = ssl.create_default_context(cafile=place.authority)
    for host in (place.link.near_host, place.relay):
        with (
            socket.create_connection((host, HTTPS), timeout=5) as plain,
            trusting.wrap_socket(plain, server_hostname=host) as secured,
        ):
            assert secured.version() in ("TLSv1.2", "TLSv1.3")  # the name was checked at the handshake


async def test_where_nothing_is_blocked_media_goes_over_udp(place: Place, arrives: Arrives) -> None:
    place.wall.open()
    await _meet_by(arrives, "udp")


async def test_where_udp_reaches_turn_alone_and_tcp_the_edge_alone_media_is_relayed_over_udp(
    place: Place, arrives: Arrives
) -> None:
    place.wall.permit(place.edge_only, place.relay_by("udp", TURN))
    await _meet_by(arrives, "turn-udp")
    assert place.wall.dropped() > 0


async def test_where_all_udp_is_blocked_media_goes_over_tcp(place: Place, arrives: Arrives) -> None:
    place.wall.forbid("meta l4proto udp")
    # Chromium gathers TCP candidates last and stops with the first pair that works: on a fast link that may be a relay.
    await _meet_by(arrives, "ice-tcp", "turn-tcp")
    assert place.wall.dropped() > 0


async def test_where_all_udp_is_blocked_and_turn_too_media_goes_to_the_sfu_over_tcp(
    place: Place, arrives: Arrives
) -> None:
    place.wall.permit(f"ip daddr {place.link.near_host} meta l4proto tcp")
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


@pytest.mark.parametrize("kind", ["websocket", "stream", "poll"])
async def test_where_only_a_proxy_with_connect_to_the_edge_is_open_the_tunnel_carries_a_native_client(
    place: Place, arrives: Arrives, tmp_path: Path, kind: str
) -> None:
    if why_not := obstacle("squid"):
        _cannot(why_not)
    with squid(tmp_path / "squid", place.relay, SQUID, place.link.near_host) as url:
        place.wall.permit(place.relay_by("tcp", SQUID))
        assert place.wall.blocks(place.link.near_host, HTTPS)
        await _meet_through_tunnel(place, arrives, (kind,), blocked=[], authority=place.authority, proxy=url)


async def test_where_only_a_proxy_with_connect_to_the_edge_is_open_a_browser_takes_the_tunnel(
    place: Place, arrives: Arrives, tmp_path: Path
) -> None:
    if why_not := obstacle("squid"):
        _cannot(why_not)
    with squid(tmp_path / "squid", place.relay, SQUID, place.link.near_host) as url:
        place.wall.permit(place.relay_by("tcp", SQUID))
        await _meet_in_browsers_by_tunnel(arrives, "websocket", [f"--proxy-server={url}"])


async def test_where_a_proxy_opens_tls_drops_upgrade_and_buffers_a_browser_takes_long_poll(
    place: Place, arrives: Arrives, tmp_path: Path
) -> None:
    edge = place.link.near_host
    async with buffering_proxy(tmp_path, place.relay, INTERCEPTING, edge, place.authority) as proxy:
        place.wall.permit(place.relay_by("tcp", INTERCEPTING))
        place.wall.redirect(edge, HTTPS, place.relay, INTERCEPTING)
        await _meet_in_browsers_by_tunnel(arrives, "longpoll", leaf=tmp_path / "leaf.pem")
    assert proxy.upgrades > 0


async def test_where_a_proxy_drops_upgrade_and_udp_is_open_only_signaling_takes_the_tunnel(
    place: Place, arrives: Arrives, tmp_path: Path
) -> None:
    edge = place.link.near_host
    async with buffering_proxy(tmp_path, place.relay, INTERCEPTING, edge, place.authority) as proxy:
        place.wall.permit(place.relay_by("tcp", INTERCEPTING), "meta l4proto udp")
        place.wall.redirect(edge, HTTPS, place.relay, INTERCEPTING)
        alex, blair = await asyncio.gather(arrives(RED, False), arrives(GREEN, True, (), tmp_path / "leaf.pem"))
        await meet(alex, blair)
        await see_and_hear_each_other(alex, blair)
        assert await blair.evaluate("[parley.call.ladder.way, parley.call.ladder.wire]") == ["signaling", "longpoll"]
    assert proxy.upgrades > 0


async def test_where_a_firewall_is_shut_in_mid_call_a_browser_takes_the_tunnel_and_comes_back(
    place: Place, arrives: Arrives
) -> None:
    place.wall.open()
    alex, blair = await _meet_by(arrives, "udp")
    place.wall.permit(place.edge_only)
    await blair.evaluate(_COLLECT_NOTICES)
    await _goes_by_tunnel(alex, blair, "websocket")
    place.wall.open()
    await blair.evaluate("parley.call.networkChanged()")  # else it looks for the way up within a minute
    await _uses(blair, ("udp",))
    await blair.sees(alex)
    await alex.hears(blair)


async def test_where_a_proxy_opens_tls_drops_upgrade_and_buffers_long_poll_carries_a_native_client(
    place: Place, arrives: Arrives, tmp_path: Path
) -> None:
    edge = place.link.near_host
    async with buffering_proxy(tmp_path, place.relay, INTERCEPTING, edge, place.authority) as proxy:
        place.wall.permit(place.relay_by("tcp", INTERCEPTING))
        assert place.wall.blocks(edge, HTTPS)
        place.wall.redirect(edge, HTTPS, place.relay, INTERCEPTING)
        wires = ("websocket", "stream", "poll")
        await _meet_through_tunnel(place, arrives, wires, blocked=["websocket", "stream"], authority=proxy.authority)
    assert proxy.upgrades > 0
    assert proxy.seen["stream"] > 0
    assert proxy.seen["poll"] > 20
