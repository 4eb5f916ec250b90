"""Callers: who is let in, what is remembered of them, and how fast they may call."""

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from conference.adapters.memory.clock import ManualClock
from conference.adapters.oidc import OidcCallerVerifier
from conference.domain.errors import Unavailable
from conference.domain.records import AuditAction
from tests.support.forge import ec_key, forge, jwk_of

pytestmark = pytest.mark.unit
PROFILE = "/v1/users/me/profile"
ISSUER = "https://id.example.com/tenant/v2.0"


def reason(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["type"].rpartition("/")[2]


async def test_no_token_and_a_bad_token_are_told_apart(stage: Any) -> None:
    none = await stage.client.get(PROFILE)
    assert reason(none) == (401, "unauthenticated")
    assert none.headers["WWW-Authenticate"] == 'Bearer realm="parley"'
    bad = await stage.person("expired").get(PROFILE)
    assert reason(bad) == (401, "token-refused")
    assert bad.headers["WWW-Authenticate"] == 'Bearer realm="parley", error="invalid_token"'
    assert "cause" not in bad.json()


@pytest.mark.parametrize(
    "header",
    [
        b"Bearer",
        b"Bearer ",
        b"Basic YWRhOmFkYQ==",
        b"ada",
        "Bearer ädä".encode(),
        b"Bearer \xff\xfe",
        b"Bearer a,b",
        b"Bearer " + b"x" * 20_000,
    ],
)
async def test_an_abused_authorization_header_is_a_401(stage: Any, header: bytes) -> None:
    response = await stage.client.get(PROFILE, headers=[(b"Authorization", header)])
    assert response.status_code == 401


async def test_a_login_is_audited_once_a_token(stage: Any, ada: Any) -> None:
    await ada.get(PROFILE)
    await ada.get(PROFILE)
    await stage.person("ada-again").get(PROFILE)
    logins = await stage.audited(AuditAction.LOGIN)
    assert [(event.user_id, event.outcome) for event in logins] == [(ada.id, "ok")] * 2
    assert not any("example.com" in str(vars_of(event)) for event in logins)


def vars_of(event: Any) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__slots__}


async def test_a_refused_token_is_audited_as_a_failed_login_with_its_cause(stage: Any) -> None:
    await stage.person("expired").get(PROFILE)
    (login,) = await stage.audited(AuditAction.LOGIN)
    (refusal,) = await stage.audited(AuditAction.TOKEN_REFUSED)
    assert login.outcome == refusal.outcome == "token-refused"
    assert refusal.detail == {"token": "caller", "cause": "expired"}


async def test_a_flood_of_bad_tokens_does_not_fill_the_audit_log(stage: Any) -> None:
    for _ in range(80):
        await stage.person("expired").get(PROFILE)
    assert len(await stage.services.audit.find(action=AuditAction.TOKEN_REFUSED, limit=1_000)) == 60


async def test_a_caller_who_calls_too_often_waits_and_nobody_else_does(stage: Any, ada: Any, ben: Any) -> None:
    stage.change(config=replace(stage.services.config, requests_per_minute=3))
    for _ in range(3):
        assert (await ada.get(PROFILE)).status_code == 200
    fourth = await ada.get(PROFILE)
    assert reason(fourth) == (429, "rate-limited")
    assert fourth.headers["Retry-After"] == "20"
    assert (await ben.get(PROFILE)).status_code == 200
    stage.clock.advance(20)
    assert (await ada.get(PROFILE)).status_code == 200


async def test_keys_that_cannot_be_read_are_a_503_and_not_a_refusal(stage: Any, ada: Any) -> None:
    class NoKeys:
        async def verify(self, token: str, now: datetime) -> Any:
            raise Unavailable("the issuer", after_s=7)

    stage.change(callers=NoKeys())
    response = await ada.get(PROFILE)
    assert reason(response) == (503, "unavailable")
    assert response.headers["Retry-After"] == "7"
    assert "issuer" not in response.text
    assert await stage.audited(AuditAction.TOKEN_REFUSED) == []


@pytest.mark.parametrize(
    ("issued_at", "expires_at", "status"),
    [(0, 600, 200), (20, 600, 200), (45, 600, 401), (-600, -20, 200), (-600, -45, 401)],
)
async def test_a_clock_that_is_half_a_minute_off_is_tolerated_and_no_more(
    stage: Any, clock: ManualClock, issued_at: int, expires_at: int, status: int
) -> None:
    key = ec_key()

    async def fetch_json(url: str) -> object:
        discovery = {"issuer": ISSUER, "jwks_uri": "https://id.example.com/keys"}
        return {"keys": [{**jwk_of(key, "k1"), "alg": "ES256"}]} if url.endswith("/keys") else discovery

    stage.change(callers=OidcCallerVerifier(issuer=ISSUER, audience="parley-web", fetch_json=fetch_json))
    now = int(clock.now().timestamp())
    claims = {
        "iss": ISSUER,
        "aud": "parley-web",
        "tid": "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60",
        "oid": "7d1f2a52-5d0e-4c1b-9a55-7c3f0f0a9d11",
        "sub": "subject",
        "name": "Ada",
        "iat": now + issued_at,
        "nbf": now + issued_at,
        "exp": now + expires_at,
    }
    token = forge({"alg": "ES256", "kid": "k1", "typ": "JWT"}, claims, key)
    response = await stage.client.get(PROFILE, headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == status, response.text
