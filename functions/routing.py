"""What every router shares: the types of its parameters, and the problems in its part of the OpenAPI document."""

from typing import Annotated, Any

from fastapi import Path, Query

from functions.problems import MEDIA_TYPE, titles
from functions.schemas import EXAMPLE_ID, Id

MeetingPath = Annotated[Id, Path(alias="id", description="The meeting's, which is also the room's, id.")]
ParticipantPath = Annotated[Id, Path(alias="pid", description="The participant's id.", examples=[EXAMPLE_ID])]
CursorQuery = Annotated[str | None, Query(max_length=512, description="`nextCursor` of the page before.")]
LimitQuery = Annotated[int, Query(ge=1, le=100, description="Items a page.")]

SIGNED_IN = ("unauthenticated", "token-refused", "rate-limited")
WRITES = ("malformed-json", "invalid-body", "body-too-large", "unsupported-media-type")
PAGES = ("invalid-parameter", "invalid-cursor")


def refusals(*reasons: str, signed_in: bool = True) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these reasons, besides those of every signed-in call."""
    known = titles()
    by_status: dict[int, list[str]] = {}
    for reason in (*(SIGNED_IN if signed_in else ()), *reasons, "unavailable"):
        by_status.setdefault(known[reason][0], []).append(reason)
    return {status: _response(status, reasons) for status, reasons in sorted(by_status.items())}


def _response(status: int, reasons: list[str]) -> dict[str, Any]:
    response: dict[str, Any] = {
        "description": "Problem: " + ", ".join(f"`{reason}`" for reason in reasons),
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    if status in (429, 503):
        response["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    if status == 401:
        response["headers"] = {"WWW-Authenticate": {"schema": {"type": "string"}}}
    return response


ETAG_HEADER: dict[str, Any] = {"ETag": {"schema": {"type": "string"}, "description": "For If-Match."}}
