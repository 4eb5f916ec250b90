"""The master key's signature of a request: HMAC-SHA256 over verb, resource type, resource and date."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from hashlib import sha256
from typing import Final
from urllib.parse import parse_qsl, unquote

from local.cosmos.errors import CosmosError

SKEW_S: Final = 900.0  # a date may be off by 15 minutes


def check(key: str, verb: str, path: str, headers: Mapping[str, str], now: float) -> None:
    """Raises CosmosError 401 for a wrong or missing signature, 403 for a date that is too far off."""
    parts = [unquote(part) for part in path.strip("/").split("/") if part]
    is_feed = len(parts) % 2 == 1  # it ends in a kind, and its owner is signed
    kind = parts[-1] if is_feed else (parts[-2] if parts else "")
    resource = "/".join(parts[:-1] if is_feed else parts)
    date = headers.get("x-ms-date", "")
    text = f"{verb.lower()}\n{kind}\n{resource}\n{date.lower()}\n{headers.get('date', '').lower()}\n"
    wanted = hmac.new(base64.b64decode(key), text.encode(errors="backslashreplace"), sha256).digest()
    given = dict(parse_qsl(unquote(headers.get("authorization", "")).replace("+", "%2B")))
    if given.get("type") != "master" or given.get("ver") != "1.0" or not hmac.compare_digest(_bytes(given), wanted):
        raise CosmosError(401, "The input authorization token can't serve the request: its signature is not right.")
    if abs(_seconds(date) - now) > SKEW_S:
        raise CosmosError(403, "The authorization token is not valid at the current time.")


def _bytes(given: Mapping[str, str]) -> bytes:
    try:
        return base64.b64decode(given.get("sig", ""), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _seconds(date: str) -> float:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return float("-inf")
