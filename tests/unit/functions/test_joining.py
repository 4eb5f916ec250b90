"""Joining over both addresses: window, role, password, consent, capacity, tokens."""

from typing import Any

import pytest

from conference.domain.claims import ConsentClaims
from conference.domain.consent import Grant
from conference.domain.ids import ConsentId, MeetingId
from conference.domain.meetings import Role
from conference.domain.records import AuditAction

pytestmark = pytest.mark.unit
RECORDED = {"isRecordingEnabled": True, "aiEnabled": True}


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def test_a_join_gives_a_token_for_signaling_and_turn_credentials(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    response = await ben.joins(meeting["id"])
    assert response.status_code == 200
    grant = response.json()
    assert grant["token"] == grant["signalingToken"]
    assert grant["signalingUrl"] == "ws://127.0.0.1:8080/v1/signal"
    assert grant["expiresAt"] == "2026-01-01T12:05:00Z"
    assert (grant["role"], grant["grants"], grant["declined"]) == ("attendee", [], [])
    (server,) = grant["iceServers"]
    assert server["urls"] == ["turn:127.0.0.1:3478"]
    assert server["username"].endswith(":" + grant["participantId"])
    claims = await stage.services.tokens.verify_join(grant["token"], stage.clock.now())
    assert (claims.participant_id, claims.room_id, claims.user_id) == (grant["participantId"], meeting["id"], ben.id)
    assert (claims.role, claims.consent_pending) == (Role.ATTENDEE, False)


async def test_joining_again_gives_the_same_participant_a_new_token(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    first = (await ben.joins(meeting["id"])).json()
    again = (await ben.post(f"/v1/rooms/{meeting['id']}/join", {"userId": ben.id})).json()
    assert again["participantId"] == first["participantId"]
    assert again["token"] != first["token"]


@pytest.mark.parametrize(
    ("asked", "given"), [(None, "attendee"), ("guest", "attendee"), ("participant", "attendee"), ("viewer", "viewer")]
)
async def test_the_role_is_what_was_asked_for_under_any_of_its_names(
    ada: Any, ben: Any, asked: str | None, given: str
) -> None:
    meeting = await ada.creates_meeting()
    response = await ben.joins(meeting["id"], **({"role": asked} if asked else {}))
    assert response.json()["role"] == given
    assert (await ada.joins(meeting["id"])).json()["role"] == "host"


async def test_nobody_joins_as_host_but_the_host(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    assert reason(await ben.joins(meeting["id"], role="host")) == (403, "role-not-allowed")
    assert reason(await ben.joins(meeting["id"], role="king")) == (422, "invalid-body")


async def test_a_role_that_the_meeting_does_not_allow_is_refused(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"allowedRoles": ["host", "viewer"]})
    assert reason(await ben.joins(meeting["id"])) == (403, "role-not-allowed")
    assert (await ben.joins(meeting["id"], role="viewer")).status_code == 200


async def test_others_join_from_fifteen_minutes_before_and_the_host_at_any_time(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(scheduledTime="2026-01-01T13:00:00Z")
    early = await ben.joins(meeting["id"])
    assert reason(early) == (403, "not-started")
    assert early.json()["opensAt"] == "2026-01-01T12:45:00+00:00"
    assert (await ada.joins(meeting["id"])).status_code == 200
    stage.clock.advance(45 * 60)
    assert (await ben.joins(meeting["id"])).status_code == 200


async def test_a_password_is_asked_of_everyone_but_the_host(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(password="hunter2")
    assert reason(await ben.joins(meeting["id"])) == (403, "password-required")
    assert reason(await ben.joins(meeting["id"], password="hunter3")) == (403, "wrong-password")
    assert (await ben.joins(meeting["id"], password="hunter2")).status_code == 200
    assert (await ada.joins(meeting["id"])).status_code == 200


async def test_five_tries_a_minute_are_all_that_a_password_gets(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(password="hunter2")
    cara = stage.person("cara")
    for _ in range(5):
        assert reason(await ben.joins(meeting["id"], password="guess")) == (403, "wrong-password")
    sixth = await ben.joins(meeting["id"], password="hunter2")
    assert reason(sixth) == (429, "too-many-tries")
    assert 1 <= int(sixth.headers["Retry-After"]) <= 60
    assert (await cara.joins(meeting["id"], password="hunter2")).status_code == 200  # counted per caller
    stage.clock.advance(float(sixth.headers["Retry-After"]))
    assert (await ben.joins(meeting["id"], password="hunter2")).status_code == 200


async def test_an_admins_tries_for_somebody_are_the_admins(ada: Any, ben: Any, admin: Any) -> None:
    meeting = await ada.creates_meeting(password="open sesame")
    await ben.get("/v1/users/me/profile")
    path = f"/v1/meetings/{meeting['id']}/join"
    for _ in range(5):
        assert (await admin.post(path, {"userId": ben.id, "password": "guess"})).status_code == 403
    assert (await admin.post(path, {"userId": admin.id, "password": "guess"})).status_code == 429
    assert (await ben.joins(meeting["id"], password="open sesame")).status_code == 200


async def test_a_place_keeps_the_role_that_the_host_gave(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting()
    participant_id = (await ben.joins(meeting["id"])).json()["participantId"]
    room = f"/v1/rooms/{meeting['id']}"
    assert (await ada.post(f"{room}/participants/{participant_id}/role", {"role": "viewer"})).status_code == 200
    changed = await ada.call("PATCH", room, {"settings": {"allowedRoles": ["host", "viewer"]}}, If_Match="*")
    assert changed.status_code == 200
    again = await ben.joins(meeting["id"])
    assert (again.status_code, again.json()["role"]) == (200, "viewer")


async def test_a_room_that_records_asks_for_a_decision_first(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings=RECORDED)
    refused = await ben.joins(meeting["id"])
    assert reason(refused) == (403, "consent-required")
    assert [needed["type"] for needed in refused.json()["consentRequired"]] == ["recording", "ai"]
    assert refused.json()["consentRequired"][0]["text"]
    await ben.decides(meeting["id"], "accepted", "recording")
    still = await ben.joins(meeting["id"])
    assert [needed["type"] for needed in still.json()["consentRequired"]] == ["ai"]


async def test_a_decision_counts_with_and_without_its_token(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings=RECORDED)
    consent = (await ben.decides(meeting["id"], "accepted")).json()
    with_token = await ben.joins(meeting["id"], consentToken=consent["consentToken"])
    without = await ben.joins(meeting["id"])
    for response in (with_token, without):
        assert (response.json()["grants"], response.json()["declined"]) == (["ai", "recording"], [])
    claims = await stage.services.tokens.verify_join(with_token.json()["token"], stage.clock.now())
    assert claims.grants == frozenset({Grant.RECORDING, Grant.AI})
    assert claims.consent_version


async def test_who_declines_joins_without_the_grant_and_is_told_so(ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings=RECORDED)
    await ben.decides(meeting["id"], "declined", "recording")
    await ben.decides(meeting["id"], "accepted", "ai")
    joined = (await ben.joins(meeting["id"])).json()
    assert (joined["grants"], joined["declined"]) == (["ai"], ["recording"])


async def test_a_consent_token_that_is_not_the_callers_is_refused_and_audited(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings=RECORDED)
    other = await ada.creates_meeting(settings=RECORDED)
    adas = (await ada.decides(meeting["id"], "accepted")).json()["consentToken"]
    elsewhere = (await ben.decides(other["id"], "accepted")).json()["consentToken"]
    await ben.decides(meeting["id"], "accepted")
    unknown = ConsentClaims(
        ConsentId("3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11"),
        ben.id,
        MeetingId(meeting["id"]),
        stage.clock.now() + stage.services.config.consent_token_life,
    )
    made_up = await stage.services.tokens.mint_consent(unknown, stage.clock.now())
    for token in (adas, elsewhere, made_up, "nonsense"):
        assert reason(await ben.joins(meeting["id"], consentToken=token)) == (403, "consent-token-refused")
    refusals = await stage.audited(AuditAction.TOKEN_REFUSED)
    assert [event.detail["cause"] for event in refusals].count("claims") == 3
    assert {(event.user_id, event.meeting_id, event.outcome) for event in refusals} == {
        (ben.id, meeting["id"], "consent-token-refused")
    }


async def test_an_expired_consent_token_is_refused(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings=RECORDED)
    token = (await ben.decides(meeting["id"], "accepted")).json()["consentToken"]
    stage.clock.advance(601)
    assert reason(await ben.joins(meeting["id"], consentToken=token)) == (403, "consent-token-refused")
    (refusal,) = await stage.audited(AuditAction.TOKEN_REFUSED)
    assert refusal.detail == {"token": "consent", "cause": "expired"}


async def test_a_full_room_takes_nobody_more_until_a_place_is_free(stage: Any, ada: Any, ben: Any) -> None:
    meeting = await ada.creates_meeting(settings={"maxParticipants": 2})
    cara = stage.person("cara")
    assert (await ada.joins(meeting["id"])).status_code == (await ben.joins(meeting["id"])).status_code == 200
    assert reason(await cara.joins(meeting["id"])) == (409, "room-full")
    stage.clock.advance(301)  # nobody took their place: the leases are over
    assert (await cara.joins(meeting["id"])).status_code == 200


async def test_nobody_joins_as_somebody_else(ada: Any, ben: Any, admin: Any) -> None:
    meeting = await ada.creates_meeting()
    path = f"/v1/meetings/{meeting['id']}/join"
    assert reason(await ben.post(path, {"userId": ada.id})) == (403, "forbidden")
    assert (await admin.post(path, {"userId": ada.id})).json()["role"] == "host"


async def test_a_meeting_of_another_tenant_cannot_be_joined(ada: Any, stranger: Any) -> None:
    meeting = await ada.creates_meeting()
    assert reason(await stranger.joins(meeting["id"])) == (404, "not-found")
