"""Which headers pass the edge, which are the edge's own, and the security headers of the page.

Hop-by-hop headers end here (RFC 9110 7.6.1). What tells the processes behind who called (`X-Forwarded-*`, and the names
by which Azure passes on a signed-in principal) is never taken from the client.
"""

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from multidict import CIMultiDict, CIMultiDictProxy

HOP_BY_HOP: Final = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "http2-settings",
    }
)
_NEVER_FROM_CLIENTS: Final = ("x-forwarded-", "x-ms-client-principal", "x-azure-", "x-arr-")
_REPLACED: Final = frozenset({"host", "expect", "forwarded", "x-real-ip", "x-original-url", "x-rewrite-url"})


def for_upstream(
    headers: CIMultiDictProxy[str], *, client: str, scheme: str, websocket: bool = False
) -> CIMultiDict[str]:
    """The request's headers as the process behind gets them. `client` is the caller's address, from its socket."""
    listed = _listed_in_connection(headers.getall("Connection", []))
    kept = CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in HOP_BY_HOP | _REPLACED | listed and not name.lower().startswith(_NEVER_FROM_CLIENTS)
    )
    kept["X-Forwarded-For"] = client
    kept["X-Forwarded-Proto"] = scheme
    kept["X-Forwarded-Host"] = headers.get("Host", "")
    if websocket:
        kept["Connection"] = "Upgrade"
        kept["Upgrade"] = "websocket"
    return kept


def for_client(headers: CIMultiDictProxy[str] | CIMultiDict[str]) -> CIMultiDict[str]:
    """The answer's headers as the client gets them."""
    listed = _listed_in_connection(headers.getall("Connection", []))
    kept = CIMultiDict(
        (name, value)
        for name, value in headers.items()
        if name.lower() not in HOP_BY_HOP | listed and name.lower() != "server"
    )
    kept["Server"] = "Parley"
    kept.setdefault("X-Content-Type-Options", "nosniff")
    return kept


def _listed_in_connection(values: Iterable[str]) -> frozenset[str]:
    return frozenset(name.strip().lower() for value in values for name in value.split(","))


def of_page(public_url: str, others: Iterable[str]) -> dict[str, str]:
    """Security headers of the page's files. `others` are addresses that the page may call besides its own origin."""
    origins = sorted({_origin(url) for url in (public_url, *others) if url.startswith(("http", "ws"))})
    sockets = [origin.replace("http", "ws", 1) for origin in origins if origin.startswith("http")]
    connect = " ".join(["'self'", *origins, *sockets])
    policy = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self'",
        "worker-src 'self'",
        "manifest-src 'self'",
        f"connect-src {connect}",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
    return {
        "Content-Security-Policy": "; ".join(policy),
        "Permissions-Policy": (
            "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
            "speaker-selection=(self), autoplay=(self), geolocation=(), payment=(), usb=()"
        ),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
