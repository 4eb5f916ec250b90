"""Callers' tokens against real issuers on loopback: one that can misbehave, and the local provider."""

import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from conference.adapters.http_json import HttpJson
from conference.adapters.oidc import OidcCallerVerifier
from conference.domain.errors import Refused, Unavailable
from conference.domain.policies import user_id_of
from conference.settings import Settings
from local.identity.client import IdentityClient
from local.identity.wiring import build
from tests.support.forge import PrivateKey, ec_key, forge, jwk_of, rsa_key
from tests.support.token_kinds import NOW, NOW_S, TENANT, USER

pytestmark = pytest.mark.interop

_RSA, _SECOND_RSA, _WEAK_RSA, _EC = rsa_key(), rsa_key(), rsa_key(1024), ec_key()
FLOOR = timedelta(seconds=10)


class Issuer:
    """An issuer whose documents a test may change. `asked` counts reads of the keys."""

    def __init__(self) -> None:
        self.keys: dict[str, PrivateKey] = {"rsa": _RSA, "ec": _EC}
        self.extra: dict[str, str] = {}  # more members of every published key
        self.named = ""  # what the discovery document calls itself; empty: the truth
        self.down = False
        self.asked = 0
        self.url = ""

    def application(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [web.get("/t/v2.0/.well-known/openid-configuration", self._discovery), web.get("/t/keys", self._keys)]
        )
        return app

    def token(self, kid: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A good token at NOW, with these members changed; None leaves a claim out."""
        key = self.keys[kid]
        algorithm = "ES256" if key is _EC else "RS256"
        body = {
            "iss": self.url,
            "aud": "parley-web",
            "sub": "pairwise",
            "tid": TENANT,
            "oid": USER,
            "name": "Test User",
            "preferred_username": "user@parley.test",
            "uti": "token-1",
            "nbf": NOW_S,
            "exp": NOW_S + 3600,
        } | claims
        kept = {name: value for name, value in body.items() if value is not None}
        return forge({"typ": "JWT", "alg": algorithm, "kid": kid} | (header or {}), kept, key)

    def verifier(self, **options: Any) -> OidcCallerVerifier:
        return OidcCallerVerifier(issuer=self.url, audience="parley-web", fetch_json=HttpJson(), floor=FLOOR, **options)

    async def _discovery(self, request: web.Request) -> web.Response:
        document = {"issuer": self.named or self.url, "jwks_uri": f"{request.url.origin()}/t/keys"}
        return web.json_response(document, status=503 if self.down else 200)

    async def _keys(self, _: web.Request) -> web.Response:
        self.asked += 1
        keys = [jwk_of(key, kid) | self.extra for kid, key in self.keys.items()]
        return web.json_response({"keys": keys}, status=503 if self.down else 200)


@pytest.fixture
async def issuer() -> AsyncIterator[Issuer]:
    issuer = Issuer()
    async with TestServer(issuer.application(), host="127.0.0.1") as server:
        issuer.url = str(server.make_url("/t/v2.0"))
        yield issuer


async def _cause(verifier: OidcCallerVerifier, token: str, now: datetime = NOW) -> str:
    with pytest.raises(Refused) as refused:
        await verifier.verify(token, now)
    return str(refused.value.extra["cause"])


@pytest.mark.parametrize("kid", ["rsa", "ec"])
async def test_a_caller_is_who_the_token_says(issuer: Issuer, kid: str) -> None:
    caller = await issuer.verifier().verify(issuer.token(kid), NOW)
    assert caller.user_id == user_id_of(TENANT, USER)
    assert caller.tenant_id == TENANT
    assert (caller.display_name, caller.email, caller.token_id) == ("Test User", "user@parley.test", "token-1")
    assert not caller.is_admin
    assert USER not in repr(caller)
    assert "Test User" not in repr(caller)


async def test_the_app_role_makes_an_admin(issuer: Issuer) -> None:
    assert (await issuer.verifier().verify(issuer.token("rsa", roles=["Parley.Admin"]), NOW)).is_admin
    assert not (await issuer.verifier().verify(issuer.token("rsa", roles=["parley.admin"]), NOW)).is_admin


async def test_one_person_has_one_id_in_every_client_and_without_oid_the_subject_counts(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    first = await verifier.verify(issuer.token("rsa", sub="pairwise one"), NOW)
    second = await verifier.verify(issuer.token("rsa", sub="pairwise two"), NOW)
    assert first.user_id == second.user_id
    plain = await verifier.verify(issuer.token("rsa", oid=None, sub="subject"), NOW)
    assert plain.user_id == user_id_of(TENANT, "subject")


async def test_an_issuer_without_tenants_is_one_tenant(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    one = await verifier.verify(issuer.token("rsa", tid=None), NOW)
    other = await verifier.verify(issuer.token("rsa", tid=None, oid="other"), NOW)
    assert one.tenant_id == other.tenant_id != ""


@pytest.mark.parametrize("tid", ["00000000-0000-4000-8000-00000000ffff", None])
async def test_a_tenant_that_is_not_listed_is_refused(issuer: Issuer, tid: str | None) -> None:
    verifier = issuer.verifier(tenants=frozenset({TENANT}))
    assert (await verifier.verify(issuer.token("rsa"), NOW)).tenant_id == TENANT
    assert await _cause(verifier, issuer.token("rsa", tid=tid)) == "tenant"


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        ({"aud": "other"}, "aud"),
        ({"aud": ["other"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "https://issuer.test"}, "iss"),
        ({"iss": None}, "iss"),
        ({"exp": None}, "claims"),
        ({"sub": None}, "claims"),
        ({"name": "a\0b"}, "claims"),
        ({"exp": NOW_S - 30}, "expired"),
        ({"nbf": NOW_S + 31}, "nbf"),
    ],
)
async def test_what_is_not_meant_for_us_now_is_refused(issuer: Issuer, claims: dict[str, Any], cause: str) -> None:
    assert await _cause(issuer.verifier(), issuer.token("rsa", **claims)) == cause


async def test_clocks_may_differ_by_the_skew(issuer: Issuer) -> None:
    verifier = issuer.verifier(skew=timedelta(seconds=30))
    await verifier.verify(issuer.token("rsa", exp=NOW_S - 29), NOW)
    await verifier.verify(issuer.token("rsa", nbf=NOW_S + 30), NOW)
    await verifier.verify(issuer.token("rsa", nbf=None, aud=["other", "parley-web"]), NOW)


async def test_a_key_serves_one_algorithm(issuer: Issuer) -> None:
    """An RSA key's token that claims ES256, and a key that its issuer keeps for another algorithm."""
    assert await _cause(issuer.verifier(), issuer.token("rsa", header={"alg": "ES256"})) == "alg"
    issuer.extra = {"alg": "PS256"}
    with pytest.raises(Unavailable):  # no key of use is left
        await issuer.verifier().verify(issuer.token("rsa"), NOW)


async def test_a_weak_key_is_no_key(issuer: Issuer) -> None:
    issuer.keys["weak"] = _WEAK_RSA
    assert await _cause(issuer.verifier(), issuer.token("weak")) == "unknown-kid"


async def test_a_new_key_of_the_issuer_is_found_by_its_kid(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    await verifier.verify(issuer.token("rsa"), NOW)
    issuer.keys = {"next": _SECOND_RSA}
    assert await _cause(verifier, issuer.token("next"), NOW) == "unknown-kid"  # within the floor interval
    await verifier.verify(issuer.token("next"), NOW + FLOOR)
    assert issuer.asked == 2


async def test_while_the_issuer_is_down_its_old_keys_hold(issuer: Issuer) -> None:
    verifier = issuer.verifier()
    await verifier.verify(issuer.token("rsa"), NOW)
    issuer.down = True
    await verifier.verify(issuer.token("rsa"), NOW + timedelta(minutes=50))
    assert await _cause(verifier, issuer.token("rsa", header={"kid": "next"}), NOW + FLOOR) == "unknown-kid"


async def test_an_issuer_that_was_never_reached_is_unavailable_and_not_a_wrong_token(issuer: Issuer) -> None:
    issuer.down = True
    with pytest.raises(Unavailable):
        await issuer.verifier().verify(issuer.token("rsa"), NOW)


async def test_a_discovery_document_of_another_issuer_is_not_taken(issuer: Issuer) -> None:
    issuer.named = "https://issuer.test"
    with pytest.raises(Unavailable):
        await issuer.verifier().verify(issuer.token("rsa"), NOW)


# --- the local provider ---


class Provider:
    """The local provider on a free port, and what a process of ours knows of it."""

    def __init__(self, port: int, tenant: str, http: aiohttp.ClientSession) -> None:
        self.issuer = f"http://127.0.0.1:{port}/identity/{tenant}/v2.0"
        self.rotate_url = f"http://127.0.0.1:{port}/identity/{tenant}/admin/rotate"
        self.http = http
        self.client = IdentityClient(http, self.issuer, f"http://127.0.0.1:{port}/")

    async def rotate(self) -> None:
        """Twice: the next key is published in advance, so only the one after it is new to a cache."""
        headers = {"Authorization": aiohttp.encode_basic_auth("parley-cli", "secret")}
        for _ in range(2):
            async with self.http.post(self.rotate_url, headers=headers) as response:
                assert response.status == 200


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Provider]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(
        data_dir=tmp_path, public_url=f"http://127.0.0.1:{port}", identity_client_secret=SecretStr("secret")
    )
    runner = web.AppRunner(build(settings).application())
    await runner.setup()
    await web.SockSite(runner, listener).start()
    async with aiohttp.ClientSession() as http:
        yield Provider(port, settings.identity_tenant, http)
    await runner.cleanup()


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


async def test_both_tokens_of_the_local_provider_name_the_same_caller(provider: Provider) -> None:
    tokens = await provider.client.sign_in("alex")
    verifier = OidcCallerVerifier(issuer=provider.issuer, audience="parley-web", fetch_json=HttpJson())
    by_id, by_access = [await verifier.verify(token, _now()) for token in (tokens.id_token, tokens.access_token)]
    assert by_id.user_id == by_access.user_id
    assert by_access.is_admin
    assert by_access.display_name == "Alex Example"


async def test_the_local_providers_rotation_is_followed_and_its_older_tokens_still_verify(provider: Provider) -> None:
    verifier = OidcCallerVerifier(issuer=provider.issuer, audience="parley-web", fetch_json=HttpJson(), floor=FLOOR)
    before = await provider.client.sign_in("blair")
    await verifier.verify(before.access_token, _now())
    await provider.rotate()
    after = await provider.client.sign_in("blair")
    later = _now() + FLOOR
    new, old = [await verifier.verify(tokens.access_token, later) for tokens in (after, before)]
    assert new.token_id != old.token_id
    assert new.user_id == old.user_id


async def test_a_join_token_is_no_way_in(provider: Provider) -> None:
    verifier = OidcCallerVerifier(issuer=provider.issuer, audience="parley-web", fetch_json=HttpJson())
    token = forge({"typ": "join+jwt", "alg": "RS256", "kid": "x"}, {"iss": provider.issuer}, _RSA)
    assert await _cause(verifier, token) == "typ"
