"""The rooms resource: creation with the host's token, state, settings, moderation, TURN credentials."""

from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.records import AuditAction

pytestmark = pytest.mark.unit


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def creates_room(person: Any, **settings: Any) -> dict[str, Any]:
    response = await person.post("/v1/rooms", {"hostId": person.id, "settings": settings})
    assert response.status_code == 201, response.text
    room: dict[str, Any] = response.json()
    return room


async def connects(stage: Any, person: Any, room_id: str) -> ParticipantId:
    """Joins, and takes the place as signaling does."""
    participant_id = ParticipantId((await person.joins(room_id)).json()["participantId"])
    now = stage.clock.now()
    joined = await stage.services.meetings.mark_joined(
        MeetingId(room_id), participant_id, now=now, lease_until=now + timedelta(seconds=90)
    )
    assert joined is not None
    return participant_id


async def test_a_new_room_comes_with_the_hosts_token(stage: Any, ada: Any) -> None:
    response = await ada.post("/v1/rooms", {"hostId": ada.id, "settings": {"isRecordingEnabled": True}})
    room = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/rooms/{room['roomId']}"
    claims = await stage.services.tokens.verify_join(room["joinToken"], stage.clock.now())
    assert (claims.room_id, claims.user_id, claims.role.value) == (room["roomId"], ada.id, "host")
    assert (claims.grants, claims.consent_pending) == (frozenset(), True)
    assert await stage.services.meetings.live_count(MeetingId(room["roomId"]), stage.clock.now()) == 1


async def test_nothing_is_pending_in_a_room_that_asks_for_nothing(stage: Any, ada: Any) -> None:
    room = await creates_room(ada)
    claims = await stage.services.tokens.verify_join(room["joinToken"], stage.clock.now())
    assert claims.consent_pending is False


async def test_a_retried_room_is_the_same_room(ada: Any) -> None:
    body = {"hostId": ada.id, "settings": {}}
    first = (await ada.post("/v1/rooms", body, Idempotency_Key="k")).json()
    again = (await ada.post("/v1/rooms", body, Idempotency_Key="k")).json()
    assert first["roomId"] == again["roomId"]
    other = await ada.post("/v1/rooms", {**body, "settings": {"aiEnabled": True}}, Idempotency_Key="k")
    assert reason(other) == (422, "idempotency-conflict")
    meeting = await ada.post("/v1/meetings", {"hostId": ada.id}, Idempotency_Key="k")
    assert meeting.json()["id"] != first["roomId"]  # another route, another item


async def test_the_creation_of_a_room_is_audited(stage: Any, ada: Any) -> None:
    room = await creates_room(ada)
    (event,) = await stage.audited(AuditAction.ROOM_CREATED)
    assert (event.user_id, event.meeting_id, event.outcome) == (ada.id, room["roomId"], "ok")


