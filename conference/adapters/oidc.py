"""Callers' tokens: OIDC ID or access tokens of one issuer (Entra ID, External ID, B2C, or any by discovery).

The issuer is configured and compared exactly; where its keys are is its own word (discovery), and which key is the
token's, but only among those. The nonce is the client's to check: it alone knows what it asked for. There is no other
way in, also on one machine, where a small provider of our own is the issuer.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from conference.adapters import jws
from conference.adapters.public_keys import FLOOR, MAX_AGE, CachedKeys, FetchJson
from conference.domain.claims import Caller
from conference.domain.errors import Unavailable
from conference.domain.ids import TenantId
from conference.domain.policies import user_id_of

MAX_TEXT: Final = 256
_MAX_TIME: Final = 253_402_300_799  # the last second of the year 9999
# "at+jwt" is RFC 9068's access token; "" is a header without typ, as many issuers write it.
_PROFILE: Final = jws.Profile(
    types=frozenset({"", "jwt", "at+jwt", "application/at+jwt"}), algorithms=frozenset({"RS256", "ES256"})
)


class IssuerKeys(CachedKeys):
    """The issuer's keys by OpenID Connect Discovery: both documents are read again at each refresh."""

    def __init__(
        self,
        issuer: str,
        fetch_json: FetchJson,
        *,
        discovery_url: str = "",
        max_age: timedelta = MAX_AGE,
        floor: timedelta = FLOOR,
    ) -> None:
        super().__init__(max_age=max_age, floor=floor)
        self._issuer, self._fetch_json = issuer, fetch_json
        self._discovery_url = discovery_url or issuer.rstrip("/") + "/.well-known/openid-configuration"

    async def _read(self) -> object:
        document = await self._fetch_json(self._discovery_url)
        # OpenID Connect Discovery 4.3: the document has to be the issuer's own.
        if not isinstance(document, dict) or document.get("issuer") != self._issuer:
            raise Unavailable("the issuer's discovery document", retryable=False, after_s=None)
        address = document.get("jwks_uri")
        if not isinstance(address, str):
            raise Unavailable("the issuer's discovery document", retryable=False, after_s=None)
        return await self._fetch_json(address)


class OidcCallerVerifier:
    """Implements the port `CallerVerifier`.

    Args:
        issuer: `iss`, compared exactly.
        audience: what `aud` has to name.
        fetch_json: reads a document, for example `HttpJson`.
        discovery_url: where the discovery document is; empty: under the issuer.
        tenants: the `tid` that may call; empty: any of the issuer.
        admin_role: the app role (`roles`) that makes an admin.
        skew: tolerated difference of clocks, for exp and nbf.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audience: str,
        fetch_json: FetchJson,
        discovery_url: str = "",
        tenants: frozenset[str] = frozenset(),
        admin_role: str = "Parley.Admin",
        skew: timedelta = timedelta(seconds=30),
        max_age: timedelta = MAX_AGE,
        floor: timedelta = FLOOR,
    ) -> None:
        self._issuer, self._audience, self._skew = issuer, audience, skew
        self._tenants, self._admin_role = tenants, admin_role
        self._keys = IssuerKeys(issuer, fetch_json, discovery_url=discovery_url, max_age=max_age, floor=floor)

    async def verify(self, token: str, now: datetime) -> Caller:
        sealed = jws.read_sealed(token, _PROFILE)
        jwk = await self._keys.key(sealed.kid, now)
        if jwk is None:
            jws.refuse("unknown-kid")
        claims = jws.open_sealed(sealed, jwk)
        self._check(claims, now.timestamp())
        return self._caller(claims)

    def _check(self, claims: Mapping[str, object], now_s: float) -> None:
        if claims.get("iss") != self._issuer:
            jws.refuse("iss")
        audience = claims.get("aud")
        if self._audience not in (audience if isinstance(audience, list) else (audience,)):
            jws.refuse("aud")
        skew_s = self._skew.total_seconds()
        if _time(claims, "exp") + skew_s <= now_s:
            jws.refuse("expired")
        if "nbf" in claims and _time(claims, "nbf") - skew_s > now_s:
            jws.refuse("nbf")

    def _caller(self, claims: Mapping[str, object]) -> Caller:
        tenant = _text(claims, "tid") or str(uuid.uuid5(uuid.NAMESPACE_URL, self._issuer))
        if self._tenants and tenant not in self._tenants:
            jws.refuse("tenant")
        subject = _text(claims, "sub")
        if not subject:  # always there (OpenID Connect Core 2, RFC 9068 2.2)
            jws.refuse("claims")
        user_name = _text(claims, "preferred_username")
        roles = claims.get("roles", [])
        if not isinstance(roles, list):
            jws.refuse("claims")
        return Caller(
            user_id=user_id_of(tenant, _text(claims, "oid") or subject),
            tenant_id=TenantId(tenant),
            is_admin=self._admin_role in roles,
            display_name=_text(claims, "name") or user_name,
            email=_text(claims, "email") or (user_name if "@" in user_name else ""),
            token_id=_text(claims, "uti") or _text(claims, "jti"),
        )


def _text(claims: Mapping[str, object], name: str) -> str:
    """The claim's text; empty where it is absent."""
    value = claims.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_TEXT or "\0" in value:  # which PostgreSQL cannot keep
        jws.refuse("claims")
    return value


def _time(claims: Mapping[str, object], name: str) -> float:
    """A NumericDate (RFC 7519 2), which may have a fraction."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        jws.refuse("claims")
    if not 0 <= value <= _MAX_TIME:  # false for infinity too; before the conversion, which a huge integer would end
        jws.refuse("claims")
    return float(value)
