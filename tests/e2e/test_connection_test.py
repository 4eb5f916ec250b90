"""The connection test in a real browser: every way of a whole system, and of one without relays."""

from collections.abc import Iterator

import pytest
from playwright.async_api import expect

from tests.e2e.conftest import SCREENSHOTS, Arrive
from tests.support.browser import screenshot, watch_errors
from tests.support.media import RED
from tests.support.system import System, running

pytestmark = pytest.mark.e2e

WAYS = ("signaling", "turn-udp", "turn-tcp", "turn-tls", "tunnel-websocket", "tunnel-stream", "tunnel-poll")


@pytest.fixture(scope="module", params=["embedded", "off"])
def system(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """With the TURN server of one machine, and without one."""
    with running(tmp_path_factory.mktemp("test"), {"PARLEY_TURN_SERVER": request.param}) as started:
        yield started


async def test_each_way_says_whether_it_works(arrive: Arrive, request: pytest.FixtureRequest) -> None:
    alex = await arrive(RED)
    errors = watch_errors(alex.page)
    await alex.page.get_by_test_id("connection-test").click()
    summary = alex.page.get_by_test_id("connection-summary")
    await expect(summary).not_to_have_text("Testing …", timeout=15_000)
    has_relays = "embedded" in request.node.name
    for way in WAYS:
        row = alex.page.locator(f'[data-testid=connection-way][data-way="{way}"]')
        is_relay = way.startswith("turn-")
        is_absent = way == "turn-tls" or (is_relay and not has_relays)  # without TLS=1 there is no turns:
        await expect(row).to_have_attribute("data-verdict", "absent" if is_absent else "works")
    await expect(summary).to_contain_text("fine for calls" if has_relays else "no relay")
    await screenshot(alex.page, SCREENSHOTS, f"connection-test-{'relays' if has_relays else 'none'}")
    await alex.page.reload()
    await expect(alex.page.get_by_test_id("connection-again")).to_be_enabled(timeout=15_000)
    assert not errors
