"""The meetings resource."""

from typing import Any

import pytest

pytestmark = pytest.mark.unit


async def test_a_meeting_is_created_with_its_address_and_etag(ada: Any) -> None:
    body = {
        "hostId": ada.id,
        "scheduledTime": "2026-01-02T10:00:00+01:00",
        "settings": {"aiEnabled": True, "maxParticipants": 4, "allowedRoles": ["host", "guest"]},
    }
    response = await ada.post("/v1/meetings", body)
    assert response.status_code == 201
    meeting = response.json()
    assert response.headers["Location"] == f"/v1/meetings/{meeting['id']}"
    assert response.headers["ETag"] == '"1"'
    assert response.headers["Cache-Control"] == "no-store"
    assert meeting["scheduledTime"] == "2026-01-02T09:00:00Z"
    assert meeting["settings"] == {
        "aiEnabled": True,
        "isRecordingEnabled": False,
        "maxParticipants": 4,
        "allowedRoles": ["host", "attendee"],
        "e2ee": False,
        "waitingRoom": False,
        "topology": "auto",
        "mediaProvider": "parley",
        "languages": [],
    }
    assert (meeting["status"], meeting["hostId"], meeting["isHost"]) == ("SCHEDULED", ada.id, True)
    assert "password" not in response.text.lower().replace("requirespassword", "")


async def test_a_meeting_names_the_consent_texts_and_the_password_that_it_asks_for(ada: Any, ben: Any) -> None:
    settings = {"aiEnabled": True, "isRecordingEnabled": True}
    meeting = await ada.creates_meeting(settings=settings, password="hunter2")
    seen = (await ben.get(f"/v1/meetings/{meeting['id']}")).json()
    assert [needed["type"] for needed in seen["consentRequired"]] == ["recording", "ai"]
    assert all(needed["text"] and needed["version"] for needed in seen["consentRequired"])
    assert (seen["requiresPassword"], seen["isHost"]) == (True, False)
    assert meeting["requiresPassword"] is False  # the host is not asked


async def test_a_meeting_of_another_tenant_is_as_good_as_none(ada: Any, stranger: Any) -> None:
    meeting = await ada.creates_meeting()
    foreign = await stranger.get(f"/v1/meetings/{meeting['id']}")
    missing = await stranger.get("/v1/meetings/3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11")
    assert foreign.status_code == missing.status_code == 404
    assert foreign.json()["type"] == missing.json()["type"] == "/docs/problems/not-found"


@pytest.mark.parametrize("bad_id", ["nonsense", "3F1D7A52-5D0E-5C1B-9A55-7C3F0F0A9D11", "%00", "..%2f.."])
async def test_an_id_that_is_none_is_not_found(ada: Any, bad_id: str) -> None:
    assert (await ada.get(f"/v1/meetings/{bad_id}")).status_code == 404


async def test_a_retry_under_the_same_key_finds_the_first_meeting(ada: Any) -> None:
    body = {"hostId": ada.id, "password": "hunter2"}
    first = await ada.post("/v1/meetings", body, Idempotency_Key="key-1")
    again = await ada.post("/v1/meetings", body, Idempotency_Key="key-1")
    assert first.status_code == again.status_code == 201
    assert first.json()["id"] == again.json()["id"]
    assert (await ada.post("/v1/meetings", body, Idempotency_Key="key-2")).json()["id"] != first.json()["id"]


@pytest.mark.parametrize(
    "other", [{"password": "hunter3"}, {}, {"password": "hunter2", "settings": {"aiEnabled": True}}]
)
async def test_another_body_under_the_same_key_is_refused(ada: Any, other: dict[str, Any]) -> None:
    await ada.post("/v1/meetings", {"hostId": ada.id, "password": "hunter2"}, Idempotency_Key="key-1")
    response = await ada.post("/v1/meetings", {"hostId": ada.id, **other}, Idempotency_Key="key-1")
    assert response.status_code == 422
    assert response.json()["type"] == "/docs/problems/idempotency-conflict"


async def test_keys_of_two_callers_are_two_keys(ada: Any, ben: Any) -> None:
    ids = {
        (await person.post("/v1/meetings", {"hostId": person.id}, Idempotency_Key="same")).json()["id"]
        for person in (ada, ben)
    }
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
async def test_a_key_that_is_none_is_refused(ada: Any, key: str) -> None:
    response = await ada.post("/v1/meetings", {"hostId": ada.id}, Idempotency_Key=key)
    assert (response.status_code, response.json()["type"]) == (422, "/docs/problems/invalid-parameter")


async def test_nobody_creates_a_meeting_for_somebody_else(ada: Any, ben: Any) -> None:
    response = await ben.post("/v1/meetings", {"hostId": ada.id})
    assert (response.status_code, response.json()["type"]) == (403, "/docs/problems/forbidden")


