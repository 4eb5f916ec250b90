"""Where an HTTP request comes from: the page that made it, and the address that it is counted for."""

from collections.abc import Mapping
from urllib.parse import urlsplit


def origin_allowed(origin: str | None, allowed: frozenset[str]) -> bool:
    """Browsers always send Origin; other clients have none and are judged by their token alone."""
    return origin is None or "*" in allowed or origin.lower() in allowed


def origin_of(url: str) -> str:
    """The origin of an address, as browsers write it."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()


def address_of(headers: Mapping[str, str], peer: str | None) -> str:
    """Whom a connection is counted for: what the nearest proxy wrote last, else the peer. A client without a proxy in
    front can write it itself; the limit of the whole process holds all the same."""
    return headers.get("X-Forwarded-For", "").rpartition(",")[2].strip()[:64] or peer or ""


def page_origins(public_url: str, allowed: str) -> frozenset[str]:
    """The origins whose pages may connect: our own, and those of a list with commas."""
    listed = (item.strip().lower().rstrip("/") for item in allowed.split(","))
    return frozenset((origin_of(public_url), *filter(None, listed)))
