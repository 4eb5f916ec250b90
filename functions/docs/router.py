"""The vendored Swagger UI (no CDN) and the page of problem types."""

import html
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Final

from fastapi import APIRouter, Response
from fastapi import Path as PathParameter
from fastapi.responses import HTMLResponse

from conference.domain.errors import Refused
from functions.problems import titles

STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "initializer.js": "text/javascript; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
}
_CSP: Final = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'"
)
_SWAGGER: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley API</title>
<link rel="stylesheet" href="/docs/static/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/static/swagger-ui-bundle.js"></script>
<script src="/docs/static/initializer.js"></script>
</html>
"""
_PROBLEMS: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Parley problem types</title>
<link rel="stylesheet" href="/docs/static/page.css">
<main>
<h1>Problem types</h1>
<p>An error of the API is a problem document (RFC 9457). The last segment of its <code>type</code> is one of these.</p>
<table>
<thead><tr><th>type</th><th>status</th><th>meaning</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
</main>
</html>
"""
router = APIRouter(include_in_schema=False)


def _page(content: str) -> HTMLResponse:
    return HTMLResponse(content, headers={"Content-Security-Policy": _CSP, "Referrer-Policy": "no-referrer"})


@router.get("/docs")
async def docs() -> HTMLResponse:
    return _page(_SWAGGER)


@router.get("/docs/static/{name}")
async def static(name: str) -> Response:
    media_type = _TYPES.get(name)
    if media_type is None:
        raise Refused("not-found")
    return Response(_content(name), headers={"Content-Type": media_type, "Cache-Control": "public, max-age=86400"})


@lru_cache(maxsize=len(_TYPES))
def _content(name: str) -> bytes:
    return (STATIC / name).read_bytes()


@router.get("/docs/problems")
async def problem_types() -> HTMLResponse:
    return _problems(titles())


@router.get("/docs/problems/{reason}")
async def problem_type(reason: Annotated[str, PathParameter(max_length=64)]) -> HTMLResponse:
    known = titles().get(reason)
    if known is None:
        raise Refused("not-found")
    return _problems({reason: known})


def _problems(kinds: dict[str, tuple[int, str]]) -> HTMLResponse:
    rows = "\n".join(
        f"<tr><td><code>{html.escape(reason)}</code></td><td>{status}</td><td>{html.escape(title)}</td></tr>"
        for reason, (status, title) in sorted(kinds.items())
    )
    return _page(_PROBLEMS.format(rows=rows))
