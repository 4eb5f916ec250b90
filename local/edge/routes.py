"""The routing table of the one origin, and how a path finds its place in it.

The table is data: in the cloud the same rows are Front Door or ingress rules. A path is refused before it is routed
where the edge and what lies behind it might read it differently (dot segments, encoded slashes, control characters).
"""

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

Upstream = Literal["functions", "signaling", "tunnel", "identity"]

KIB: Final = 1024


@dataclass(frozen=True)
class Route:
    """A path (or every path below it, where it ends in a slash) and the process that answers it.

    `idle_s` is how long either side may be silent; `max_body` the request's largest body in bytes.
    """

    path: str
    upstream: Upstream
    websocket: bool = False
    max_body: int = 512 * KIB
    idle_s: float = 60

    def matches(self, path: str) -> bool:
        return path.startswith(self.path) if self.path.endswith("/") else path == self.path


# Exact paths come first, then the longest prefix. What no row takes is a file of the page.
ROUTES: Final = (
    Route("/v1/signal", "signaling", websocket=True, max_body=0, idle_s=90),
    Route("/v1/tunnel/", "tunnel", websocket=True, max_body=512 * KIB, idle_s=90),
    Route("/v1/", "functions"),
    Route("/.well-known/jwks.json", "functions", max_body=0),
    Route("/openapi.json", "functions", max_body=0),
    Route("/docs", "functions", max_body=0),
    Route("/docs/", "functions", max_body=0),
    Route("/config.json", "functions", max_body=0),
    Route("/health", "functions", max_body=0),
    Route("/ready", "functions", max_body=0),
    Route("/identity/", "identity", max_body=64 * KIB),
)

_AMBIGUOUS = re.compile(r"%(?:2[fF]|5[cC]|00)|[^\x21-\x7e]|\\|//")


def find(path: str, routes: tuple[Route, ...] = ROUTES) -> Route | None:
    """The route of a path; None for a file of the page."""
    fitting = [route for route in routes if route.matches(path)]
    return max(fitting, key=lambda route: (not route.path.endswith("/"), len(route.path)), default=None)


def is_unambiguous(target: str) -> bool:
    """True for a request target (path and query as sent) that has one reading only."""
    path, _, query = target.partition("?")
    if not path.startswith("/") or _AMBIGUOUS.search(path) or not query.isascii() or "#" in target:
        return False
    return not any(segment in (".", "..") for segment in unquote(path).split("/"))
