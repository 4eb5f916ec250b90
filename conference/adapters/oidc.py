"""Callers' tokens: OIDC ID or access tokens of any one issuer, by discovery. What Entra ID adds is in `entra.py`.

The issuer is configured and compared exactly; where its keys are is its own word (discovery), and which key is the
token's, but only among those. The nonce is the client's to check: it alone knows what it asked for. There is no other
way in, also on one machine, where a small provider of our own is the issuer.
"""

import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from conference.adapters import jws
from conference.adapters.caller_claims import check_audience, check_times, text_of, texts_of
from conference.adapters.public_keys import FLOOR, MAX_AGE, CachedKeys, FetchJson, open_token
from conference.domain.claims import Caller
from conference.domain.errors import Unavailable
from conference.domain.ids import TenantId
from conference.domain.policies import user_id_of

# "at+jwt" is RFC 9068's access token; "" is a header without typ, as many issuers write it.
_PROFILE: Final = jws.Profile(
    types=frozenset({"", "jwt", "at+jwt", "application/at+jwt"}), algorithms=frozenset({"RS256", "ES256"})
)


class IssuerKeys(CachedKeys):
    """The issuer's keys by OpenID Connect Discovery: both documents are read again at each refresh.

    `names` are what the document may call its issuer; empty: just `issuer`."""

    def __init__(
        self,
        issuer: str,
        fetch_json: FetchJson,
        *,
        discovery_url: str = "",
        names: tuple[str, ...] = (),
        max_age: timedelta = MAX_AGE,
        floor: timedelta = FLOOR,
    ) -> None:
        super().__init__(max_age=max_age, floor=floor)
        self._names, self._fetch_json = names or (issuer,), fetch_json
        self._discovery_url = discovery_url or issuer.rstrip("/") + "/.well-known/openid-configuration"

    async def _read(self) -> object:
        document = await self._fetch_json(self._discovery_url)
        # OpenID Connect Discovery 4.3: the document has to be the issuer's own.
        if not isinstance(document, dict) or document.get("issuer") not in self._names:
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
        self._issuer, self._audiences, self._skew = issuer, frozenset({audience}), skew
        self._tenants, self._admin_role = tenants, admin_role
        self._keys = IssuerKeys(issuer, fetch_json, discovery_url=discovery_url, max_age=max_age, floor=floor)

    async def verify(self, token: str, now: datetime) -> Caller:
        claims, _ = await open_token(token, _PROFILE, self._keys, now)
        self._check(claims, now.timestamp())
        return self._caller(claims)

    def _check(self, claims: Mapping[str, object], now_s: float) -> None:
        if claims.get("iss") != self._issuer:
            jws.refuse("iss")
        check_audience(claims, self._audiences)
        check_times(claims, now_s, self._skew)

    def _caller(self, claims: Mapping[str, object]) -> Caller:
        tenant = text_of(claims, "tid") or str(uuid.uuid5(uuid.NAMESPACE_URL, self._issuer))
        if self._tenants and tenant not in self._tenants:
            jws.refuse("tenant")
        subject = text_of(claims, "sub")
        if not subject:  # always there (OpenID Connect Core 2, RFC 9068 2.2)
            jws.refuse("claims")
        user_name = text_of(claims, "preferred_username")
        return Caller(
            user_id=user_id_of(tenant, text_of(claims, "oid") or subject),
            tenant_id=TenantId(tenant),
            is_admin=self._admin_role in texts_of(claims, "roles"),
            display_name=text_of(claims, "name") or user_name,
            email=text_of(claims, "email") or (user_name if "@" in user_name else ""),
            token_id=text_of(claims, "uti") or text_of(claims, "jti"),
        )
