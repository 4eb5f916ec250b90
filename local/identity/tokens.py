"""The claims of id and access tokens, in the shape that Entra ID gives them (version 2.0).

Both are JWTs signed with RS256; the audience of both is the page's client id. `sub` differs from client to client
(pairwise, as at Entra), `oid` is the person's id in the tenant.
"""

import hashlib
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt

from local.identity.grants import Grant
from local.identity.keys import KeySet

TOKEN_SECONDS = 3600
SCOPE = "Meetings.ReadWrite"


@dataclass(frozen=True)
class TokenMaker:
    """Signs what the provider says. `audience` is the API's, `issuer` the tenant's; `shape` has the last word."""

    keys: KeySet
    issuer: str
    tenant: str
    audience: str
    shape: Callable[[dict[str, Any]], dict[str, Any]] = dict

    def id_token(self, grant: Grant, now: float) -> str:
        """Who signed in (OpenID Connect Core 2)."""
        nonce = {"nonce": grant.nonce} if grant.nonce else {}
        return self._sign(self._person(grant, now) | nonce | {"aud": grant.client_id}, now)

    def access_token(self, grant: Grant, now: float) -> str:
        """What the API takes from a person's client."""
        return self._sign(
            self._person(grant, now) | {"aud": self.audience, "azp": grant.client_id, "azpacr": "0", "scp": SCOPE}, now
        )

    def app_token(self, client_id: str, object_id: str, now: float) -> str:
        """What the API takes from a program that acts as itself (client credentials)."""
        claims = {"sub": object_id, "oid": object_id, "name": client_id, "idtyp": "app", "roles": []}
        return self._sign(
            self._frame(now) | claims | {"aud": self.audience, "azp": client_id, "azpacr": "1"},
            now,
        )

    def _frame(self, now: float) -> dict[str, Any]:
        second = int(now)
        return {
            "iss": self.issuer,
            "tid": self.tenant,
            "iat": second,
            "nbf": second,
            "exp": second + TOKEN_SECONDS,
            "uti": secrets.token_urlsafe(16),
            "ver": "2.0",
        }

    def _person(self, grant: Grant, now: float) -> dict[str, Any]:
        person = grant.person
        oid = person.object_id(self.tenant)
        return self._frame(now) | {
            "sub": _pairwise(oid, grant.client_id),
            "oid": oid,
            "name": person.name,
            "preferred_username": person.email,
            "email": person.email,
            "roles": list(person.roles),
        }

    def _sign(self, claims: dict[str, Any], now: float) -> str:
        key = self.keys.signing(now)
        return jwt.encode(self.shape(claims), key.private, algorithm="RS256", headers={"kid": key.kid})


def _pairwise(object_id: str, client_id: str) -> str:
    digest = hashlib.sha256(f"{client_id}\0{object_id}".encode()).digest()
    return urlsafe_b64encode(digest).rstrip(b"=").decode()
