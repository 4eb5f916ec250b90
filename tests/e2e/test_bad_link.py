"""Somebody behind a link that loses, delays and reorders packets meets somebody who is not, by UDP and by the tunnel.

The link is a pair of TUN devices with `parley-tun` between them; skipped where these cannot be made."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Playwright

from tests.support import browser as chromium
from tests.support import media
from tests.support.bad_network import GOOD, BadNetwork, State, bad_network
from tests.support.media import GREEN, RED, Person
from tests.support.network import E2E_HOSTS, E2E_SUBNET, NoNetwork
from tests.support.system import System, running
from tests.support.visitor import Visitor, see_and_hear_each_other

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240), pytest.mark.allow_hosts(E2E_HOSTS)]

BAD: Final[State] = {"delay_ms": 40, "jitter_ms": 20, "loss": 0.01, "reorder": 0.01, "reorder_delay_ms": 30}
KINDS: Final = {"": "", "websocket": "websocket"}


@dataclass(frozen=True, slots=True)
class Place:
    """The system at the near end of the link."""

    system: System
    network: BadNetwork


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        try:
            network = stack.enter_context(bad_network("link", E2E_SUBNET))
        except NoNetwork as reason:
            pytest.skip(str(reason))
        host = network.pair.near_host
        variables = {"HOST": host, "PUBLIC_IP": host, "PORT": "443", "TLS": "1"}
        yield Place(stack.enter_context(running(tmp_path_factory.mktemp("link"), variables)), network)


async def _sits_down(
    stack: AsyncExitStack, playwright: Playwright, place: Place, person: Person, folder: Path, *, is_behind: bool
) -> Visitor:
    program = chromium.executable()
    assert program is not None
    started = place.network.pair.wrapped(program, folder) if is_behind else None
    trusted = chromium.trusting(place.system.data_dir / "tls" / "leaf.pem")
    devices = media.make_devices(person, folder)
    browser = await stack.enter_async_context(chromium.launched(playwright, devices, [trusted], program=started))
    context = await chromium.context_of(browser, base_url=place.system.url)
    visitor = Visitor(person, await context.new_page())
    await visitor.sign_in()
    return visitor


@pytest.mark.parametrize("way", KINDS)
async def test_people_see_and_hear_each_other_over_a_bad_link(
    place: Place, playwright: Playwright, tmp_path: Path, way: str
) -> None:
    place.network.both(GOOD)
    async with AsyncExitStack() as stack:
        near, far = await asyncio.gather(
            *(
                _sits_down(stack, playwright, place, person, tmp_path, is_behind=is_behind)
                for person, is_behind in ((RED, False), (GREEN, True))
            )
        )
        meeting_id = await near.create_meeting(recording=False)
        await near.join(consent=None)
        before = place.network.both(BAD)
        await far.open_meeting(meeting_id, way)
        await far.join(consent=None)
        await see_and_hear_each_other(near, far, frames_per_second=5)
        assert await far.evaluate("parley.call.transports.tunnel?.kind ?? ''") == KINDS[way]
        after = place.network.counts()
    assert after.near.lost[0] > before.near.lost[0]
    assert after.far.lost[0] > before.far.lost[0]
