"""The five kinds of token, each with what it takes to make a good one and to verify any.

Attacks run over all of them: tests/unit/adapters/test_token_refusals.py.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

from conference.adapters.jwt_tokens import JwtTokens
from conference.adapters.oidc import OidcCallerVerifier
from conference.adapters.public_keys import OwnPublicKeys
from conference.adapters.signing_keys import MemorySigningKeys
from conference.domain.errors import Refused
from tests.support.forge import ec_key, forge, jwk_of

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOW_S = int(NOW.timestamp())
ISSUER = "https://parley.test"
IDP = "https://login.test/5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60/v2.0"
TENANT = "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60"
ROOM, USER, PARTICIPANT, ENTRY = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2, 3, 4))
CALLER_KID = "issuer-key"
KINDS = ("join", "consent", "service", "tunnel", "caller")


class SerialIds:
    """Ids in order. Implements the port `Ids`."""

    def __init__(self) -> None:
        self._next = count(1)

    def new(self) -> str:
        return f"00000000-0000-4000-9000-{next(self._next):012x}"


@dataclass(frozen=True)
class Kind:
    """One kind of token. `header` and `claims` are those of a good one at NOW; `required` claims cannot be left out."""

    name: str
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    required: tuple[str, ...]
    key: Any
    verify: Callable[[str, datetime], Awaitable[object]]

    def token(self, header: Mapping[str, Any] | None = None, claims: Mapping[str, Any] | None = None) -> str:
        """A token signed with the right key, with these members changed."""
        return forge({**self.header, **(header or {})}, {**self.claims, **(claims or {})}, self.key)

    async def cause(self, token: str, now: datetime = NOW) -> str:
        """Why the token is refused; "accepted" where it is not. What is neither goes on as the error that it is."""
        try:
            await self.verify(token, now)
        except Refused as refused:
            return str(refused.extra.get("cause", refused.reason))
        return "accepted"


_TIMES = {"nbf": NOW_S, "exp": NOW_S + 300}
_CLAIMS: dict[str, dict[str, Any]] = {
    "join": {
        "iss": ISSUER,
        "aud": "signaling",
        "sub": PARTICIPANT,
        "roomId": ROOM,
        "userId": USER,
        "role": "attendee",
        "grants": ["ai", "recording"],
        "consentVersion": "2026-11",
        "consentPending": False,
        "region": "local",
        "epoch": 1,
        "jti": "00000000-0000-4000-8000-000000000009",
        **_TIMES,
    },
    "consent": {"iss": ISSUER, "aud": "consent", "sub": USER, "consentId": ENTRY, "meetingId": ROOM, **_TIMES},
    "service": {"iss": ISSUER, "aud": "sfu", "sub": "signaling-1", **_TIMES},
    "tunnel": {
        "iss": ISSUER,
        "aud": "tunnel",
        "sub": PARTICIPANT,
        "roomId": ROOM,
        "nodes": [{"ip": "192.0.2.7", "port": 7882}],
        "jti": "00000000-0000-4000-8000-00000000000a",
        "nbf": NOW_S,
        "exp": NOW_S + 60,
    },
    "caller": {
        "iss": IDP,
        "aud": "parley-web",
        "sub": "pairwise-subject",
        "tid": TENANT,
        "oid": USER,
        "name": "Test User",
        "preferred_username": "user@parley.test",
        "roles": [],
        "uti": "token-1",
        **_TIMES,
    },
}


async def kind_of(name: str) -> Kind:
    """The kind with fresh keys."""
    claims = _CLAIMS[name]
    if name == "caller":
        key = ec_key()
        header = {"typ": "JWT", "alg": "ES256", "kid": CALLER_KID}
        verifier = caller_verifier({"keys": [jwk_of(key, CALLER_KID)]})
        return Kind(name, header, claims, ("iss", "aud", "sub", "exp"), key, verifier.verify)
    signing = MemorySigningKeys(SerialIds())
    signer = await signing.current(NOW)
    tokens = JwtTokens(issuer=ISSUER, keys=OwnPublicKeys(signing), signing=signing)

    async def verify_service(token: str, now: datetime) -> object:
        return await tokens.verify_service(token, audience="sfu", now=now)

    verify = {
        "join": tokens.verify_join,
        "consent": tokens.verify_consent,
        "service": verify_service,
        "tunnel": tokens.verify_tunnel,
    }[name]
    header = {"typ": f"{name}+jwt", "alg": "ES256", "kid": signer.kid}
    return Kind(name, header, claims, tuple(claims), ec_key(signer.pem.reveal()), verify)


def caller_verifier(jwks: object, **options: Any) -> OidcCallerVerifier:
    """A verifier whose issuer answers with this key set, without a network."""

    async def fetch_json(url: str) -> object:
        return {"issuer": IDP, "jwks_uri": f"{IDP}/keys"} if url.endswith("openid-configuration") else jwks

    return OidcCallerVerifier(issuer=IDP, audience="parley-web", fetch_json=fetch_json, **options)
