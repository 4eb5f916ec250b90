"""The rules of the WebSocket handshake."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.protocol.http_origin import address_of, origin_of
from media_workers.signaling.handshake import Accepted, Rejected, Strangers, check

pytestmark = pytest.mark.unit

PAGE = frozenset({"https://meet.example.org"})


def judge(
    *, origin: str | None = None, query: dict[str, str] | None = None, protocols: list[str] | None = None
) -> Accepted | Rejected:
    headers = {} if origin is None else {"Origin": origin}
    return check(headers, query or {}, protocols or [], PAGE)


def test_a_client_that_is_no_browser_needs_neither_origin_nor_subprotocol() -> None:
    assert judge() == Accepted(selected=False)


def test_the_token_is_taken_from_beside_the_subprotocol_and_hidden() -> None:
    accepted = judge(protocols=["parley.v1, token.a.b.c"])
    assert accepted == Accepted(selected=True, token="a.b.c")
    assert "a.b.c" not in repr(accepted)
    assert judge(protocols=["parley.v1", "token.a.b.c"]) == accepted


@pytest.mark.parametrize(
    "protocols",
    [["token.a"], ["other"], ["parley.v1, tök"], ["parley.v1,"], ["parley.v1, token.a, token.b"], ["x" * 9_001]],
)
def test_subprotocols_that_do_not_fit_are_refused(protocols: list[str]) -> None:
    verdict = judge(protocols=protocols)
    assert isinstance(verdict, Rejected)
    assert verdict.status == 400
    assert "token.a" not in verdict.text


def test_a_token_in_the_address_is_refused() -> None:
    verdict = judge(query={"Access_Token": "x"})
    assert isinstance(verdict, Rejected)
    assert verdict.status == 400


def test_only_known_origins_may_connect() -> None:
    assert isinstance(judge(origin="https://MEET.example.org"), Accepted)
    for origin in ("https://evil.example", "null", "https://meet.example.org.evil.example", "http://meet.example.org"):
        verdict = judge(origin=origin)
        assert isinstance(verdict, Rejected)
        assert verdict.status == 403
    assert isinstance(check({"Origin": "https://any.example"}, {}, [], frozenset({"*"})), Accepted)


def test_an_origin_is_scheme_and_authority() -> None:
    assert origin_of("https://Meet.example.org:8443/path?x=1") == "https://meet.example.org:8443"


@given(st.lists(st.text(max_size=30), max_size=4))
def test_whatever_the_header_holds_there_is_a_verdict(protocols: list[str]) -> None:
    assert isinstance(judge(protocols=protocols), Accepted | Rejected)


def test_those_who_have_not_joined_are_few_of_one_address_and_bounded_in_all() -> None:
    strangers = Strangers(2, 3)
    assert [strangers.come("a") for _ in range(3)] == [True, True, False]
    assert [strangers.come("b") for _ in range(2)] == [True, False]
    strangers.go("a")
    assert strangers.come("b")


def test_an_address_is_what_the_nearest_proxy_wrote_else_the_peer() -> None:
    assert address_of({"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}, "10.0.0.1") == "198.51.100.7"
    assert address_of({}, "10.0.0.1") == "10.0.0.1"
    assert address_of({}, None) == ""
