"""The edge's own refusals as problem documents (RFC 9457): what happened and what to do, without any detail inside."""

import json
from typing import Final

from aiohttp import web

_TEXTS: Final = {
    400: ("bad-request", "The request could not be understood."),
    404: ("not-found", "There is no such page."),
    405: ("method-not-allowed", "The page's files can only be read."),
    413: ("body-too-large", "The request is too large."),
    502: ("upstream-unavailable", "A part of the system is not running. Try again in a moment."),
    504: ("upstream-timeout", "A part of the system did not answer in time. Try again in a moment."),
}


class EdgeProblem(Exception):
    """The edge answers by itself, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


def problem_response(status: int) -> web.Response:
    """The answer to the client. A request whose body was not read ends its connection."""
    slug, title = _TEXTS[status]
    document = {"type": f"/problems/{slug}", "title": title, "status": status}
    answer = web.Response(
        status=status,
        body=json.dumps(document).encode(),
        content_type="application/problem+json",
        headers={"Server": "Parley", "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"},
    )
    if status in (502, 504):
        answer.headers["Retry-After"] = "1"
    if status in (400, 413):
        answer.force_close()
    return answer
