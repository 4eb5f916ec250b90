"""Another network in mid-call: every connection looks for its way again, and the call goes on."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from playwright.async_api import Playwright

from tests.e2e.test_turn import PATTERNS
from tests.support import browser as chromium
from tests.support import media
from tests.support.media import GREEN, RED, Person
from tests.support.relay_only import relay_only
from tests.support.system import System, running
from tests.support.visitor import Visitor, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

_FRAGMENTS: Final = """() => {
  const {transports, mesh} = globalThis.parley.call;
  return [transports.publisher, ...mesh.links.values()].filter(Boolean)
    .map(({connection}) => /a=ice-ufrag:(\\S+)/.exec(connection.currentLocalDescription?.sdp ?? '')?.[1] ?? '');
}"""


@pytest.fixture(scope="module", params=["sfu", "mesh"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    limit = "2" if request.param == "mesh" else "0"
    variables = {"PARLEY_MESH_LIMIT": limit, "PARLEY_TURN_SERVER": "embedded"}
    with running(tmp_path_factory.mktemp("change"), variables) as started:
        yield started


@pytest_asyncio.fixture(params=["direct", "tcp"])
async def pair(
    request: pytest.FixtureRequest, system: System, playwright: Playwright, tmp_path: Path
) -> AsyncIterator[list[Visitor]]:
    """Two people in a call; `tcp`: relayed over TCP only."""
    async with AsyncExitStack() as stack:

        async def sit_down(person: Person) -> Visitor:
            browser = await stack.enter_async_context(
                chromium.launched(playwright, media.make_devices(person, tmp_path))
            )
            context = await chromium.context_of(browser, base_url=system.url)
            visitor = Visitor(person, await context.new_page())
            if request.param == "tcp":
                await visitor.page.add_init_script(relay_only(PATTERNS["tcp"]))
            await visitor.sign_in()
            return visitor

        alex, blair = await sit_down(RED), await sit_down(GREEN)
        meeting_id = await alex.create_meeting(recording=False)
        await alex.join(consent=None)
        await blair.open_meeting(meeting_id)
        await blair.join(consent=None)
        yield [alex, blair]


async def test_a_call_goes_on_over_another_network(pair: list[Visitor]) -> None:
    alex, blair = pair
    for one, other in ((alex, blair), (blair, alex)):
        await one.sees(other)
    before = await blair.evaluate(_FRAGMENTS)
    assert before
    assert all(before)
    await blair.evaluate("parley.call.networkChanged()")

    async def has_restarted() -> bool:
        after = await blair.evaluate(_FRAGMENTS)
        return len(after) == len(before) and all(new and new != old for new, old in zip(after, before, strict=True))

    await wait_for(has_restarted, "every connection has restarted ICE", 15)
    for one, other in ((alex, blair), (blair, alex)):
        await one.sees(other)
        await one.hears(other)
    assert await blair.evaluate("parley.call.state") == "connected"
