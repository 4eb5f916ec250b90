"""Recordings, transcripts and summaries, from the stores."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from conference.domain.ids import MeetingId, ParticipantId, RecordingId, SessionId
from conference.domain.records import (
    ActionItem,
    AuditAction,
    MeetingMetadata,
    Recording,
    RecordingState,
    Segment,
    StorageTier,
)
from functions.transcripts.use_cases import choose_format

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


def recording(meeting_id: str, number: int, state: RecordingState) -> Recording:
    return Recording(
        RecordingId(f"00000000-0000-4000-8000-00000000000{number}"),
        MeetingId(meeting_id),
        SessionId("00000000-0000-4000-8000-0000000000aa"),
        f"rooms/{meeting_id}/{number}.mp4",
        120.0,
        StorageTier.HOT,
        state,
        NOW,
    )


def segment(number: int, t0: float, text: str) -> Segment:
    return Segment(f"s{number}", ParticipantId("00000000-0000-4000-8000-0000000000bb"), t0, t0 + 1.5, "en", text, True)


async def test_finished_recordings_are_listed_and_the_access_audited(stage: Any, ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    for number, state in enumerate((RecordingState.READY, RecordingState.PROCESSING, RecordingState.FAILED), 1):
        await stage.services.recordings.put(recording(meeting_id, number, state))
    (listed,) = (await ada.get(f"/v1/rooms/{meeting_id}/recordings")).json()
    ends = int((stage.services.clock.now() + timedelta(minutes=15)).timestamp())
    assert (listed["url"], listed["duration"]) == (f"memory:rooms/{meeting_id}/1.mp4?expires={ends}", 120.0)
    assert reason(await ben.get(f"/v1/rooms/{meeting_id}/recordings")) == (403, "not-a-participant")
    events = await stage.audited(AuditAction.RECORDING_ACCESS)
    assert {(event.user_id, event.outcome) for event in events} == {(ada.id, "ok"), (ben.id, "not-a-participant")}


@pytest.mark.parametrize("order", ["start", "stop"])
async def test_no_recorder_is_a_503_for_the_host_and_a_403_for_others(
    stage: Any, ada: Any, ben: Any, order: str
) -> None:
    meeting_id = (await ada.creates_meeting(settings={"isRecordingEnabled": True}))["id"]
    path = f"/v1/rooms/{meeting_id}/recordings/{order}"
    assert reason(await ben.post(path)) == (403, "not-host")
    response = await ada.post(path)
    assert reason(response) == (503, "recorder-unavailable")
    assert response.headers["Retry-After"] == "30"


async def test_a_registered_recorder_takes_orders_that_the_meeting_allows(stage: Any, ada: Any) -> None:
    class Registered:
        def __init__(self) -> None:
            self.orders: list[tuple[str, str]] = []

        async def order(self, room_id: MeetingId, order: str) -> bool:
            self.orders.append((room_id, order))
            return True

    recorders = Registered()
    stage.change(recorders=recorders)
    recorded = (await ada.creates_meeting(settings={"isRecordingEnabled": True}))["id"]
    private = (await ada.creates_meeting())["id"]
    response = await ada.post(f"/v1/rooms/{recorded}/recordings/start")
    assert (response.status_code, response.json()) == (202, {"roomId": recorded})
    assert reason(await ada.post(f"/v1/rooms/{private}/recordings/start")) == (403, "forbidden")
    await ada.call("PUT", f"/v1/meetings/{recorded}/end")
    assert reason(await ada.post(f"/v1/rooms/{recorded}/recordings/start")) == (410, "meeting-ended")
    assert recorders.orders == [(recorded, "start")]


async def test_a_transcript_comes_in_the_form_that_is_asked_for(stage: Any, ada: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    spoken = [segment(2, 3661.25, "a --> b\n\n<i>&"), segment(1, 0.0, "Hello")]
    await stage.services.transcripts.put_segments(MeetingId(meeting_id), spoken)
    path = f"/v1/meetings/{meeting_id}/transcript"
    plain = await ada.get(path)
    assert [piece["text"] for piece in plain.json()["segments"]] == ["Hello", "a --> b\n\n<i>&"]
    assert plain.headers["Vary"] == "Accept"
    vtt = await ada.get(path, Accept="text/vtt")
    assert vtt.headers["Content-Type"].startswith("text/vtt")
    assert vtt.text == (
        "WEBVTT\n\ns1\n00:00:00.000 --> 00:00:01.500\nHello\n\ns2\n01:01:01.250 --> 01:01:02.750\na → b &lt;i>&amp;\n"
    )
    srt = await ada.get(path, Accept="application/x-subrip")
    assert srt.text.startswith("1\n00:00:00,000 --> 00:00:01,500\nHello\n\n2\n01:01:01,250 --> ")
    assert reason(await ada.get(path, Accept="image/png")) == (406, "not-acceptable")


async def test_an_empty_transcript_is_empty_in_every_form(ada: Any, ben: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    path = f"/v1/meetings/{meeting_id}/transcript"
    assert (await ada.get(path)).json() == {"meetingId": meeting_id, "segments": []}
    assert (await ada.get(path, Accept="text/vtt")).text == "WEBVTT\n"
    assert (await ada.get(path, Accept="application/x-subrip")).text == ""
    assert reason(await ben.get(path)) == (403, "not-a-participant")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("text/*", "text/vtt"),
        ("TEXT/VTT; Q=0.2, application/json;q=0.1", "text/vtt"),
        ("*/*, application/json;q=0", "text/vtt"),
        ("application/x-subrip, */*;q=0.1", "application/x-subrip"),
        ("text/vtt;q=nonsense, */*", "application/json"),
    ],
)
def test_the_best_acceptable_form_is_chosen(accept: str | None, chosen: str) -> None:
    assert choose_format(accept) == chosen


async def test_a_summary_cites_segments(stage: Any, ada: Any) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    path = f"/v1/meetings/{meeting_id}/summary"
    assert reason(await ada.get(path)) == (404, "not-found")
    item = ActionItem("Write it down", "Ada", ("s1",))
    metadata = MeetingMetadata(MeetingId(meeting_id), "We met.", (item,), (), "neutral", NOW)
    await stage.services.transcripts.put_metadata(metadata)
    summary = (await ada.get(path)).json()
    assert summary["actionItems"] == [{"text": "Write it down", "owner": "Ada", "segmentIds": ["s1"]}]
    assert (summary["summary"], summary["sentiment"]) == ("We met.", "neutral")
