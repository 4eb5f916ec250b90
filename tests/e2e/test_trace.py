"""One trace for the whole join: client, API, signaling and SFU, ended by the first forwarded packet."""

import asyncio
from pathlib import Path

import pytest
from playwright.async_api import Browser, Playwright

from tests.support import browser as chromium
from tests.support import media
from tests.support.collector import Collector, SpanSeen, collecting
from tests.support.media import GREEN, RED, Person
from tests.support.system import running
from tests.support.visitor import Visitor, wait_for

pytestmark = pytest.mark.e2e

EXPORT_DEADLINE_S = 30.0


async def test_a_join_is_one_trace_from_the_click_to_the_first_packet(tmp_path: Path, playwright: Playwright) -> None:
    with collecting() as collector:
        environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500"}
        with running(tmp_path / "data", environment) as system:
            trace_id = await _join_and_see(playwright, system.url, tmp_path)
            spans = await _exported(collector, trace_id)

    services = {span.service for span in spans}
    assert {"parley-functions", "parley-signaling", "parley-sfu"} <= services
    names = {span.name for span in spans}
    assert {"client join", "client rest.join", "client signaling.join", "client media.first_frame"} <= names
    (root,) = [span for span in spans if span.name == "client join"]
    known = {span.span_id for span in spans}
    orphans = [span for span in spans if span is not root and span.parent_id not in known]
    assert not orphans, "every span hangs below another of the trace"
    assert all(span.end_ns >= span.start_ns for span in spans)
    _no_personal_data(collector.spans)


async def _join_and_see(playwright: Playwright, url: str, folder: Path) -> str:
    """Alex waits in the room, Blair joins and sees Alex; gives the trace id of Blair's join."""

    async def sit_down(person: Person, opened: Browser) -> Visitor:
        context = await chromium.context_of(opened, base_url=url)
        visitor = Visitor(person, await context.new_page())
        await visitor.sign_in()
        return visitor

    async with (
        chromium.launched(playwright, media.make_devices(RED, folder)) as first,
        chromium.launched(playwright, media.make_devices(GREEN, folder)) as second,
    ):
        alex, blair = await asyncio.gather(sit_down(RED, first), sit_down(GREEN, second))
        meeting_id = await alex.create_meeting(recording=False)
        await alex.join(consent=None)
        await blair.open_meeting(meeting_id)
        await blair.join(consent=None)
        await blair.sees(alex)
        await wait_for(
            lambda: blair.evaluate("globalThis.parley.call.trace.reported"), "the client has reported its spans"
        )
        return str(await blair.evaluate("globalThis.parley.call.trace.traceId"))


async def _exported(collector: Collector, trace_id: str) -> list[SpanSeen]:
    """Waits until every process has exported its part of the trace."""

    async def complete() -> list[SpanSeen] | None:
        spans = collector.of(trace_id)
        services = {span.service for span in spans}
        ended = any("first_packet" in span.name or "first packet" in span.name for span in spans)
        return spans if ended and len(services) >= 3 and any(s.name == "client join" for s in spans) else None

    def missing() -> str:
        return f"the whole trace is exported: {sorted({(s.service, s.name) for s in collector.of(trace_id)})}"

    return await wait_for(complete, missing, EXPORT_DEADLINE_S)


def _no_personal_data(spans: list[SpanSeen]) -> None:
    text = str([(span.name, span.attributes) for span in spans])
    for personal in ("Alex", "Blair", "example.org", "eyJ"):
        assert personal not in text
