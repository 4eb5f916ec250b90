"""What no route decides: bodies, problems, bugs, spans and headers."""

import gzip
import json
import logging
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from conference import telemetry
from conference.domain.errors import REASONS, Refused, Unavailable
from functions import problems
from functions.edge import MAX_BODY_BYTES

pytestmark = pytest.mark.unit


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


def test_every_reason_of_the_domain_has_a_status_and_no_other_has() -> None:
    assert set(problems.STATUS) == set(REASONS)
    assert all(400 <= status <= 503 for status in problems.STATUS.values())


def test_a_problem_carries_what_the_policy_added_and_nothing_internal() -> None:
    refused = Refused("rate-limited", "Slower.", {"retryAfterS": 1.2, "cause": "secret", "limit": 3})
    problem = problems.of_refused(refused)
    assert problem.headers == {"Retry-After": "2"}
    assert json.loads(problem.body("abc")) == {
        "type": "/docs/problems/rate-limited",
        "title": REASONS["rate-limited"],
        "status": 429,
        "detail": "Slower.",
        "limit": 3,
        "traceId": "abc",
    }


async def post(person: Any, content: bytes, **headers: str) -> Any:
    sent = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json", **headers}
    return await person.client.post("/v1/meetings", content=content, headers=sent)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b'{"hostId": }',
        b"\xff\xfe\x00",
        b"[" * 50_000,
        b"1" * 5_000,
        b'{"hostId": "\\ud800',
        b'{"hostId": "\\ud800"}',
        b'{"hostId": "a", "hostId": "b"}',
        b'{"settings": {"maxParticipants": NaN}}',
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
async def test_what_is_no_json_is_a_400(ada: Any, content: bytes) -> None:
    assert reason(await post(ada, content)) == (400, "malformed-json")


@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        (b"[]", ""),
        (b"null", ""),
        (b'"text"', ""),
        (b"{}", "/hostId"),
        (b'{"hostId": 7}', "/hostId"),
        (b'{"hostId": "%s", "host_id": "x"}', "/host_id"),
        (b'{"hostId": "%s", "surprise": 1}', "/surprise"),
        (b'{"hostId": "%s", "settings": {"a/b~c": 1}}', "/settings/a~1b~0c"),
        (b'{"hostId": "%s", "scheduledTime": 1767261600}', "/scheduledTime"),
        (b'{"hostId": "%s", "scheduledTime": "1767261600"}', "/scheduledTime"),
        (b'{"hostId": "%s", "scheduledTime": "2026-01-01T10:00Z"}', "/scheduledTime"),
        (b'{"hostId": "%s", "scheduledTime": "2026-01-01T10:00:00"}', "/scheduledTime"),
        (b'{"hostId": "%s", "settings": {"allowedRoles": ["1767261600"]}}', "/settings/allowedRoles/0"),
        (b'{"hostId": "%s", "settings": {"allowedRoles": [[]]}}', "/settings/allowedRoles/0"),
        (b'{"hostId": "%s", "scheduledTime": "9999-12-31T23:59:59-12:00"}', "/scheduledTime"),
        (b'{"hostId": "%s", "password": ""}', "/password"),
        (b'{"hostId": "%s", "password": ["x"]}', "/password"),
    ],
)
async def test_a_fault_in_the_body_is_pointed_at_without_repeating_it(ada: Any, content: bytes, pointer: str) -> None:
    response = await post(ada, content.replace(b"%s", ada.id.encode()))
    assert reason(response) == (422, "invalid-body")
    assert pointer in [fault["pointer"] for fault in response.json()["errors"]]
    assert not any(key in response.text for key in ('"input"', '"ctx"', "1767261600"))


async def test_many_faults_are_told_as_twenty(ada: Any) -> None:
    body = {"hostId": ada.id, **{f"unknown{number}": 1 for number in range(5_000)}}
    response = await post(ada, json.dumps(body).encode())
    assert len(response.json()["errors"]) == 20


async def test_a_body_over_the_cap_is_a_413_whatever_it_says(ada: Any) -> None:
    exact = json.dumps({"hostId": ada.id, "password": "x"}).encode()
    padded = exact + b" " * (MAX_BODY_BYTES - len(exact))
    assert (await post(ada, padded)).status_code == 201
    assert reason(await post(ada, padded + b" ")) == (413, "body-too-large")
    for lie in ("-1", "many", "9" * 400):
        assert reason(await post(ada, exact, **{"Content-Length": lie})) == (413, "body-too-large")


async def test_a_body_that_comes_in_pieces_is_counted(ada: Any) -> None:
    async def pieces() -> Any:
        for _ in range(5):
            yield b" " * 60_000

    headers = {"Authorization": f"Bearer {ada.token}", "Content-Type": "application/json"}
    response = await ada.client.post("/v1/meetings", content=pieces(), headers=headers)
    assert reason(response) == (413, "body-too-large")


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/xml"])
async def test_only_json_is_taken(ada: Any, media_type: str) -> None:
    response = await post(ada, b"{}", **{"Content-Type": media_type})
    assert reason(response) == (415, "unsupported-media-type")


