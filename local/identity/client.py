"""Gets a person's tokens over HTTP as a browser would: code flow with PKCE, the person named by `login_hint`.

For tests, benches and scripts; it works against any provider whose authorize endpoint answers a login hint with a
redirect, which the local one does. Nothing is bypassed: state, nonce and verifier are made and checked.
"""

import secrets
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import aiohttp
import jwt

from local.identity.grants import challenge_of


class SignInFailed(Exception):
    """The provider refused, or answered what it must not."""


@dataclass(frozen=True)
class Tokens:
    """A person's tokens. `claims` are those of the id token, read without checking its signature."""

    id_token: str
    access_token: str
    refresh_token: str

    def __repr__(self) -> str:
        return "Tokens(…)"

    @property
    def claims(self) -> dict[str, object]:
        return dict(jwt.decode(self.id_token, options={"verify_signature": False}))


class IdentityClient:
    """Talks to one issuer. `redirect_uri` must be at a registered origin; it is never opened."""

    def __init__(
        self, http: aiohttp.ClientSession, issuer: str, redirect_uri: str, client_id: str = "parley-web"
    ) -> None:
        self._http = http
        self._issuer = issuer.rstrip("/")
        self._redirect_uri = redirect_uri
        self._client_id = client_id
        self._endpoints: dict[str, str] = {}

    async def sign_in(self, login_hint: str, name: str = "") -> Tokens:
        """Tokens of the person with this short name or e-mail address. Raises SignInFailed."""
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        query = {
            "client_id": self._client_id,
            "response_type": "code",
            "redirect_uri": self._redirect_uri,
            "scope": "openid profile email offline_access",
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge_of(verifier),
            "code_challenge_method": "S256",
            "login_hint": login_hint,
            "login_name": name,
        }
        address = await self._endpoint("authorization_endpoint")
        async with self._http.get(address, params=query, allow_redirects=False) as response:
            location = response.headers.get("Location", "")
        answer = {key: values[0] for key, values in parse_qs(urlsplit(location).query).items()}
        if response.status != 302 or answer.get("state") != state or "code" not in answer:
            raise SignInFailed(answer.get("error_description", f"authorize answered {response.status}"))
        tokens = await self._token(
            grant_type="authorization_code",
            code=answer["code"],
            code_verifier=verifier,
            redirect_uri=self._redirect_uri,
        )
        if tokens.claims.get("nonce") != nonce:
            raise SignInFailed("the id token is for another sign-in")
        return tokens

    async def refresh(self, tokens: Tokens) -> Tokens:
        """New tokens for old ones; the old refresh token is spent."""
        return await self._token(grant_type="refresh_token", refresh_token=tokens.refresh_token)

    async def app_token(self, secret: str, client_id: str = "parley-cli") -> str:
        """An access token of a program, by its secret. Raises SignInFailed."""
        body = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
        return str((await self._post(body))["access_token"])

    async def _token(self, **body: str) -> Tokens:
        answer = await self._post(body | {"client_id": self._client_id})
        return Tokens(str(answer["id_token"]), str(answer["access_token"]), str(answer["refresh_token"]))

    async def _post(self, body: dict[str, str]) -> dict[str, object]:
        async with self._http.post(await self._endpoint("token_endpoint"), data=body) as response:
            answer: dict[str, object] = await response.json()
        if response.status != 200:
            raise SignInFailed(f"{answer.get('error')}: {answer.get('error_description')}")
        return answer

    async def _endpoint(self, name: str) -> str:
        if not self._endpoints:
            async with self._http.get(f"{self._issuer}/.well-known/openid-configuration") as response:
                if response.status != 200:
                    raise SignInFailed(f"discovery answered {response.status}")
                self._endpoints = await response.json()
        return self._endpoints[name]
