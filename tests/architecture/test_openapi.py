"""docs/openapi.json is what the routes are, and says everything that a client's author needs."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from functions.docs.generate import FILE, document, main

pytestmark = pytest.mark.architecture
DOCUMENT: dict[str, Any] = json.loads(document())
# contracts: every route of the REST API. A route that goes must go here too.
ROUTES = {
    "POST /v1/meetings",
    "GET /v1/meetings",
    "GET /v1/meetings/{id}",
    "POST /v1/meetings/{id}/join",
    "PUT /v1/meetings/{id}/end",
    "GET /v1/meetings/{id}/participants",
    "GET /v1/meetings/{id}/transcript",
    "GET /v1/meetings/{id}/summary",
    "GET /v1/meetings/{id}/consents",
    "POST /v1/users/consent",
    "GET /v1/users/me/profile",
    "GET /v1/users/me/ice-servers",
    "GET /v1/users/{id}/profile",
    "POST /v1/rooms",
    "GET /v1/rooms/{id}",
    "PATCH /v1/rooms/{id}",
    "POST /v1/rooms/{id}/join",
    "GET /v1/rooms/{id}/recordings",
    "POST /v1/rooms/{id}/recordings/start",
    "POST /v1/rooms/{id}/recordings/stop",
    "POST /v1/rooms/{id}/participants/{pid}/remove",
    "POST /v1/rooms/{id}/participants/{pid}/mute",
    "POST /v1/rooms/{id}/participants/{pid}/role",
    "POST /v1/rooms/{id}/ice-servers",
    "POST /v1/webhooks",
    "GET /v1/webhooks",
    "GET /v1/webhooks/{id}",
    "PATCH /v1/webhooks/{id}",
    "DELETE /v1/webhooks/{id}",
    "POST /v1/webhooks/{id}/secret",
    "POST /v1/webhooks/{id}/pause",
    "POST /v1/webhooks/{id}/resume",
    "POST /v1/webhooks/{id}/replay",
    "GET /v1/webhooks/{id}/deliveries",
    "GET /.well-known/jwks.json",
    "GET /config.json",
    "GET /health",
    "GET /ready",
}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_checked_in_document_is_up_to_date() -> None:
    assert FILE.read_text(encoding="utf-8") == document(), "run python -m functions.docs.generate"
    assert main(["--check"]) == 0


def test_it_is_openapi_3_1_and_holds_exactly_the_routes_of_the_contract() -> None:
    assert DOCUMENT["openapi"].startswith("3.1")
    assert {route for route, _ in operations()} == ROUTES


def test_every_operation_has_a_name_a_description_and_a_tag() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)
    poor = [route for route, operation in operations() if not (operation.get("description") and operation.get("tags"))]
    assert poor == []


def test_everything_under_v1_needs_a_token_and_says_what_it_refuses() -> None:
    for route, operation in operations():
        protected = " /v1/" in route
        assert (operation.get("security") == [{"oidc": []}]) is protected, route
        assert ("401" in operation["responses"]) is protected, route
        for status, response in operation["responses"].items():
            if status >= "400" and route != "GET /ready":
                assert list(response["content"]) == ["application/problem+json"], (route, status)


def test_bodies_refuse_unknown_members_and_show_an_example() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    for route, operation in operations():
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        for reference in [body.get("$ref"), *(part.get("$ref") for part in body.get("anyOf", ()))]:
            if reference:
                assert schemas[reference.rpartition("/")[2]]["additionalProperties"] is False, route


def test_every_reference_leads_somewhere() -> None:
    text = json.dumps(DOCUMENT)
    names = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert names <= set(DOCUMENT["components"]["schemas"])
