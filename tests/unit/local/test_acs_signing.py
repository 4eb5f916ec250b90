"""Signatures of requests to the local Communication Services server."""

import base64
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.acs.signing import SKEW_S, content_hash, decode_key, fault_of, signature

pytestmark = pytest.mark.unit
KEY = b"sixteen bytes or"
NOW = 1_780_000_000.0
PATH = "/rooms?api-version=2025-03-13"


def signed(body: bytes = b"{}", *, path: str = PATH, at: float = NOW, key: bytes = KEY) -> dict[str, str]:
    date, host, digest = formatdate(at, usegmt=True), "127.0.0.1:8000", content_hash(body)
    text = signature(key, "POST", path, date, host, digest)
    authorization = f"HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={text}"
    return {"Authorization": authorization, "x-ms-date": date, "Host": host, "x-ms-content-sha256": digest}


def judged(headers: dict[str, str], body: bytes = b"{}", path: str = PATH) -> str | None:
    return fault_of(KEY, "POST", path, headers, body, NOW)


def test_what_the_key_signed_is_taken() -> None:
    assert judged(signed()) is None
    assert judged(signed(b""), b"") is None


def test_an_identity_in_the_path_is_signed_as_it_reads() -> None:
    sent, read = "/identities/8%3Aacs%3Aone/:issueAccessToken", "/identities/8:acs:one/:issueAccessToken"
    assert judged(signed(path=read), path=sent) is None


@pytest.mark.parametrize(
    ("headers", "body", "path"),
    [
        ({}, b"{}", PATH),
        (signed(key=b"another key, long"), b"{}", PATH),
        (signed(), b"[]", PATH),
        (signed(), b"{}", "/identities?api-version=2025-03-13"),
        (signed() | {"Host": "elsewhere"}, b"{}", PATH),
        (signed() | {"x-ms-date": formatdate(NOW + 1, usegmt=True)}, b"{}", PATH),
        (signed(at=NOW - SKEW_S - 1), b"{}", PATH),
        (signed(at=NOW + SKEW_S + 1), b"{}", PATH),
        (signed() | {"x-ms-date": "today"}, b"{}", PATH),
        (signed() | {"Authorization": "Bearer token"}, b"{}", PATH),
    ],
)
def test_anything_else_is_not(headers: dict[str, str], body: bytes, path: str) -> None:
    assert judged(headers, body, path) is not None


@given(st.text(), st.text(), st.text(), st.text(), st.binary(), st.text())
def test_no_header_brings_the_check_down(
    authorization: str, date: str, host: str, digest: str, body: bytes, path: str
) -> None:
    headers = {"Authorization": authorization, "x-ms-date": date, "Host": host, "x-ms-content-sha256": digest}
    assert judged(headers, body, path) is not None
    assert judged(signed(body) | {"x-ms-date": date, "Host": host}, body, path) is not None


def test_a_key_is_base64_of_sixteen_bytes_at_least() -> None:
    assert decode_key(base64.b64encode(KEY).decode()) == KEY
    for text in ("", "not base64!", base64.b64encode(KEY[:15]).decode()):
        with pytest.raises(ValueError, match="access key"):
            decode_key(text)