async def test_an_admin_creates_a_meeting_for_a_user_of_the_tenant_only(ada: Any, admin: Any, stranger: Any) -> None:
    assert (await admin.post("/v1/meetings", {"hostId": ada.id})).status_code == 403  # not seen yet: unknown
    for person in (ada, stranger):
        await person.get("/v1/users/me/profile")
    assert (await admin.post("/v1/meetings", {"hostId": ada.id})).status_code == 201
    assert (await admin.post("/v1/meetings", {"hostId": stranger.id})).status_code == 403


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"e2ee": True, "aiEnabled": True}, "e2ee-excludes"),
        ({"e2ee": True}, "not-available"),
        ({"waitingRoom": True}, "not-available"),
        ({"mediaProvider": "acs"}, "not-available"),
        ({"allowedRoles": ["attendee"]}, "invalid-body"),
        ({"maxParticipants": 1}, "invalid-body"),
        ({"maxParticipants": 2001}, "invalid-body"),
        ({"maxParticipants": "50"}, "invalid-body"),
        ({"aiEnabled": "yes"}, "invalid-body"),
        ({"topology": "ring"}, "invalid-body"),
        ({"languages": ["not a language"]}, "invalid-body"),
        ({"color": "blue"}, "invalid-body"),
    ],
)
async def test_settings_that_cannot_be_are_refused(ada: Any, settings: dict[str, Any], reason: str) -> None:
    response = await ada.post("/v1/meetings", {"hostId": ada.id, "settings": settings})
    assert (response.status_code, response.json()["type"]) == (422, f"/docs/problems/{reason}")


async def test_meetings_are_listed_by_start_time_in_pages(ada: Any) -> None:
    times = ["2026-01-05T10:00:00Z", "2026-01-03T10:00:00Z", "2026-01-04T10:00:00Z"]
    for time in times:
        await ada.creates_meeting(scheduledTime=time)
    first = (await ada.get(f"/v1/meetings?hostId={ada.id}&limit=2")).json()
    second = (await ada.get(f"/v1/meetings?limit=2&cursor={first['nextCursor']}")).json()
    listed = [meeting["scheduledTime"] for meeting in first["items"] + second["items"]]
    assert listed == sorted(times, reverse=True)
    assert second["nextCursor"] is None
    ranged = (await ada.get("/v1/meetings?from=2026-01-04T00:00:00Z&to=2026-01-05T00:00:00Z")).json()
    assert [meeting["scheduledTime"] for meeting in ranged["items"]] == ["2026-01-04T10:00:00Z"]


async def test_a_cursor_of_ones_own_making_is_refused(ada: Any) -> None:
    response = await ada.get("/v1/meetings?cursor=made-up")
    assert (response.status_code, response.json()["type"]) == (400, "/docs/problems/invalid-cursor")


@pytest.mark.parametrize("query", ["limit=101", "limit=0", "limit=many", "from=yesterday", "hostId=me"])
async def test_parameters_out_of_bounds_are_refused(ada: Any, query: str) -> None:
    response = await ada.get(f"/v1/meetings?{query}")
    assert (response.status_code, response.json()["type"]) == (422, "/docs/problems/invalid-parameter")
    assert response.json()["errors"][0]["parameter"] == query.partition("=")[0]


async def test_nobody_lists_somebody_elses_meetings(ada: Any, ben: Any) -> None:
    assert (await ben.get(f"/v1/meetings?hostId={ada.id}")).status_code == 403


async def test_the_host_ends_a_meeting_once_and_for_all(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    refused = await ben.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    assert (refused.status_code, refused.json()["type"]) == (403, "/docs/problems/not-host")
    first = await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    again = await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert first.json()["status"] == "COMPLETED"
    assert len(stage.orders("room.ended")) == 1
    late = await ben.joins(meeting["id"])
    assert (late.status_code, late.json()["type"]) == (410, "/docs/problems/meeting-ended")


async def test_an_end_may_name_the_version_that_it_means(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    path = f"/v1/meetings/{meeting['id']}"
    tag = (await ada.get(path)).headers["ETag"]
    await ben.joins(meeting["id"])
    stale = await ada.call("PUT", f"{path}/end", If_Match=tag)
    assert (stale.status_code, stale.json()["type"]) == (412, "/docs/problems/precondition-failed")
    tag = (await ada.get(path)).headers["ETag"]
    for _ in range(2):
        assert (await ada.call("PUT", f"{path}/end", If_Match=tag)).status_code == 200


async def test_an_end_stands_while_the_directory_is_away(stage: Any, ada: Any) -> None:
    meeting = await ada.creates_meeting()
    stage.presence.away = True
    response = await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    assert (response.status_code, response.json()["status"]) == (200, "COMPLETED")


async def test_history_is_for_those_who_took_part(ada: Any, ben: Any, admin: Any) -> None:
    meeting = await ada.creates_meeting()
    path = f"/v1/meetings/{meeting['id']}/participants"
    refused = await ben.get(path)
    assert (refused.status_code, refused.json()["type"]) == (403, "/docs/problems/not-a-participant")
    joined = (await ben.joins(meeting["id"])).json()
    for person in (ada, ben, admin):
        (stay,) = (await person.get(path)).json()["items"]
        assert (stay["participantId"], stay["userId"], stay["displayName"]) == (joined["participantId"], ben.id, "Ben")
        assert (stay["joinedAt"], stay["leftAt"]) == (None, None)


async def test_consents_are_ones_own_or_the_hosts_to_see(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"aiEnabled": True})
    for person in (ada, ben, ben):
        assert (await person.decides(meeting["id"], "accepted", "ai")).status_code == 201
    path = f"/v1/meetings/{meeting['id']}/consents"
    assert [entry["userId"] for entry in (await ben.get(path)).json()["items"]] == [ben.id, ben.id]
    first = (await ada.get(f"{path}?limit=2")).json()
    second = (await ada.get(f"{path}?limit=2&cursor={first['nextCursor']}")).json()
    chain = first["items"] + second["items"]
    assert [entry["userId"] for entry in chain] == [ada.id, ben.id, ben.id]
    assert [entry["previousHash"] for entry in chain[1:]] == [entry["hash"] for entry in chain[:-1]]
    assert (await ada.get(f"{path}?cursor=-1")).status_code == 400
