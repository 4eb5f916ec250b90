"""The signature of a request to Azure Communication Services, as its SDKs make it (HMAC-SHA256 with the access key).

Signed are method, path and query as sent before percent-encoding, `x-ms-date`, `host` and the body's SHA-256.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

SKEW_S: Final = 300.0
_AUTHORIZATION: Final = re.compile(
    r"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature=([A-Za-z0-9+/]{43}=)"
)


def content_hash(body: bytes) -> str:
    """Base64 of the body's SHA-256."""
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def signature(key: bytes, method: str, path_and_query: str, date: str, host: str, digest: str) -> str:
    """Base64 of the HMAC."""
    text = f"{method.upper()}\n{unquote(path_and_query)}\n{date};{host};{digest}"
    return base64.b64encode(hmac.new(key, text.encode(), hashlib.sha256).digest()).decode()


def fault_of(
    key: bytes, method: str, path_and_query: str, headers: Mapping[str, str], body: bytes, now: float
) -> str | None:
    """Why the request is not signed by this key; None where it is."""
    found = _AUTHORIZATION.fullmatch(headers.get("Authorization", ""))
    if found is None:
        return "there is no signature"
    date, host, digest = (headers.get(name, "") for name in ("x-ms-date", "Host", "x-ms-content-sha256"))
    if not hmac.compare_digest(digest.encode(), content_hash(body).encode()):
        return "the body is not the one that was signed"
    if abs(_seconds(date) - now) > SKEW_S:
        return "the date is too far off"
    expected = signature(key, method, path_and_query, date, host, digest)
    return None if hmac.compare_digest(found[1], expected) else "the signature is not right"


def decode_key(text: str) -> bytes:
    """The bytes of an access key. Raises ValueError where it is no base64 or shorter than 16 bytes."""
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("the access key is not base64") from None
    if len(key) < 16:
        raise ValueError("the access key has fewer than 16 bytes")
    return key


def _seconds(date: str) -> float:
    """Of an HTTP date; far away where it is none."""
    try:
        found = parsedate_to_datetime(date)
        return found.replace(tzinfo=found.tzinfo or UTC).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return float("-inf")
