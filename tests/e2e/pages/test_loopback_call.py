"""A call against the browser's own WebRTC stack: a stand-in in the page answers as signaling and SFU would.

What is published comes back as the tracks of a second person, so negotiation, simulcast, reuse of m-sections, resume
and the move to another node are proved without a server.
"""

import pytest
from playwright.async_api import Page, expect

from tests.e2e.pages.conftest import Open
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

DECODED = """(source) => parley.stats().then((all) => all.filter((each) => each.source === source)
  .reduce((sum, each) => sum + (each.kind === 'video' ? each.framesDecoded : each.packetsReceived), 0))"""


async def _flows(page: Page, source: str) -> None:
    """Waits until more of a source arrives."""
    before = await page.evaluate(DECODED, source)

    async def more() -> bool:
        return bool(await page.evaluate(DECODED, source) > before + 3)

    await eventually(more, within_s=20)


async def _messages(page: Page, kind: str) -> list[dict[str, object]]:
    script = "(type) => loopback.sfu.messages.filter((message) => message.type === type)"
    found: list[dict[str, object]] = await page.evaluate(script, kind)
    return found


async def _in_call(open_state: Open) -> Page:
    page = await open_state("loopback")
    await page.get_by_test_id("call-stage").wait_for()
    await _flows(page, "camera")
    return page


async def test_camera_and_microphone_go_out_and_come_back(open_state: Open) -> None:
    page = await _in_call(open_state)
    await _flows(page, "microphone")
    offers = await _messages(page, "SendOffer")
    payload = offers[-1]["payload"]
    assert isinstance(payload, dict)
    assert [track["source"] for track in payload["tracks"]] == ["microphone", "camera"]
    assert "a=simulcast:send q;h;f" in str(payload["sdp"])
    assert "m=application" in str(payload["sdp"])


async def test_one_trace_is_reported_with_the_first_frame(open_state: Open) -> None:
    page = await _in_call(open_state)
    [report] = await _messages(page, "ReportTrace")
    [join] = await _messages(page, "JoinRoom")
    payload = report["payload"]
    assert isinstance(payload, dict)
    names = {span["name"] for span in payload["spans"]}
    assert names == {"join", "rest.join", "signaling.join", "media.connect", "media.first_frame"}
    assert str(join["traceparent"]).split("-")[1] == str(report["traceparent"]).split("-")[1]


async def test_the_tile_size_is_told_to_the_sfu(open_state: Open) -> None:
    page = await _in_call(open_state)

    async def told() -> bool:
        sizes = await _messages(page, "SetReceive")
        return bool(sizes) and sizes[-1]["payload"]["tracks"][0]["width"] > 600  # type: ignore[index]

    await eventually(told)


async def test_camera_off_stops_the_capture_and_on_needs_no_new_offer(open_state: Open) -> None:
    page = await _in_call(open_state)
    offers = len(await _messages(page, "SendOffer"))
    await page.get_by_test_id("control-camera").click()
    await expect(page.get_by_test_id("control-camera")).to_have_attribute("aria-pressed", "true")
    assert await page.evaluate("parley.call.transports.publisher.connection.getSenders()[1].track") is None
    await page.get_by_test_id("control-camera").click()
    await _flows(page, "camera")
    assert len(await _messages(page, "SendOffer")) == offers


async def test_a_share_comes_goes_and_comes_again_on_the_same_section(open_state: Open) -> None:
    page = await _in_call(open_state)
    share = page.locator('[data-testid=tile][data-source="screen"]')
    sections = []
    for _ in range(2):
        await page.get_by_test_id("control-share").click()
        await expect(share).to_be_visible()
        await _flows(page, "screen")
        sections.append(await page.evaluate("parley.call.transports.publisher.connection.getTransceivers().length"))
        await page.get_by_test_id("stop-share").click()
        await expect(share).to_have_count(0)
    assert sections[0] == sections[1]


async def test_a_dropped_socket_is_resumed_and_media_never_notices(open_state: Open) -> None:
    page = await _in_call(open_state)
    await page.evaluate("parley.simulate('signal-drop')")
    await page.get_by_test_id("control-hand").click()
    await page.wait_for_function("parley.call.state === 'connected'")
    await _flows(page, "camera")
    assert len(await _messages(page, "Resume")) == 1
    assert len(await _messages(page, "JoinRoom")) == 1
    assert await page.evaluate("loopback.sfu.generation") == 1
    states = await _messages(page, "UpdateState")
    assert states[-1]["payload"]["isHandRaised"] is True  # type: ignore[index]
    await expect(page.get_by_test_id("reconnecting")).to_have_count(0)


async def test_a_move_to_another_node_keeps_the_tracks_and_their_ids(open_state: Open) -> None:
    page = await _in_call(open_state)
    ids = "[...parley.call.transports.publisher.trackIds.values()]"
    before = await page.evaluate(ids)
    await page.evaluate("loopback.move()")
    await page.wait_for_function("parley.call.transports.subscriber.transportId === 'subscribe-2'")
    await _flows(page, "camera")
    assert await page.evaluate(ids) == before


async def test_layers_that_nobody_wants_are_not_encoded(open_state: Open) -> None:
    page = await _in_call(open_state)
    await page.evaluate(
        "loopback.sfu.socket.push('SetSend', {trackId: parley.call.transports.publisher.trackIds.get('camera'), "
        "layers: {q: true, h: false, f: false}})"
    )
    await page.wait_for_function(
        "parley.call.transports.publisher.connection.getSenders()[1].getParameters().encodings"
        ".map(({active}) => active).join() === 'true,false,false'"
    )


async def test_statistics_go_over_the_data_channel(open_state: Open) -> None:
    page = await _in_call(open_state)

    async def arrived() -> bool:
        return bool(await _messages(page, "DataChannel"))

    await eventually(arrived, within_s=20)
    [message, *_] = await _messages(page, "DataChannel")
    assert message["payload"]["type"] == "stats"  # type: ignore[index]
    assert message["payload"]["report"]["publish"]["streams"]  # type: ignore[index]


@pytest.mark.parametrize(("code", "slug"), [(4403, "removed"), (4409, "duplicate"), (4410, "room-ended")])
async def test_the_end_of_a_call_is_said_in_words(code: int, slug: str, open_state: Open) -> None:
    page = await _in_call(open_state)
    await page.evaluate(f"loopback.close({code})")
    ended = page.get_by_test_id("notice")
    await expect(ended).to_have_attribute("data-code", slug)
    assert str(code) not in await ended.inner_text()
