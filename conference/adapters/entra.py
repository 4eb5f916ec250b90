"""Callers' tokens of Microsoft's identity platform: Entra ID, Entra External ID, and B2C.

Over plain OIDC (`oidc.py`) this knows the issuer of each tenant, versions 1.0 and 2.0, who asked for the token (`azp`,
`appid`), what it was asked for (`scp`, `roles`), groups, and that only RS256 is used. A person is `oid` in `tid`: `sub`
differs from client to client, and names and addresses change. The form of an issuer tells its tokens:
`…/{tid}/v2.0` Entra ID and External ID, `https://sts.windows.net/{tid}/` version 1.0, `…/v2.0/` with a slash B2C.
"""

import logging
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from conference.adapters import jws
from conference.adapters.caller_claims import check_audience, check_times, text_of, texts_of
from conference.adapters.oidc import IssuerKeys
from conference.adapters.public_keys import FetchJson, open_token
from conference.domain.claims import Caller
from conference.domain.ids import TenantId
from conference.domain.policies import user_id_of

# Microsoft publishes a key at least a day before it signs, and an unknown kid is looked up at once.
MAX_AGE: Final = timedelta(hours=6)
FLOOR: Final = timedelta(seconds=30)
ANY_TENANT: Final = "*"
_TID: Final = "{tid}"
_GUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Up to 200 group ids stand in a token, which makes it longer than ours are.
_PROFILE: Final = jws.Profile(types=frozenset({"", "jwt"}), algorithms=frozenset({"RS256"}), max_bytes=16 * 1024)

_log = logging.getLogger(__name__)