@pytest.mark.parametrize("coding", ["gzip", "br, gzip", "identity, gzip"])
async def test_a_content_coding_is_not_taken(ada: Any, coding: str) -> None:
    response = await post(ada, gzip.compress(b"{}"), **{"Content-Encoding": coding})
    assert reason(response) == (415, "unsupported-media-type")


@pytest.mark.parametrize("media_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_json_in_any_case_and_charset(ada: Any, media_type: str) -> None:
    body = json.dumps({"hostId": ada.id}).encode()
    assert (await post(ada, body, **{"Content-Type": media_type})).status_code == 201


async def test_a_method_that_an_address_does_not_take_is_a_405(ada: Any) -> None:
    response = await ada.call("DELETE", "/v1/meetings")
    assert reason(response) == (405, "method-not-allowed")
    assert response.headers["Allow"] == "GET, HEAD, POST"
    assert (await ada.get("/v1/users/consent")).headers["Allow"] == "POST"


async def test_head_is_get_without_the_content(ada: Any) -> None:
    meeting = await ada.creates_meeting()
    path = f"/v1/meetings/{meeting['id']}"
    get, head = await ada.get(path), await ada.call("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(get.headers)
    assert (await ada.call("HEAD", f"{path}/join")).status_code == 405
    assert (await ada.call("HEAD", "/v1/nowhere")).content == b""


async def test_an_unknown_address_is_a_404(ada: Any) -> None:
    for path in ("/", "/v1", "/v1/meetings/", "/v2/meetings", "//v1/meetings", "/admin"):
        assert reason(await ada.get(path)) == (404, "not-found")


async def test_a_bug_says_nothing_of_itself(stage: Any, ada: Any, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def get(self, user_id: str) -> None:
            raise RuntimeError("password=hunter2")

        async def upsert(self, user: object) -> None:
            """Fine."""

    stage.change(users=Broken())
    with caplog.at_level(logging.ERROR):
        response = await ada.get("/v1/users/me/profile")
    assert reason(response) == (500, "internal")
    assert "hunter2" not in response.text
    assert [record.message for record in caplog.records] == ["unhandled error"]


async def test_a_store_that_does_not_answer_is_a_503_with_a_time(stage: Any, ada: Any) -> None:
    stage.failure = Unavailable("database", after_s=3)
    response = await ada.get("/v1/users/me/profile")
    assert reason(response) == (503, "unavailable")
    assert response.headers["Retry-After"] == "3"
    assert "database" not in response.text


class _Spans:
    """Notes what the edge asks telemetry for, and gives it real spans."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[dict[str, Any]] = []
        self.names: list[str] = []
        real = telemetry.span

        def span(name: str, **more: Any) -> Any:
            self.asked.append({"name": name, **more})
            return real(name, **more)

        monkeypatch.setattr("functions.edge.telemetry.span", span)
        monkeypatch.setattr(
            trace.NonRecordingSpan, "update_name", lambda _self, name: self.names.append(name), raising=True
        )


async def test_a_request_is_one_server_span_named_by_its_route(ada: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = _Spans(monkeypatch)
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await ada.get(f"/v1/users/{ada.id}/profile?secret=1", traceparent=parent)
    (asked,) = spans.asked
    assert (asked["name"], asked["traceparent"], asked["kind"]) == ("GET", parent, SpanKind.SERVER)
    assert spans.names == ["GET /v1/users/{id}/profile"]
    assert ada.id not in str(asked)


async def test_a_problem_names_the_trace_that_the_caller_began(ada: Any) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    response = await ada.get("/v1/nowhere", traceparent=parent)
    assert response.json()["traceId"] == "0af7651916cd43dd8448eb211c80319c"
    assert "traceId" not in (await ada.get("/v1/nowhere", traceparent="garbage")).json()


async def test_a_log_line_holds_the_route_and_no_id(ada: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="functions.edge"):
        await ada.get(f"/v1/users/{ada.id}/profile")
    (record,) = caplog.records
    facts = vars(record)
    assert (facts["route"], facts["method"], facts["status"]) == ("/v1/users/{id}/profile", "GET", 200)
    assert not any(personal in str(facts) for personal in (ada.id, "Ada", "example.com"))


async def test_an_odd_method_is_not_taken_into_names(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spans = _Spans(monkeypatch)
    response = await stage.client.request("BREW", "/v1/meetings")
    assert response.status_code == 405
    assert spans.asked[0]["name"] == "_OTHER"


async def test_every_answer_forbids_sniffing_and_the_api_forbids_storing(ada: Any) -> None:
    for path in ("/health", "/v1/users/me/profile", "/v1/nowhere"):
        headers = (await ada.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers.get("Cache-Control") == ("no-store" if path.startswith("/v1") else None)
