"""Calls that may go over TURN only, in real browsers: by UDP, TCP and TLS, through the server of `make run`."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Playwright

from local.turn import coturn
from tests.support import browser as chromium
from tests.support import media
from tests.support.media import GREEN, RED, Person
from tests.support.relay_only import relay_only
from tests.support.system import System, running
from tests.support.visitor import Visitor, meet, see_and_hear_each_other

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

# The nominated pairs of each connection of the page: [candidateType, relayProtocol] of the local candidate.
_PAIRS: Final = """async () => {
  const {transports, mesh} = globalThis.parley.call;
  const found = [];
  for (const {connection} of [transports.publisher, transports.subscriber, ...mesh.links.values()].filter(Boolean)) {
    const stats = await connection.getStats();
    for (const pair of stats.values()) {
      if (pair.type !== 'candidate-pair' || !pair.nominated || pair.state !== 'succeeded') continue;
      const {candidateType, relayProtocol} = stats.get(pair.localCandidateId);
      found.push([candidateType, relayProtocol]);
    }
  }
  return found;
}"""
PATTERNS: Final = {"udp": "^turn:.*transport=udp", "tcp": "^turn:.*transport=tcp", "tls": "^turns:"}

Relayed = Callable[[Person, str], Awaitable[Visitor]]


@pytest.fixture(scope="module", params=["sfu-embedded", "mesh-embedded", "sfu-coturn"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The whole system with a TURN server of its own; two people are a mesh, or not."""
    topology, server = request.param.split("-")
    if server == "coturn" and coturn.installed() is None:
        pytest.skip("coturn is not installed")
    variables = {"PARLEY_TURN_SERVER": server, "PARLEY_MESH_LIMIT": "2" if topology == "mesh" else "0", "TLS": "1"}
    with running(tmp_path_factory.mktemp("turn"), variables) as started:
        yield started


@pytest_asyncio.fixture
async def relayed(system: System, playwright: Playwright, tmp_path: Path) -> AsyncIterator[Relayed]:
    async with AsyncExitStack() as stack:

        async def sit_down(person: Person, transport: str) -> Visitor:
            devices = media.make_devices(person, tmp_path)
            trusting = ["--ignore-certificate-errors"]  # the authority was made a moment ago
            browser = await stack.enter_async_context(chromium.launched(playwright, devices, trusting))
            context = await chromium.context_of(browser, base_url=system.url)
            visitor = Visitor(person, await context.new_page())
            await visitor.page.add_init_script(relay_only(PATTERNS[transport]))
            await visitor.sign_in()
            return visitor

        yield sit_down


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_call_that_may_only_be_relayed_is_seen_and_heard(relayed: Relayed, transport: str) -> None:
    alex, blair = await asyncio.gather(relayed(RED, transport), relayed(GREEN, transport))
    await meet(alex, blair)
    await see_and_hear_each_other(alex, blair)
    for one in (alex, blair):
        pairs = await one.evaluate(_PAIRS)
        assert pairs
        assert {tuple(pair) for pair in pairs} == {("relay", transport)}, re.sub(r"\s+", " ", str(pairs))
