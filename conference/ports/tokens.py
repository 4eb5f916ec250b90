"""Tokens and secrets: signing keys, join, consent, service and tunnel tokens, callers, passwords, TURN credentials."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol, get_args

from conference.domain.claims import Caller, ConsentClaims, JoinClaims, TunnelClaims
from conference.domain.ids import ParticipantId, Secret

# Why a token was refused: `extra["cause"]` of Refused("token-refused"), and the label of `parley_token_refusals_total`.
# "replayed" is the presence store's, which burns the jti.
RefusalCause = Literal[
    "malformed",
    "oversize",
    "duplicate",
    "alg",
    "typ",
    "crit",
    "header-key",
    "unknown-kid",
    "signature",
    "claims",
    "iss",
    "aud",
    "tenant",
    "client",
    "scope",
    "nbf",
    "expired",
    "replayed",
]
REFUSAL_CAUSES: Final[tuple[RefusalCause, ...]] = get_args(RefusalCause)


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An ES256 key. `pem` is the private key; `use_from` is at least ten minutes after `published_at`, except for the
    very first key of an installation; it stays published until `retire_at`."""

    kid: str
    pem: Secret
    published_at: datetime
    use_from: datetime
    retire_at: datetime | None


class SigningKeys(Protocol):
    """One set shared by all instances."""

    async def current(self, now: datetime) -> SigningKey:
        """The newest key whose `use_from` has come. Makes the first key where there is none."""
        ...

    async def published(self, now: datetime) -> tuple[SigningKey, ...]:
        """Every key that verifiers must know."""
        ...

    async def rotate(self, now: datetime) -> SigningKey:
        """Publishes a new key and retires older ones after the longest token lifetime past its first use."""
        ...


class PublicKeys(Protocol):
    """Verification keys by kid: of the own set, or read from a JWKS address."""

    async def jwks(self, now: datetime) -> Mapping[str, object]: ...

    async def key(self, kid: str, now: datetime) -> Mapping[str, object] | None:
        """The JWK, or None; an unknown kid refreshes once per floor interval, a failed fetch keeps the old keys."""
        ...


class Tokens(Protocol):
    """Mints and verifies Parley's own tokens. Verifying raises Refused("token-refused") with
    `extra["cause"]` of REFUSAL_CAUSES, and nothing else but Unavailable where keys cannot be read."""

    async def mint_join(self, claims: JoinClaims) -> str: ...

    async def verify_join(self, token: str, now: datetime) -> JoinClaims: ...

    async def mint_consent(self, claims: ConsentClaims, now: datetime) -> str: ...

    async def verify_consent(self, token: str, now: datetime) -> ConsentClaims: ...

    async def mint_service(self, *, subject: str, audience: str, now: datetime) -> str:
        """A service token of five minutes."""
        ...

    async def verify_service(self, token: str, *, audience: str, now: datetime) -> str:
        """The subject."""
        ...

    async def mint_tunnel(self, claims: TunnelClaims, now: datetime) -> str:
        """Valid from `now` to `claims.expires_at`, a minute at most. Raises ValueError where it names no node, or more
        than `TUNNEL_NODES_MAX`."""
        ...

    async def verify_tunnel(self, token: str, now: datetime) -> TunnelClaims: ...


class CallerVerifier(Protocol):
    """Verifies an OIDC ID or access token of the configured issuer."""

    async def verify(self, token: str, now: datetime) -> Caller:
        """Raises Refused("token-refused") with a cause as above, or Unavailable where keys cannot be read."""
        ...


class PasswordHasher(Protocol):
    """argon2id, in a thread, two at once."""

    async def hash(self, password: Secret) -> Secret: ...

    async def verify(self, password_hash: Secret, password: Secret) -> bool: ...


@dataclass(frozen=True, slots=True)
class IceServer:
    """RTCIceServer."""

    urls: tuple[str, ...]
    username: str | None = None
    credential: Secret | None = None


class IceServers(Protocol):
    """Ephemeral TURN credentials; empty where no TURN address is configured."""

    def for_participant(self, participant_id: ParticipantId, now: datetime) -> tuple[IceServer, ...]: ...
