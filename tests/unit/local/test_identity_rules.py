"""The identity provider's rules without a socket: redirects, codes, refresh families, keys, people."""

import json
import stat
from pathlib import Path

import jwt
import pytest

from local.identity import pages, people
from local.identity.authorize import Issue, Pick, Refuse, SendError, answer_address, decide
from local.identity.clients import Clients
from local.identity.grants import CODE_SECONDS, MAX_LIVE, REFRESH_SECONDS, Grant, Grants, InvalidGrant, challenge_of
from local.identity.keys import KeySet
from local.identity.tokens import TokenMaker

pytestmark = pytest.mark.unit

TENANT = "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60"
CLIENTS = Clients("parley-web", "s3cret", "http://127.0.0.1:8080", ("https://meet.example.org",))
BACK = "http://127.0.0.1:8080/"
VERIFIER = "v" * 43
REQUEST = {
    "client_id": "parley-web",
    "redirect_uri": BACK,
    "response_type": "code",
    "scope": "openid profile",
    "code_challenge": challenge_of(VERIFIER),
    "code_challenge_method": "S256",
    "state": "xyz",
    "login_hint": "blair",
}
GRANT = Grant("parley-web", BACK, challenge_of(VERIFIER), people.BUILT_IN[1], "openid", "n")


@pytest.mark.parametrize(
    "uri",
    [
        BACK,
        "http://localhost:8080/m/1?x=1",
        "http://[::1]:8080/",
        "https://meet.example.org/back",
        "https://meet.example.org:443/",
    ],
)
def test_a_registered_origin_may_be_returned_to(uri: str) -> None:
    assert CLIENTS.allows_redirect(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "/m/1",
        "http://127.0.0.1:8081/",
        "http://127.0.0.1:8080.evil.example/",
        "http://127.0.0.1:8080@evil.example/",
        "http://user@127.0.0.1:8080/",
        "http://127.0.0.1:8080/#x",
        "http://127.0.0.1:8080/\\evil",
        "http://127.0.0.1:99999/",
        "http://[::1:8080/",
        "http://meet.example.org/back",
        "https://meet.example.org.evil.example/",
        "javascript:alert(1)",
        "//127.0.0.1:8080/",
        "http://127.0.0.1:8080/\r\nx: y",
        BACK + "x" * 3000,
    ],
)
def test_a_foreign_or_malformed_address_is_refused(uri: str) -> None:
    assert not CLIENTS.allows_redirect(uri)
    assert isinstance(decide(REQUEST | {"redirect_uri": uri}, CLIENTS), Refuse)


def test_an_unknown_client_is_refused_without_a_redirect() -> None:
    assert isinstance(decide(REQUEST | {"client_id": "other"}, CLIENTS), Refuse)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_mode": "form_post"}, "invalid_request"),
        ({"scope": "profile"}, "invalid_scope"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
        ({"code_challenge": "!" * 43}, "invalid_request"),
        ({"state": "x" * 2049}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"prompt": "none", "login_hint": ""}, "login_required"),
        ({"prompt": "none login"}, "invalid_request"),
    ],
)
def test_a_faulty_request_is_answered_at_the_clients_address(change: dict[str, str], error: str) -> None:
    outcome = decide(REQUEST | change, CLIENTS)
    assert isinstance(outcome, SendError)
    assert outcome.error == error
    assert outcome.redirect_uri == BACK


def test_a_login_hint_skips_the_picker_and_select_account_shows_it() -> None:
    assert isinstance(decide(REQUEST, CLIENTS), Issue)
    assert isinstance(decide(REQUEST | {"prompt": "none"}, CLIENTS), Issue)
    assert isinstance(decide(REQUEST | {"prompt": "select_account"}, CLIENTS), Pick)
    assert isinstance(decide(REQUEST | {"login_hint": ""}, CLIENTS), Pick)


def test_a_login_hint_that_is_no_address_shows_the_picker_with_the_reason() -> None:
    outcome = decide(REQUEST | {"login_hint": "<nobody>"}, CLIENTS)
    assert isinstance(outcome, Pick)
    assert outcome.problem


def test_the_answer_keeps_the_clients_query_and_state() -> None:
    assert answer_address(BACK + "?a=1", REQUEST, {"code": "c&d"}) == BACK + "?a=1&code=c%26d&state=xyz"
    assert answer_address(BACK, REQUEST | {"response_mode": "fragment"}, {"code": "c"}) == BACK + "#code=c&state=xyz"


def test_a_code_is_good_once_and_its_second_use_revokes_what_it_gave() -> None:
    grants = Grants()
    code = grants.issue_code(GRANT, 0)
    grant, refresh = grants.redeem_code(code, "parley-web", BACK, VERIFIER, 1)
    assert grant == GRANT
    with pytest.raises(InvalidGrant):
        grants.redeem_code(code, "parley-web", BACK, VERIFIER, 1)
    with pytest.raises(InvalidGrant):
        grants.redeem_refresh(refresh, "parley-web", 1)


