"""The webhooks resource: for admins of a tenant, by version, with secrets that are shown once."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from conference.domain.errors import Refused
from conference.domain.ids import WebhookId
from conference.domain.records import AuditAction, EventType
from conference.domain.webhooks import MAX_ENDPOINTS, MAX_URL
from functions.webhooks.delivery import deliver
from tests.support.webhooks import DOWN

pytestmark = pytest.mark.unit
URL = "https://hooks.example.com/parley"


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def creates(person: Any, **members: Any) -> dict[str, Any]:
    response = await person.post("/v1/webhooks", {"url": URL, **members})
    assert response.status_code == 201, response.text
    created: dict[str, Any] = response.json()
    return created


async def secrets_of(stage: Any, admin: Any, webhook_id: str) -> list[str]:
    """Those that sign, the newest first."""
    caller = await stage.services.callers.verify(admin.token, stage.clock.now())
    endpoint = await stage.services.webhooks.get(caller.tenant_id, WebhookId(webhook_id))
    valid = endpoint.valid_secrets(stage.clock.now())
    return [(await stage.services.webhook_secrets.open(secret.sealed, endpoint.id)).reveal() for secret in valid]


async def test_a_new_webhook_comes_with_its_secret_which_is_shown_once(stage: Any, admin: Any) -> None:
    response = await admin.post("/v1/webhooks", {"url": URL, "events": ["MeetingEnded"], "description": "ours"})
    created = response.json()
    assert response.status_code == 201
    assert response.headers["Location"] == f"/v1/webhooks/{created['id']}"
    assert created["secret"].startswith("whsec_")
    assert await secrets_of(stage, admin, created["id"]) == [created["secret"]]
    shown = {name: value for name, value in created.items() if name != "secret"}
    assert shown == {
        "id": created["id"],
        "url": URL,
        "events": ["MeetingEnded"],
        "description": "ours",
        "status": "active",
        "pauseReason": None,
        "pausedAt": None,
        "previousSecretExpiresAt": None,
        "createdAt": "2026-01-01T12:00:00Z",
    }
    got = await admin.get(f"/v1/webhooks/{created['id']}")
    assert (got.json(), got.headers["ETag"]) == (shown, response.headers["ETag"])
    assert (await admin.get("/v1/webhooks")).json() == {"items": [shown]}


async def test_a_retry_gives_the_same_webhook_and_secret_and_another_body_is_a_conflict(stage: Any, admin: Any) -> None:
    first = await admin.post("/v1/webhooks", {"url": URL}, Idempotency_Key="k")
    again = await admin.post("/v1/webhooks", {"url": URL}, Idempotency_Key="k")
    assert first.json() == again.json()
    other = await admin.post("/v1/webhooks", {"url": URL, "events": ["MeetingEnded"]}, Idempotency_Key="k")
    assert reason(other) == (422, "idempotency-conflict")
    await admin.post(f"/v1/webhooks/{first.json()['id']}/secret", {"keepPrevious": False})
    late = await admin.post("/v1/webhooks", {"url": URL}, Idempotency_Key="k")
    assert (late.status_code, late.json()["secret"]) == (201, None)  # the first one is gone, and this is no way to ours
    (entry, _) = sorted(await stage.audited(AuditAction.WEBHOOK_CHANGED), key=lambda event: event.detail["change"])
    assert entry.detail == {"webhookId": first.json()["id"], "change": "created"}


async def test_a_tenant_has_twenty_at_most(admin: Any, stage: Any) -> None:
    created = [await creates(admin) for _ in range(MAX_ENDPOINTS)]
    assert reason(await admin.post("/v1/webhooks", {"url": URL})) == (409, "too-many-webhooks")
    assert (await admin.call("DELETE", f"/v1/webhooks/{created[0]['id']}")).status_code == 204
    await creates(admin)


OPERATIONS: list[tuple[str, str, object]] = [
    ("POST", "", {"url": URL}),
    ("GET", "", None),
    ("GET", "/{id}", None),
    ("PATCH", "/{id}", {"description": "mine"}),
    ("DELETE", "/{id}", None),
    ("POST", "/{id}/secret", None),
    ("POST", "/{id}/pause", None),
    ("POST", "/{id}/resume", None),
    ("POST", "/{id}/replay", {"meetingId": "3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11", "fromSeq": 1}),
    ("GET", "/{id}/deliveries", None),
]


@pytest.mark.parametrize(("method", "path", "body"), OPERATIONS)
async def test_who_is_no_admin_does_nothing(ada: Any, admin: Any, method: str, path: str, body: object) -> None:
    webhook = await creates(admin)
    before = (await admin.get("/v1/webhooks")).json()
    answer = await ada.call(method, "/v1/webhooks" + path.replace("{id}", webhook["id"]), body, If_Match="*")
    assert reason(answer) == (403, "forbidden")
    assert (await admin.get("/v1/webhooks")).json() == before


@pytest.mark.parametrize(("method", "path", "body"), [known for known in OPERATIONS if known[1]])
async def test_an_admin_of_another_tenant_finds_nothing(
    stage: Any, admin: Any, stranger: Any, method: str, path: str, body: object
) -> None:
    webhook = await creates(admin)
    before = (await admin.get("/v1/webhooks")).json()
    stage.change(callers=_Admins(stage.services.callers))
    assert (await stranger.get("/v1/webhooks")).json() == {"items": []}
    answer = await stranger.call(method, "/v1/webhooks" + path.replace("{id}", webhook["id"]), body, If_Match="*")
    assert reason(answer) == (404, "not-found")
    assert (await admin.get("/v1/webhooks")).json() == before


class _Admins:
    """Everybody is an admin of their tenant."""

    def __init__(self, callers: Any) -> None:
        self._callers = callers

    async def verify(self, token: str, now: Any) -> Any:
        caller = await self._callers.verify(token, now)
        return type(caller)(caller.user_id, caller.tenant_id, True, caller.display_name, caller.email, caller.token_id)


async def test_an_admin_replays_no_meeting_of_another_tenant(admin: Any, stranger: Any) -> None:
    webhook, theirs = await creates(admin), await stranger.creates_meeting()
    body = {"meetingId": theirs["id"], "fromSeq": 1}
    assert reason(await admin.post(f"/v1/webhooks/{webhook['id']}/replay", body)) == (404, "not-found")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": None},
        {"url": 7},
        {"url": ""},
        {"url": "https://" + "a" * MAX_URL},
        {"url": "http://hooks.example.com/"},
        {"url": "https://127.0.0.1/"},
        {"url": "https://localhost:8080/"},
        {"url": "http://169.254.169.254/latest/meta-data/"},
        {"url": "https://[::ffff:10.0.0.1]/"},
        {"url": "https://user:secret@hooks.example.com/"},
        {"url": "https://hooks.example.com/\r\nHost: inside"},
        {"url": "file:///etc/passwd"},
        {"url": URL, "events": []},
        {"url": URL, "events": ["Tea"]},
        {"url": URL, "events": "MeetingEnded"},
        {"url": URL, "events": ["MeetingEnded"] * 65},
        {"url": URL, "description": "x" * 201},
        {"url": URL, "secret": "whsec_mine"},
        {"url": URL, "status": "paused"},
        {"url": URL, "tenantId": "another"},
    ],
)
async def test_a_webhook_of_another_form_is_refused(admin: Any, body: dict[str, Any]) -> None:
    response = await admin.post("/v1/webhooks", body)
    assert reason(response) == (422, "invalid-body")
    assert response.json()["errors"]
    assert "secret@" not in response.text
    assert (await admin.get("/v1/webhooks")).json() == {"items": []}


async def test_a_change_carries_the_version_that_was_read(admin: Any) -> None:
    webhook = await creates(admin, events=["MeetingEnded"])
    path, etag = f"/v1/webhooks/{webhook['id']}", '"1"'
    assert reason(await admin.call("PATCH", path, {"description": "x"})) == (428, "precondition-required")
    changed = await admin.call("PATCH", path, {"url": URL + "/2", "events": None}, If_Match=etag)
    assert (changed.json()["url"], changed.json()["events"]) == (URL + "/2", None)
    assert changed.headers["ETag"] == '"2"'
    assert reason(await admin.call("PATCH", path, {"description": "x"}, If_Match=etag)) == (412, "precondition-failed")
    assert reason(await admin.call("PATCH", path, {"url": "https://10.0.0.1/"}, If_Match="*")) == (422, "invalid-body")
    nothing = await admin.call("PATCH", path, {"url": None, "description": None}, If_Match="*")
    assert nothing.json() == changed.json()


async def test_types_named_twice_count_once(admin: Any) -> None:
    webhook = await creates(admin, events=["MeetingEnded", "RecordingReady", "MeetingEnded"])
    assert webhook["events"] == ["MeetingEnded", "RecordingReady"]
    everything = await creates(admin)
    assert everything["events"] is None
    assert len(EventType) <= 64  # all of them can be named


async def test_two_secrets_are_valid_at_a_time_and_the_former_for_a_day(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    path = f"/v1/webhooks/{webhook['id']}"
    known = [webhook["secret"]]
    for _ in range(2):
        stage.clock.advance(60)
        answer = (await admin.post(f"{path}/secret")).json()
        known.insert(0, answer["secret"])
        assert await secrets_of(stage, admin, webhook["id"]) == known[:2]
        expires = (stage.clock.now() + timedelta(days=1)).isoformat().replace("+00:00", "Z")
        assert answer["previousExpiresAt"] == expires
        assert (await admin.get(path)).json()["previousSecretExpiresAt"] == expires
    assert len(set(known)) == 3
    stage.clock.advance(24 * 3_600)
    assert await secrets_of(stage, admin, webhook["id"]) == known[:1]
    assert (await admin.get(path)).json()["previousSecretExpiresAt"] is None


async def test_a_secret_that_leaked_ends_at_once(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    answer = (await admin.post(f"/v1/webhooks/{webhook['id']}/secret", {"keepPrevious": False})).json()
    assert answer["previousExpiresAt"] is None
    assert await secrets_of(stage, admin, webhook["id"]) == [answer["secret"]]


async def test_a_retried_change_of_the_secret_does_not_push_the_former_out(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    answers = [(await admin.post(f"/v1/webhooks/{webhook['id']}/secret", Idempotency_Key="k")).json() for _ in range(3)]
    assert all(one == other for one, other in pairwise(answers))
    assert await secrets_of(stage, admin, webhook["id"]) == [answers[0]["secret"], webhook["secret"]]


async def test_pause_and_resume_can_be_repeated(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    path = f"/v1/webhooks/{webhook['id']}"
    for _ in range(2):
        paused = (await admin.post(f"{path}/pause")).json()
        assert (paused["status"], paused["pauseReason"]) == ("paused", "admin")
        assert paused["pausedAt"] == "2026-01-01T12:00:00Z"
        stage.clock.advance(1)
    for body in (None, {}, {"skipDead": True}):
        resumed = (await admin.post(f"{path}/resume", body)).json()
        assert (resumed["status"], resumed["pauseReason"], resumed["pausedAt"]) == ("active", None, None)


async def test_every_change_is_audited(stage: Any, admin: Any) -> None:
    meeting = await admin.creates_meeting()
    webhook = await creates(admin)
    path = f"/v1/webhooks/{webhook['id']}"
    await admin.call("PATCH", path, {"description": "x"}, If_Match="*")
    await admin.post(f"{path}/secret")
    await admin.post(f"{path}/pause")
    await admin.post(f"{path}/resume")
    await admin.post(f"{path}/replay", {"meetingId": meeting["id"], "fromSeq": 1})
    await admin.call("DELETE", path)
    entries = await stage.audited(AuditAction.WEBHOOK_CHANGED)
    told = {entry.detail["change"] for entry in entries}
    assert told == {"created", "changed", "secret", "paused", "resumed", "replayed", "deleted"}
    assert {(entry.user_id, entry.detail["webhookId"]) for entry in entries} == {(admin.id, webhook["id"])}


@pytest.mark.parametrize(
    "change", [{"fromSeq": 0}, {"fromSeq": -1}, {"fromSeq": 2**31}, {"fromSeq": "1"}, {"fromSeq": 1.5},
               {"fromSeq": True}, {"meetingId": "x"}, {"fromSeq": 2}, {"toSeq": 3}],
)  # fmt: skip
async def test_a_replay_of_what_is_not_there_is_refused(admin: Any, change: dict[str, Any]) -> None:
    meeting, webhook = await admin.creates_meeting(), await creates(admin)
    body = {"meetingId": meeting["id"], "fromSeq": 1, **change}
    assert reason(await admin.post(f"/v1/webhooks/{webhook['id']}/replay", body)) == (422, "invalid-body")


async def test_the_log_tells_status_time_and_error_of_each_try(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    meetings = [await admin.creates_meeting() for _ in range(2)]
    stage.services.webhook_sender.answer = lambda url, event: DOWN
    for meeting in meetings:
        body = {"meetingId": meeting["id"], "fromSeq": 1}
        assert (await admin.post(f"/v1/webhooks/{webhook['id']}/replay", body)).status_code == 202
    await deliver(stage.services)
    path = f"/v1/webhooks/{webhook['id']}/deliveries"
    page = (await admin.get(path)).json()
    assert page["nextCursor"] is None
    assert {attempt["meetingId"] for attempt in page["items"]} == {meeting["id"] for meeting in meetings}
    (one,) = (await admin.get(f"{path}?meetingId={meetings[0]['id']}")).json()["items"]
    (event,) = await stage.services.outbox.events(meetings[0]["id"])
    assert {name: value for name, value in one.items() if name != "id"} == {
        "meetingId": meetings[0]["id"],
        "seq": 1,
        "eventId": event.id,
        "eventType": "RoomCreated",
        "at": "2026-01-01T12:00:00Z",
        "attempt": 1,
        "outcome": "failed",
        "status": None,
        "error": "connect-failed",
        "durationMs": 0,
    }
    first = (await admin.get(f"{path}?limit=1")).json()
    second = (await admin.get(f"{path}?limit=1&cursor={first['nextCursor']}")).json()
    assert first["items"] + second["items"] == page["items"]
    assert reason(await admin.get(f"{path}?cursor=made-up")) == (400, "invalid-cursor")
    assert reason(await admin.get(f"{path}?limit=101")) == (422, "invalid-parameter")
    assert reason(await admin.get(f"{path}?meetingId=x")) == (422, "invalid-parameter")


@pytest.mark.parametrize("webhook_id", ["x", "%00", "..", "3F1D7A52-5D0E-5C1B-9A55-7C3F0F0A9D11", "0" * 300])
async def test_an_id_that_is_none_names_nothing(admin: Any, webhook_id: str) -> None:
    assert (await admin.get(f"/v1/webhooks/{webhook_id}")).status_code == 404


async def test_a_change_that_meets_another_is_made_on_top_of_it(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)
    path = f"/v1/webhooks/{webhook['id']}"
    store = stage.services.webhooks
    change = store.change

    async def later(endpoint: Any) -> Any:
        store.change = change
        assert (await admin.call("PATCH", path, {"description": "first"}, If_Match="*")).status_code == 200
        return await change(endpoint)

    store.change = later
    paused = (await admin.post(f"{path}/pause")).json()
    assert (paused["description"], paused["status"]) == ("first", "paused")


async def test_a_change_that_always_meets_another_is_to_be_tried_later(stage: Any, admin: Any) -> None:
    webhook = await creates(admin)

    async def never(endpoint: Any) -> Any:
        return Refused("precondition-failed")

    stage.services.webhooks.change = never
    response = await admin.post(f"/v1/webhooks/{webhook['id']}/pause")
    assert reason(response) == (503, "unavailable")
    assert response.headers["Retry-After"]
