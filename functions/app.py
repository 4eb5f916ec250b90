"""The REST and token API: a FastAPI application out of one router a resource, behind the `Edge`.

Importing this module must stay cheap (it is on the cold-start path of the Functions app): no adapter, no settings, no
SDK is imported until the provider builds its services. No FastAPI lifespan: AsgiFunctionApp runs it late, unguarded,
and never for triggers.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeVar

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from conference.domain.errors import ProtocolError, Refused, Unavailable
from functions import problems
from functions.docs.router import router as docs
from functions.edge import Edge, trace_id
from functions.health.router import router as health
from functions.meetings.router import router as meetings
from functions.problems import Problem
from functions.recordings.router import router as recordings
from functions.rooms.router import router as rooms
from functions.security import Gatekeeper
from functions.services import VERSION, ServicesProvider
from functions.tokens.router import router as tokens
from functions.transcripts.router import router as transcripts
from functions.users.router import router as users
from functions.webhooks.router import router as webhooks

E = TypeVar("E", bound=Exception)
ROUTERS: Final = (meetings, rooms, recordings, transcripts, users, webhooks, tokens, health, docs)
_DESCRIPTION: Final = """The REST and token API of Parley, self-hosted video conferencing.

A *meeting* to its host is a *room* to the media: two views of one aggregate with one id. Callers carry an ID or access
token of the OIDC issuer that `/config.json` names. Times are RFC 3339 in UTC. Errors are problem documents (RFC 9457);
the last segment of `type` tells them apart, and `/docs/problems` explains each. Members that are not known are refused.
Bodies have at most 256 KiB, pages at most 100 items.
"""
_TAGS: Final = [
    {"name": "meetings", "description": "A meeting as its host plans it and its participants join it."},
    {"name": "rooms", "description": "The same meeting as the media sees it: state, settings, moderation."},
    {"name": "recordings", "description": "What was recorded, and orders to record."},
    {"name": "transcripts", "description": "What was said, and what was made of it."},
    {"name": "users", "description": "Profiles, and decisions on consent."},
    {"name": "webhooks", "description": "Where a tenant's events are sent. For admins of the tenant."},
    {"name": "tokens", "description": "Public keys and the client's configuration."},
    {"name": "health", "description": "The Functions app's own."},
]
_MAX_FAULTS: Final = 20
_HTTP_REASONS: Final = {400: "malformed-json", 404: "not-found", 405: "method-not-allowed"}


def create_app(provider: ServicesProvider) -> Edge:
    """The ASGI application. `provider` is asked at each request; it builds the services at the first."""
    return Edge(create_api(provider))


def create_api(provider: ServicesProvider) -> FastAPI:
    """The FastAPI application alone; its OpenAPI document is checked in as docs/openapi.json."""
    app = FastAPI(
        title="Parley API",
        version=VERSION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Our Edge makes the one span of a request; FastAPI's own would record the text of exceptions.
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
    )
    app.state.provider = provider
    app.state.gatekeeper = Gatekeeper()
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(Refused, _on_refused)
    app.add_exception_handler(ProtocolError, _on_protocol_error)
    app.add_exception_handler(Unavailable, _on_unavailable)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


def _answer(problem: Problem) -> Response:
    return Response(
        problem.body(trace_id()), problem.status, headers=dict(problem.headers), media_type=problems.MEDIA_TYPE
    )


async def _on_refused(request: Request, error: Exception) -> Response:
    return _answer(problems.of_refused(_as(Refused, error)))


async def _on_protocol_error(request: Request, error: Exception) -> Response:
    return _answer(problems.of_protocol_error(_as(ProtocolError, error)))


async def _on_unavailable(request: Request, error: Exception) -> Response:
    return _answer(problems.of_unavailable(_as(Unavailable, error)))


async def _on_bug(request: Request, error: Exception) -> Response:
    """Answers; the error then goes on to the Edge, which logs it."""
    return _answer(problems.internal())


async def _on_http(request: Request, error: Exception) -> Response:
    http = _as(HTTPException, error)
    refused = Refused(_HTTP_REASONS.get(http.status_code, "invalid-body"))
    answer = _answer(problems.of_refused(refused))
    if http.status_code == 405:
        answer.headers["Allow"] = ", ".join(_methods_at(request.url.path))
    return answer


def _methods_at(path: str) -> list[str]:
    """Every method of an address; Starlette names those of the first route that fits (RFC 9110 10.2.1)."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    methods = {method for route in routes if route.path_regex.match(path) for method in route.methods or ()}
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Where the fault is decides: an id in the path that is none names nothing; then the body or a parameter."""
    faults = _as(RequestValidationError, error).errors()
    places = {fault["loc"][0] for fault in faults}
    if any(fault["type"] == "json_invalid" for fault in faults):
        refused = Refused("malformed-json")
    elif "path" in places:
        refused = Refused("not-found")
    else:
        reason = "invalid-body" if "body" in places else "invalid-parameter"
        refused = Refused(reason, extra={"errors": [_fault(fault) for fault in faults[:_MAX_FAULTS]]})
    return _answer(problems.of_refused(refused))


def _fault(fault: dict[str, Any]) -> dict[str, str]:
    """A fault as in RFC 9457's example: a JSON pointer (RFC 6901) into the body, or a parameter's name; never the
    value that was sent."""
    place, *path = fault["loc"]
    if place != "body":
        return {"parameter": str(path[-1])[:64] if path else str(place), "detail": str(fault["msg"])}
    return {"pointer": _pointer(path), "detail": str(fault["msg"])}


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(step)[:64].replace("~", "~0").replace("/", "~1") for step in path)


def _as(kind: type[E], error: Exception) -> E:
    """Starlette hands handlers what they were registered for, typed as Exception."""
    if not isinstance(error, kind):
        raise error
    return error


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary="Meetings, rooms, consent, tokens",
            description=_DESCRIPTION,
            routes=app.routes,
            tags=_TAGS,
            license_info={"name": "MIT", "identifier": "MIT"},
            servers=[{"url": "/"}],
        )
        _describe_problems(document)
        _tidy(document)
        app.openapi_schema = document
    return app.openapi_schema


_PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "title": "Problem",
    "description": "A problem document (RFC 9457). Some types add members, for example `consentRequired` or `errors`.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "examples": ["/docs/problems/room-full"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "A sentence that a person understands."},
        "traceId": {"type": "string", "description": "Names the request to an operator."},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["detail"],
                "properties": {
                    "pointer": {"type": "string", "description": "JSON pointer into the body."},
                    "parameter": {"type": "string"},
                    "detail": {"type": "string"},
                },
            },
        },
    },
    "examples": [
        {
            "type": "/docs/problems/room-full",
            "title": "The room is full. Try again when somebody has left.",
            "status": 409,
            "detail": "The room is full. Try again when somebody has left.",
        }
    ],
}


def _describe_problems(document: dict[str, Any]) -> None:
    """Puts the Problem schema in place of FastAPI's own validation error."""
    schemas = document["components"]["schemas"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM_SCHEMA
    for operations in document["paths"].values():
        for operation in operations.values():
            invalid = operation["responses"].get("422")
            if invalid and "application/json" in invalid["content"]:
                del operation["responses"]["422"]


def _tidy(document: dict[str, Any]) -> None:
    """What FastAPI cannot know: If-Match is required (its absence is 428, not 422). What nobody needs: a title of each
    member, made of its name."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"].pop("title", None)
                if parameter["name"] == "If-Match" and "428" in operation["responses"]:
                    parameter["required"] = True
                    parameter["schema"] = {"type": "string"}
    for schema in document["components"]["schemas"].values():
        for member in schema.get("properties", {}).values():
            member.pop("title", None)