@pytest.mark.parametrize(
    ("client", "back", "verifier", "now"),
    [
        ("parley-cli", BACK, VERIFIER, 1.0),
        ("parley-web", BACK + "x", VERIFIER, 1.0),
        ("parley-web", BACK, "w" * 43, 1.0),
        ("parley-web", BACK, VERIFIER, CODE_SECONDS),
    ],
)
def test_a_code_of_another_client_address_verifier_or_time_is_refused(
    client: str, back: str, verifier: str, now: float
) -> None:
    grants = Grants()
    code = grants.issue_code(GRANT, 0)
    with pytest.raises(InvalidGrant):
        grants.redeem_code(code, client, back, verifier, now)


def test_the_reuse_of_a_refresh_token_revokes_the_family() -> None:
    grants = Grants()
    _, first = grants.redeem_code(grants.issue_code(GRANT, 0), "parley-web", BACK, VERIFIER, 1)
    _, second = grants.redeem_refresh(first, "parley-web", 2)
    with pytest.raises(InvalidGrant):
        grants.redeem_refresh(first, "parley-web", 3)
    with pytest.raises(InvalidGrant):
        grants.redeem_refresh(second, "parley-web", 3)


def test_a_refresh_token_expires_and_belongs_to_one_client() -> None:
    grants = Grants()
    _, token = grants.redeem_code(grants.issue_code(GRANT, 0), "parley-web", BACK, VERIFIER, 1)
    with pytest.raises(InvalidGrant):
        grants.redeem_refresh(token, "parley-cli", 2)
    with pytest.raises(InvalidGrant):
        grants.redeem_refresh(token, "parley-web", 1 + REFRESH_SECONDS)


def test_no_more_than_the_cap_of_codes_is_kept() -> None:
    grants = Grants()
    oldest = grants.issue_code(GRANT, 0)
    for _ in range(MAX_LIVE):
        newest = grants.issue_code(GRANT, 0)
    with pytest.raises(InvalidGrant):
        grants.redeem_code(oldest, "parley-web", BACK, VERIFIER, 1)
    assert grants.redeem_code(newest, "parley-web", BACK, VERIFIER, 1)[0] == GRANT


def test_keys_rotate_by_time_and_a_retired_key_stays_until_its_tokens_are_gone(tmp_path: Path) -> None:
    keys = KeySet(tmp_path / "keys.json", rotate_every_s=100, keep_s=50)
    first = keys.signing(0).kid
    assert keys.signing(99).kid == first
    upcoming = {key["kid"] for key in keys.published(99)["keys"]} - {first}
    second = keys.signing(100).kid
    assert upcoming == {second}, "the next key is published before its first use"
    assert first in {key["kid"] for key in keys.published(150)["keys"]}
    assert first not in {key["kid"] for key in keys.published(151)["keys"]}


def test_keys_outlive_a_restart_in_a_file_for_the_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "identity" / "keys.json"
    before = KeySet(file, rotate_every_s=100, keep_s=50).published(0)
    assert KeySet(file, rotate_every_s=100, keep_s=50).published(1) == before
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "private" not in json.dumps(before)


def test_tokens_carry_the_claims_of_entra(tmp_path: Path) -> None:
    keys = KeySet(tmp_path / "keys.json", rotate_every_s=100, keep_s=50)
    maker = TokenMaker(keys, f"http://127.0.0.1:8080/identity/{TENANT}/v2.0", TENANT, "parley-web")
    claims = jwt.decode(maker.id_token(GRANT, 10), options={"verify_signature": False})
    assert claims["oid"] == GRANT.person.object_id(TENANT)
    assert claims["sub"] != claims["oid"]
    assert {claims["tid"], claims["nonce"], claims["ver"], claims["aud"]} == {TENANT, "n", "2.0", "parley-web"}
    assert claims["email"] == claims["preferred_username"] == "blair@example.org"
    assert claims["roles"] == []
    access = jwt.decode(maker.access_token(GRANT, 10), options={"verify_signature": False})
    assert (access["azp"], access["scp"], "nonce" in access) == ("parley-web", "Meetings.ReadWrite", False)


def test_one_built_in_person_is_an_admin_and_ids_are_stable() -> None:
    assert [person.email for person in people.BUILT_IN if people.ADMIN_ROLE in person.roles] == ["alex@example.org"]
    assert people.find("ALEX@example.org ") == people.find("alex") == people.BUILT_IN[0]
    other = people.find("kim.lee@example.net")
    assert other is not None
    assert (other.name, other.roles) == ("Kim Lee", ())
    assert other.object_id(TENANT) == people.Person("Else", "kim.lee@example.net").object_id(TENANT)


@pytest.mark.parametrize("hint", ["", "nobody", "a@b", "a b@example.org", "x" * 300 + "@example.org"])
def test_what_is_no_address_names_nobody(hint: str) -> None:
    assert people.find(hint) is None


def test_a_name_with_control_characters_or_without_end_names_nobody() -> None:
    assert people.find("a@example.org", "a\x00b") is None
    assert people.find("a@example.org", "x" * 81) is None


def test_the_picker_escapes_what_came_with_the_request() -> None:
    html = pages.picker("/a", "/s", {"state": '"><script>', "login_name": "<b>"}, problem="<i>")
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<i>" not in html
