"""The users resource: profiles and decisions on consent."""

from datetime import timedelta
from typing import Any

import pytest

from conference.domain.ids import MeetingId, ParticipantId
from conference.domain.records import AuditAction

pytestmark = pytest.mark.unit


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def test_the_first_call_makes_the_profile(ada: Any) -> None:
    profile = (await ada.get("/v1/users/me/profile")).json()
    assert profile == (await ada.get(f"/v1/users/{ada.id}/profile")).json()
    assert (profile["id"], profile["displayName"], profile["email"]) == (ada.id, "Ada", "ada@example.com")


async def test_a_colleague_sees_no_email_and_a_stranger_nothing(ada: Any, ben: Any, admin: Any, stranger: Any) -> None:
    await ada.get("/v1/users/me/profile")
    path = f"/v1/users/{ada.id}/profile"
    assert (await ben.get(path)).json()["email"] is None
    assert (await admin.get(path)).json()["email"] == "ada@example.com"
    assert reason(await stranger.get(path)) == (404, "not-found")


async def test_a_decision_is_logged_audited_and_named_by_a_token(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"aiEnabled": True})
    response = await ben.decides(meeting["id"], "accepted", "ai")
    assert response.status_code == 201
    consent = response.json()
    assert consent["expiresAt"] == "2026-01-01T12:10:00Z"
    claims = await stage.services.tokens.verify_consent(consent["consentToken"], stage.clock.now())
    assert (claims.consent_id, claims.user_id, claims.meeting_id) == (consent["consentId"], ben.id, meeting["id"])
    (event,) = await stage.audited(AuditAction.CONSENT)
    assert (event.user_id, event.meeting_id, event.detail["status"]) == (ben.id, meeting["id"], "accepted")


async def test_a_retried_decision_is_one_entry(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"aiEnabled": True})
    body = {"meetingId": meeting["id"], "consentType": "ai", "status": "accepted"}
    first = (await ben.post("/v1/users/consent", body, Idempotency_Key="k")).json()
    again = (await ben.post("/v1/users/consent", body, Idempotency_Key="k")).json()
    assert first["consentId"] == again["consentId"]
    assert len(await stage.services.meetings.consents(MeetingId(meeting["id"]))) == 1
    other = await ben.post("/v1/users/consent", {**body, "status": "declined"}, Idempotency_Key="k")
    assert reason(other) == (422, "idempotency-conflict")


async def test_a_decision_in_a_live_meeting_reaches_signaling(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"aiEnabled": True, "isRecordingEnabled": True})
    await ben.decides(meeting["id"], "accepted")
    assert stage.orders("user.grants") == []  # nobody is there yet
    joined = (await ben.joins(meeting["id"])).json()
    now = stage.clock.now()
    await stage.services.meetings.mark_joined(
        MeetingId(meeting["id"]),
        ParticipantId(joined["participantId"]),
        now=now,
        lease_until=now + timedelta(minutes=2),
    )
    await ben.decides(meeting["id"], "withdrawn", "recording")
    assert stage.orders("user.grants") == [{"userId": ben.id, "grants": ["ai"], "declined": ["recording"]}]
    stage.presence.away = True
    assert (await ben.decides(meeting["id"], "accepted", "recording")).status_code == 201


async def test_a_decision_on_no_meeting_or_an_ended_one_is_refused(ada: Any, stranger: Any) -> None:
    meeting = await ada.creates_meeting(settings={"aiEnabled": True})
    assert reason(await stranger.decides(meeting["id"], "accepted", "ai")) == (404, "not-found")
    await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    assert reason(await ada.decides(meeting["id"], "accepted", "ai")) == (410, "meeting-ended")


@pytest.mark.parametrize(
    "change", [{"status": "maybe"}, {"consentType": "everything"}, {"userId": "somebody"}, {"meetingId": 7}]
)
async def test_a_decision_of_another_form_is_refused(ada: Any, change: dict[str, Any]) -> None:
    meeting = await ada.creates_meeting()
    body = {"meetingId": meeting["id"], "consentType": "ai", "status": "accepted", **change}
    assert reason(await ada.post("/v1/users/consent", body)) == (422, "invalid-body")