class EntraIssuer:
    """An issuer, exact or with `{tid}` where the tenant's id stands. Raises ValueError for a text that is neither."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.is_template = _TID in text
        self.is_b2c = text.endswith("/v2.0/")
        self.version = "2.0" if text.endswith("/v2.0") else "1.0"
        found = _GUID.findall(text.lower())
        if not self.is_template and not found:
            raise ValueError("the issuer of Entra ID holds the tenant's id, or {tid} in its place")
        self._tenant = "" if self.is_template else found[-1]

    def tenant_of(self, claims: Mapping[str, object]) -> str:
        """The token's tenant, where the token is this issuer's. Raises Refused("token-refused")."""
        tenant = text_of(claims, "tid") or (self._tenant if self.is_b2c else "")  # which B2C leaves out
        if not _GUID.fullmatch(tenant):
            jws.refuse("claims")
        if claims.get("iss") != self.text.replace(_TID, tenant):
            jws.refuse("iss")
        if self._tenant not in ("", tenant):
            jws.refuse("tenant")
        return tenant

    def owns(self, jwk: Mapping[str, object], tenant: str) -> bool:
        """False for a key that its set keeps for another issuer: the set of all tenants says so key by key."""
        issuer = jwk.get("issuer")
        return not isinstance(issuer, str) or issuer.replace("{tenantid}", tenant) == self.text.replace(_TID, tenant)

    @property
    def names(self) -> tuple[str, ...]:
        """What the discovery document may call it."""
        return self.text, self.text.replace(_TID, "{tenantid}")


class EntraCallerVerifier:
    """Implements the port `CallerVerifier`.

    Args:
        issuer: as `EntraIssuer` takes it.
        audiences: `aud` has to be one of them: the page's client id for ID tokens, the API's for access tokens.
        fetch_json: reads a document, for example `HttpJson`.
        discovery_url: where the discovery document is; empty: under the issuer. A template needs one.
        tenants: the `tid` that may call; empty: the one that the issuer names. A template needs some, or `*` for all.
        clients: the applications (`azp`, `appid`) whose access tokens are taken; empty: any.
        scope: what a person's access token has to be for (`scp`); empty: anything.
        admin_role, admin_groups: the app role, and the ids of the groups, that make an admin of the tenant.
        skew: tolerated difference of clocks, for exp and nbf.

    Raises ValueError where these do not fit together.
    """

    def __init__(
        self,
        *,
        issuer: str,
        audiences: frozenset[str],
        fetch_json: FetchJson,
        discovery_url: str = "",
        tenants: frozenset[str] = frozenset(),
        clients: frozenset[str] = frozenset(),
        scope: str = "",
        admin_role: str = "Parley.Admin",
        admin_groups: frozenset[str] = frozenset(),
        skew: timedelta = timedelta(seconds=30),
        max_age: timedelta = MAX_AGE,
        floor: timedelta = FLOOR,
    ) -> None:
        self._issuer = EntraIssuer(issuer)
        if self._issuer.is_template and not (tenants and discovery_url):
            raise ValueError("an issuer with {tid} needs a discovery address, and a list of tenants or *")
        self._audiences, self._clients, self._scope, self._skew = audiences, clients, scope, skew
        self._tenants = frozenset[str]() if ANY_TENANT in tenants else frozenset(tid.lower() for tid in tenants)
        self._admin_role, self._admin_groups = admin_role, frozenset(group.lower() for group in admin_groups)
        self._has_told_of_overage = False
        self._keys = IssuerKeys(
            issuer,
            fetch_json,
            discovery_url=discovery_url,
            names=self._issuer.names,
            max_age=max_age,
            floor=floor,
        )

    async def verify(self, token: str, now: datetime) -> Caller:
        claims, jwk = await open_token(token, _PROFILE, self._keys, now)
        tenant = self._issuer.tenant_of(claims)
        if not self._issuer.owns(jwk, tenant):
            jws.refuse("iss")
        if self._tenants and tenant not in self._tenants:
            jws.refuse("tenant")
        if text_of(claims, "ver") != self._issuer.version:
            jws.refuse("claims")
        check_audience(claims, self._audiences)
        check_times(claims, now.timestamp(), self._skew)
        self._check_client(claims)
        return self._caller(claims, tenant)

    def _check_client(self, claims: Mapping[str, object]) -> None:
        """An ID token names no client but its audience. An access token without `scp` is a program's own: every program
        of a tenant can get one for any API, so only a role that an admin has assigned says that it may call."""
        client = text_of(claims, "azp") or text_of(claims, "appid")
        if not client and claims.get("idtyp") != "app":
            return
        if self._clients and client not in self._clients:
            jws.refuse("client")
        scopes = _scopes_of(claims)
        if not scopes and not texts_of(claims, "roles"):
            jws.refuse("scope")
        if scopes and self._scope and self._scope not in scopes:
            jws.refuse("scope")

    def _caller(self, claims: Mapping[str, object], tenant: str) -> Caller:
        object_id = text_of(claims, "oid") or (text_of(claims, "sub") if self._issuer.is_b2c else "")
        if not object_id:
            jws.refuse("claims")
        user_name = text_of(claims, "preferred_username") or text_of(claims, "upn") or text_of(claims, "unique_name")
        return Caller(
            user_id=user_id_of(tenant, object_id),
            tenant_id=TenantId(tenant),
            is_admin=self._is_admin(claims),
            display_name=text_of(claims, "name") or user_name or text_of(claims, "app_displayname"),
            email=_email_of(claims) or (user_name if "@" in user_name else ""),
            token_id=text_of(claims, "uti") or text_of(claims, "jti"),
        )

    def _is_admin(self, claims: Mapping[str, object]) -> bool:
        if self._admin_role in texts_of(claims, "roles"):
            return True
        return bool(self._admin_groups) and not self._admin_groups.isdisjoint(self._groups_of(claims))

    def _groups_of(self, claims: Mapping[str, object]) -> frozenset[str]:
        """Nobody's groups where they are too many for the token (200): who they are is then elsewhere, and a refused
        admin is better than a directory look-up in every call. App roles, or "groups assigned to the application",
        have no such limit."""
        elsewhere = claims.get("_claim_names")
        if (isinstance(elsewhere, dict) and "groups" in elsewhere) or claims.get("hasgroups") is True:
            if not self._has_told_of_overage:
                self._has_told_of_overage = True
                _log.warning("a caller has too many groups for a token, so that none counts; use app roles")
            return frozenset()
        return frozenset(group.lower() for group in texts_of(claims, "groups"))


def _scopes_of(claims: Mapping[str, object]) -> frozenset[str]:
    """Of `scp`, which may be longer than other texts."""
    scopes = claims.get("scp", "")
    if not isinstance(scopes, str):
        jws.refuse("claims")
    return frozenset(scopes.split())


def _email_of(claims: Mapping[str, object]) -> str:
    """`email`, or the first of B2C's `emails`."""
    emails = claims.get("emails")
    if "email" not in claims and isinstance(emails, list) and emails:
        return text_of({"email": emails[0]}, "email")
    return text_of(claims, "email")
