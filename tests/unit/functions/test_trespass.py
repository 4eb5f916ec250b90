"""Who may do what to which meeting, over every operation that names one: a stranger finds nothing anywhere, a colleague
who has no part in a meeting gets what is open to the tenant and no more.

The operations come from the OpenAPI document, so that a new one is under this law from its first day.
"""

from typing import Any

import pytest

from tests.support.openapi import OPERATIONS

pytestmark = pytest.mark.unit
OF_A_MEETING = {
    operation["operationId"]: (method, path)
    for method, path, operation in OPERATIONS
    if path.startswith(("/v1/meetings/{id}", "/v1/rooms/{id}"))
}
FOR_THE_HOST = {
    "changeRoom",
    "endMeeting",
    "removeParticipant",
    "muteParticipant",
    "setParticipantRole",
    "startRecording",
    "stopRecording",
}
FOR_THOSE_WHO_TOOK_PART = {"listParticipants", "getTranscript", "getSummary", "listRecordings", "getIceServers"}
OPEN_TO_THE_TENANT = {"getMeeting", "getRoom", "joinMeeting", "joinRoom", "listConsents"}


async def tries(person: Any, operation_id: str, meeting_id: str, participant_id: str) -> tuple[int, str]:
    method, path = OF_A_MEETING[operation_id]
    bodies = {
        "joinMeeting": {"userId": person.id},
        "joinRoom": {"userId": person.id},
        "changeRoom": {"settings": {"maxParticipants": 2}},
        "setParticipantRole": {"role": "viewer"},
    }
    address = path.replace("{id}", meeting_id).replace("{pid}", participant_id)
    answer = await person.call(method, address, bodies.get(operation_id), If_Match="*")
    return answer.status_code, answer.json().get("type", "").rpartition("/")[2] if answer.is_error else ""


def test_every_operation_on_a_meeting_is_in_one_circle() -> None:
    circles = (FOR_THE_HOST, FOR_THOSE_WHO_TOOK_PART, OPEN_TO_THE_TENANT)
    assert set.union(*circles) == set(OF_A_MEETING)
    assert sum(map(len, circles)) == len(OF_A_MEETING)


@pytest.mark.parametrize("operation_id", list(OF_A_MEETING))
async def test_a_stranger_finds_nothing(stage: Any, ada: Any, ben: Any, operation_id: str) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    participant_id = (await ben.joins(meeting_id)).json()["participantId"]
    before = await stage.services.meetings.get(meeting_id)
    answer = await tries(stage.person("stranger"), operation_id, meeting_id, participant_id)
    assert answer == (404, "not-found")
    assert await stage.services.meetings.get(meeting_id) == before


@pytest.mark.parametrize("operation_id", list(OF_A_MEETING))
async def test_a_colleague_gets_what_is_open_and_no_more(stage: Any, ada: Any, ben: Any, operation_id: str) -> None:
    meeting_id = (await ada.creates_meeting(settings={"isRecordingEnabled": False}))["id"]
    participant_id = (await ben.joins(meeting_id)).json()["participantId"]
    before = await stage.services.meetings.get(meeting_id)
    status, reason = await tries(stage.person("cleo"), operation_id, meeting_id, participant_id)
    if operation_id in FOR_THE_HOST:
        assert (status, reason) == (403, "not-host")
    elif operation_id in FOR_THOSE_WHO_TOOK_PART:
        assert (status, reason) == (403, "not-a-participant")
    else:
        assert status == 200
    assert await stage.services.meetings.get(meeting_id) == before


@pytest.mark.parametrize("operation_id", sorted(OF_A_MEETING))
async def test_a_participant_moderates_nobody(stage: Any, ada: Any, ben: Any, operation_id: str) -> None:
    meeting_id = (await ada.creates_meeting())["id"]
    participant_id = (await ada.joins(meeting_id)).json()["participantId"]
    await ben.joins(meeting_id)
    _, reason = await tries(ben, operation_id, meeting_id, participant_id)
    assert (reason == "not-host") == (operation_id in FOR_THE_HOST)


async def test_ids_of_one_room_mean_nothing_in_another(ada: Any, ben: Any) -> None:
    """The host of one room moderates nobody in somebody else's by naming it under their own."""
    own, other = (await ada.creates_meeting())["id"], (await ben.creates_meeting())["id"]
    theirs = (await ben.joins(other)).json()["participantId"]
    for operation_id in ("removeParticipant", "muteParticipant", "setParticipantRole"):
        assert await tries(ada, operation_id, own, theirs) == (404, "not-found")
