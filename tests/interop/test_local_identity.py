"""The identity provider over HTTP: whole flows as a browser, a program and a verifier of tokens see them."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt
import pytest
from aiohttp import web
from pydantic import SecretStr

from conference.settings import Settings
from local.identity.client import IdentityClient, SignInFailed
from local.identity.grants import challenge_of
from local.identity.wiring import build

pytestmark = pytest.mark.interop

SECRET = "only-for-this-test"
VERIFIER = "v" * 64


class Running:
    """A provider on a free port: `localhost` is its public name, `127.0.0.1` the way of processes behind the edge."""

    def __init__(self, port: int, tenant: str, http: aiohttp.ClientSession) -> None:
        self.public = f"http://localhost:{port}"
        self.root = f"http://127.0.0.1:{port}/identity/{tenant}"
        self.issuer = f"{self.public}/identity/{tenant}/v2.0"
        self.http = http

    def query(self, **change: str) -> dict[str, str]:
        return {
            "client_id": "parley-web",
            "redirect_uri": self.public + "/",
            "response_type": "code",
            "scope": "openid",
            "state": "s1",
            "code_challenge": challenge_of(VERIFIER),
            "code_challenge_method": "S256",
            "login_hint": "casey",
        } | change

    async def authorize(self, **change: str) -> aiohttp.ClientResponse:
        address = f"{self.root}/oauth2/v2.0/authorize"
        return await self.http.get(address, params=self.query(**change), allow_redirects=False)

    async def code(self) -> str:
        response = await self.authorize()
        return parse_qs(urlsplit(response.headers["Location"]).query)["code"][0]

    async def token(self, body: dict[str, str], **headers: str) -> tuple[int, dict[str, str]]:
        async with self.http.post(f"{self.root}/oauth2/v2.0/token", data=body, headers=headers) as response:
            return response.status, await response.json()

    async def key_ids(self) -> set[str]:
        async with self.http.get(f"{self.root}/discovery/v2.0/keys") as response:
            return {key["kid"] for key in (await response.json())["keys"]}


@pytest.fixture
async def provider(tmp_path: Path) -> AsyncIterator[Running]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(
        data_dir=tmp_path, public_url=f"http://localhost:{port}", identity_client_secret=SecretStr(SECRET)
    )
    runner = web.AppRunner(build(settings).application())
    await runner.setup()
    await web.SockSite(runner, listener).start()
    async with aiohttp.ClientSession() as http:
        yield Running(port, settings.identity_tenant, http)
    await runner.cleanup()


async def _discovery(provider: Running, **headers: str) -> dict[str, str]:
    address = f"{provider.root}/v2.0/.well-known/openid-configuration"
    async with provider.http.get(address, headers=headers) as response:
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        document: dict[str, str] = await response.json()
        return document


async def test_a_person_signs_in_and_the_id_token_verifies_against_the_published_keys(provider: Running) -> None:
    tokens = await IdentityClient(provider.http, provider.issuer, provider.public + "/").sign_in("casey")
    async with provider.http.get(f"{provider.root}/discovery/v2.0/keys") as response:
        keys = jwt.PyJWKSet.from_dict(await response.json())
    key = keys[jwt.get_unverified_header(tokens.id_token)["kid"]]
    for token in (tokens.id_token, tokens.access_token):
        claims = jwt.decode(token, key, algorithms=["RS256"], audience="parley-web", issuer=provider.issuer)
        assert claims["name"] == "Casey Example"


async def _sign_in(provider: Running) -> dict[str, str]:
    status, tokens = await provider.token(
        {
            "grant_type": "authorization_code",
            "client_id": "parley-web",
            "code": await provider.code(),
            "code_verifier": VERIFIER,
            "redirect_uri": provider.public + "/",
        }
    )
    assert status == 200
    return tokens


async def test_the_redirect_carries_state_and_issuer_and_is_not_cached(provider: Running) -> None:
    response = await provider.authorize()
    answer = parse_qs(urlsplit(response.headers["Location"]).query)
    assert (response.status, answer["state"], answer["iss"]) == (302, ["s1"], [provider.issuer])
    assert response.headers["Cache-Control"] == "no-store"


async def test_servers_are_led_to_the_loopback_port_and_browsers_to_the_public_origin(provider: Running) -> None:
    direct = await _discovery(provider)
    assert direct["issuer"] == provider.issuer
    assert direct["jwks_uri"].startswith(provider.root)
    assert direct["authorization_endpoint"].startswith(provider.public)
    forwarded = await _discovery(provider, **{"X-Forwarded-Host": "127.0.0.1"})
    assert forwarded["jwks_uri"].startswith(provider.public)
    assert forwarded["token_endpoint"].startswith(provider.public)


async def test_without_a_hint_the_picker_is_shown_with_every_built_in_person(provider: Running) -> None:
    response = await provider.authorize(login_hint="")
    page = await response.text()
    assert response.status == 200
    assert "Choose who you are" in page
    assert "blair@example.org" in page
    policy = response.headers["Content-Security-Policy"]
    assert f"form-action 'self' {provider.public};" in policy
    assert "unsafe" not in policy


async def test_a_foreign_redirect_address_gets_a_page_and_no_redirect(provider: Running) -> None:
    response = await provider.authorize(redirect_uri="https://evil.example/")
    assert response.status == 400
    assert "Location" not in response.headers


async def test_a_parameter_that_comes_twice_is_refused(provider: Running) -> None:
    pairs = [*provider.query().items(), ("state", "s2")]
    address = f"{provider.root}/oauth2/v2.0/authorize"
    async with provider.http.get(address, params=pairs, allow_redirects=False) as response:
        assert response.status == 400


async def test_refresh_tokens_rotate_and_reuse_ends_them_all(provider: Running) -> None:
    first = (await _sign_in(provider))["refresh_token"]
    body = {"grant_type": "refresh_token", "client_id": "parley-web"}
    status, second = await provider.token(body | {"refresh_token": first})
    assert status == 200
    assert second["refresh_token"] != first
    for spent in (first, second["refresh_token"]):
        status, answer = await provider.token(body | {"refresh_token": spent})
        assert (status, answer["error"]) == (400, "invalid_grant")


async def test_a_program_gets_a_token_for_its_secret_and_none_without(provider: Running) -> None:
    body = {"grant_type": "client_credentials", "client_id": "parley-cli"}
    status, answer = await provider.token(body | {"client_secret": SECRET})
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert (status, claims["aud"], claims["azp"], claims["roles"]) == (200, "parley-web", "parley-cli", [])
    status, answer = await provider.token(body | {"client_secret": "wrong"})
    assert (status, answer["error"]) == (401, "invalid_client")
    status, answer = await provider.token(body | {"client_id": "parley-web"})
    assert (status, answer["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"grant_type": "password", "client_id": "parley-web"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "client_id": "parley-web", "code": "x"}, "invalid_request"),
        (
            {"grant_type": "authorization_code", "client_id": "parley-web", "code": "x", "code_verifier": VERIFIER},
            "invalid_grant",
        ),
        ({"grant_type": "authorization_code", "client_id": "nobody", "code": "x"}, "invalid_client"),
        ({}, "invalid_client"),
    ],
)
async def test_a_faulty_token_request_is_answered_as_the_rfc_says(
    provider: Running, body: dict[str, str], error: str
) -> None:
    status, answer = await provider.token(body)
    assert answer["error"] == error
    assert status == (401 if error == "invalid_client" else 400)


async def test_a_body_that_is_no_form_or_too_large_is_refused(provider: Running) -> None:
    address = f"{provider.root}/oauth2/v2.0/token"
    async with provider.http.post(address, json={"grant_type": "x"}) as response:
        assert (response.status, (await response.json())["error"]) == (400, "invalid_request")
    async with provider.http.post(address, data={"code": "x" * 20_000}) as response:
        assert response.status == 413


async def test_the_token_endpoint_allows_registered_origins_only(provider: Running) -> None:
    address = f"{provider.root}/oauth2/v2.0/token"
    async with provider.http.options(address, headers={"Origin": provider.public}) as response:
        assert response.headers["Access-Control-Allow-Origin"] == provider.public
    async with provider.http.options(address, headers={"Origin": "https://evil.example"}) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


def _basic(secret: str) -> dict[str, str]:
    return {"Authorization": aiohttp.encode_basic_auth("parley-cli", secret)}


async def test_rotation_needs_the_secret_and_keeps_the_former_key_published(provider: Running) -> None:
    before = await provider.key_ids()
    address = f"{provider.root}/admin/rotate"
    async with provider.http.post(address, headers=_basic("wrong")) as response:
        assert response.status == 401
    async with provider.http.post(address, headers=_basic(SECRET)) as response:
        assert (await response.json())["kid"] in before
    after = await provider.key_ids()
    assert before < after


async def test_another_tenant_is_not_found(provider: Running) -> None:
    other = provider.root.rsplit("/", 1)[0] + "/00000000-0000-0000-0000-000000000000"
    async with provider.http.get(f"{other}/v2.0/.well-known/openid-configuration") as response:
        assert response.status == 404


async def test_signing_out_leads_back_to_registered_addresses_only(provider: Running) -> None:
    address = f"{provider.root}/oauth2/v2.0/logout"
    query = {"post_logout_redirect_uri": provider.public + "/", "state": "z"}
    async with provider.http.get(address, params=query, allow_redirects=False) as response:
        assert response.headers["Location"] == provider.public + "/?state=z"
    query = {"post_logout_redirect_uri": "https://evil.example/"}
    async with provider.http.get(address, params=query, allow_redirects=False) as response:
        assert response.status == 400
    async with provider.http.get(address) as response:
        assert "Signed out" in await response.text()


async def test_the_client_class_reports_a_refusal(provider: Running) -> None:
    client = IdentityClient(provider.http, provider.issuer, "https://evil.example/")
    with pytest.raises(SignInFailed):
        await client.sign_in("casey")