async def test_a_room_tells_its_state(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    seen = await ben.get(f"/v1/rooms/{room['roomId']}")
    assert seen.headers["ETag"] == '"2"'  # the host's place made it active
    state = seen.json()
    assert (state["status"], state["live"]["participantCount"]) == ("ACTIVE", 1)
    stage.presence.away = True
    away = (await ben.get(f"/v1/rooms/{room['roomId']}")).json()["live"]
    assert away == {"participantCount": 1, "isRecording": None, "topology": None, "epoch": None, "sfuRegion": None}


async def test_settings_change_under_the_etag_that_was_read(ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    path = f"/v1/rooms/{room['roomId']}"
    tag = (await ada.get(path)).headers["ETag"]
    body = {"settings": {"maxParticipants": 7}}
    assert reason(await ben.call("PATCH", path, body, If_Match=tag)) == (403, "not-host")
    assert reason(await ada.call("PATCH", path, body)) == (428, "precondition-required")
    assert reason(await ada.call("PATCH", path, body, If_Match=f"W/{tag}")) == (412, "precondition-failed")
    changed = await ada.call("PATCH", path, body, If_Match=f'"other", {tag}')
    assert (changed.status_code, changed.json()["settings"]["maxParticipants"]) == (200, 7)
    assert changed.headers["ETag"] != tag
    assert reason(await ada.call("PATCH", path, body, If_Match=tag)) == (412, "precondition-failed")
    anyway = await ada.call("PATCH", path, {"settings": {"languages": ["en", "de"]}}, If_Match="*")
    assert anyway.json()["settings"]["maxParticipants"] == 7
    assert anyway.json()["settings"]["languages"] == ["en", "de"]


async def test_a_change_of_any_version_outlasts_changes_beside_it(
    stage: Any, ada: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = await creates_room(ada)
    path = f"/v1/rooms/{room['roomId']}"
    tag = (await ada.get(path)).headers["ETag"]
    change, others = stage.services.meetings.change_settings, count(11)

    async def late(meeting_id: MeetingId, settings: Any, *, expected_version: int, now: Any) -> Any:
        if (number := next(others)) < 14:
            other = replace(settings, max_participants=number)
            await change(meeting_id, other, expected_version=expected_version, now=now)
        return await change(meeting_id, settings, expected_version=expected_version, now=now)

    monkeypatch.setattr(stage.services.meetings, "change_settings", late)
    body = {"settings": {"languages": ["de"]}}
    changed = await ada.call("PATCH", path, body, If_Match="*")
    assert (changed.status_code, changed.json()["settings"]["languages"]) == (200, ["de"])
    assert changed.json()["settings"]["maxParticipants"] == 13
    assert reason(await ada.call("PATCH", path, body, If_Match=tag)) == (412, "precondition-failed")


async def test_settings_that_contradict_those_that_stand_are_refused(ada: Any) -> None:
    room = await creates_room(ada, aiEnabled=True)
    change = await ada.call("PATCH", f"/v1/rooms/{room['roomId']}", {"settings": {"e2ee": True}}, If_Match="*")
    assert reason(change) == (422, "e2ee-excludes")


async def test_a_removed_participant_is_denied_at_once_and_stays_out(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    participant_id = await connects(stage, ben, room["roomId"])
    path = f"/v1/rooms/{room['roomId']}/participants/{participant_id}/remove"
    assert reason(await ben.post(path)) == (403, "not-host")
    removed = await ada.post(path)
    assert (removed.status_code, removed.json()["userId"]) == (200, ben.id)
    assert removed.json()["leftAt"] == "2026-01-01T12:00:00Z"
    assert stage.presence.revoked == [participant_id]
    assert stage.orders("user.removed") == [{"userId": ben.id, "participantId": participant_id, "byUserId": ada.id}]
    assert reason(await ben.joins(room["roomId"])) == (403, "removed")


async def test_a_removal_stands_while_the_directory_is_away(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    participant_id = await connects(stage, ben, room["roomId"])
    stage.presence.away = True
    removed = await ada.post(f"/v1/rooms/{room['roomId']}/participants/{participant_id}/remove")
    assert removed.status_code == 200
    assert reason(await ben.joins(room["roomId"])) == (403, "removed")


async def test_the_host_is_not_removed(ada: Any) -> None:
    room = await creates_room(ada)
    participant_id = (await ada.joins(room["roomId"])).json()["participantId"]
    refused = await ada.post(f"/v1/rooms/{room['roomId']}/participants/{participant_id}/remove")
    assert reason(refused) == (403, "forbidden")


async def test_muting_reaches_the_room_or_says_that_it_did_not(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    participant_id = await connects(stage, ben, room["roomId"])
    path = f"/v1/rooms/{room['roomId']}/participants/{participant_id}/mute"
    assert (await ada.post(path)).status_code == 200
    assert stage.orders("user.muted") == [{"userId": ben.id, "participantId": participant_id, "byUserId": ada.id}]
    stage.presence.away = True
    away = await ada.post(path)
    assert reason(away) == (503, "unavailable")
    assert int(away.headers["Retry-After"]) >= 1
    stage.presence.away = False
    stage.clock.advance(91)
    assert reason(await ada.post(path)) == (403, "not-a-participant")


async def test_a_role_changes_within_what_the_meeting_allows(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada, allowedRoles=["host", "attendee"])
    participant_id = await connects(stage, ben, room["roomId"])
    path = f"/v1/rooms/{room['roomId']}/participants/{participant_id}/role"
    assert reason(await ada.post(path, {"role": "viewer"})) == (403, "role-not-allowed")
    assert reason(await ada.post(path, {"role": "host"})) == (403, "role-not-allowed")
    await ada.call(
        "PATCH", f"/v1/rooms/{room['roomId']}", {"settings": {"allowedRoles": ["host", "viewer"]}}, If_Match="*"
    )
    changed = await ada.post(path, {"role": "viewer"})
    assert (changed.status_code, changed.json()["role"]) == (200, "viewer")
    assert stage.orders("user.role") == [
        {"userId": ben.id, "participantId": participant_id, "role": "viewer", "byUserId": ada.id}
    ]


async def test_a_participant_of_another_room_is_not_found(stage: Any, ada: Any, ben: Any) -> None:
    room, other = await creates_room(ada), await creates_room(ada)
    participant_id = await connects(stage, ben, room["roomId"])
    for action in ("remove", "mute"):
        foreign = await ada.post(f"/v1/rooms/{other['roomId']}/participants/{participant_id}/{action}")
        assert reason(foreign) == (404, "not-found")


async def test_turn_credentials_are_for_the_callers_own_live_place(stage: Any, ada: Any, ben: Any) -> None:
    room = await creates_room(ada)
    path = f"/v1/rooms/{room['roomId']}/ice-servers"
    assert reason(await ben.post(path)) == (403, "not-a-participant")
    participant_id = await connects(stage, ben, room["roomId"])
    (server,) = (await ben.post(path)).json()["iceServers"]
    assert server["username"].endswith(f":{participant_id}")
    assert (await ben.post(path, {"participantId": participant_id})).status_code == 200
    assert reason(await ada.post(path, {"participantId": participant_id})) == (403, "not-a-participant")
    stage.clock.advance(91)
    assert reason(await ben.post(path)) == (403, "not-a-participant")
    again = await connects(stage, ben, room["roomId"])
    assert again != participant_id
    (server,) = (await ben.post(path)).json()["iceServers"]
    assert server["username"].endswith(f":{again}")
