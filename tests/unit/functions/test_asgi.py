"""The application behind AsgiFunctionApp, called as the Functions worker calls it."""

import json
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from functions.app import create_app
from local.functions_host.invoking import InvocationContext, invoke
from local.functions_host.loading import load

pytestmark = pytest.mark.unit


class TracedContext(InvocationContext):
    """In Azure the invocation brings the host's span."""

    @property
    def trace_context(self) -> Any:
        return SimpleNamespace(trace_parent="00-11111111111111111111111111111111-2222222222222222-01")


@pytest.fixture
async def handler(stage: Any) -> Any:
    """The user function behind the catch-all route."""
    provider = SimpleNamespace(services=stage.provide)
    app = func.AsgiFunctionApp(app=create_app(provider), http_auth_level=func.AuthLevel.ANONYMOUS, function_name="http")
    yield load(app).http.handler
    if app.startup_task_done:
        await app.middleware.notify_shutdown()  # type: ignore[no-untyped-call]
        app.startup_task_done = False


def request(method: str, path: str, body: object = None, **headers: str) -> func.HttpRequest:
    content = b"" if body is None else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return func.HttpRequest(method, f"http://127.0.0.1{path}", headers=sent, body=content)


async def test_routes_queries_and_bodies_arrive(handler: Any, ada: Any) -> None:
    created = await invoke(
        "http", handler, "req", request("POST", "/v1/meetings", {"hostId": ada.id}, Authorization="Bearer ada")
    )
    assert created.status_code == 201
    meeting = json.loads(created.get_body())
    assert created.headers["location"] == f"/v1/meetings/{meeting['id']}"
    listed = await invoke("http", handler, "req", request("GET", "/v1/meetings?limit=1", Authorization="Bearer ada"))
    assert [item["id"] for item in json.loads(listed.get_body())["items"]] == [meeting["id"]]


async def test_a_problem_keeps_its_type_and_headers(handler: Any) -> None:
    refused = await invoke("http", handler, "req", request("GET", "/v1/meetings"))
    assert refused.status_code == 401
    assert refused.mimetype == "application/problem+json"
    assert refused.headers["www-authenticate"] == 'Bearer realm="parley"'


async def test_the_invocations_span_is_the_parent_before_the_callers(handler: Any) -> None:
    callers = "00-33333333333333333333333333333333-4444444444444444-01"
    sent = request("GET", "/v1/nowhere", traceparent=callers)
    in_azure = await handler(sent, TracedContext("http"))
    assert json.loads(in_azure.get_body())["traceId"] == "1" * 32
    locally = await handler(sent, InvocationContext("http"))
    assert json.loads(locally.get_body())["traceId"] == "3" * 32
