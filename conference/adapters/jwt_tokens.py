"""Parley's own tokens (contracts.md section 3) as ES256 JWTs, each with a type: join, consent, service and tunnel.

A token names who, where and until when, and nothing that a person or a log should not see. Each kind has its `typ` and
its audience, so that one can never be used as another; its claims are a closed set with exact types. Single use is not
decided here: the presence store burns a jti, that of a join token inside the atomic join.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from conference.adapters import jws
from conference.adapters.public_keys import open_token
from conference.domain.claims import (
    CONSENT_AUDIENCE,
    CONSENT_LIFETIME_MAX,
    CONSENT_TYP,
    JOIN_LIFETIME_MAX,
    JOIN_TYP,
    SERVICE_LIFETIME,
    SERVICE_TYP,
    SIGNALING_AUDIENCE,
    TUNNEL_AUDIENCE,
    TUNNEL_LIFETIME,
    TUNNEL_NODES_MAX,
    TUNNEL_TYP,
    ConsentClaims,
    JoinClaims,
    TunnelClaims,
)
from conference.domain.consent import Grant
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, UserId
from conference.domain.meetings import Role
from conference.ports.tokens import PublicKeys, SigningKeys

NBF_SKEW: Final = timedelta(seconds=5)  # between our own machines; exp is strict, as the place it reserves ends with it
_MAX_TIME: Final = 253_402_300_799  # the last second of the year 9999

_Uuid = Annotated[str, Meta(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")]
_Word = Annotated[str, Meta(min_length=1, max_length=128)]
_Seconds = Annotated[int, Meta(ge=0, le=_MAX_TIME)]


class _Common(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    iss: str
    aud: str
    nbf: _Seconds
    exp: _Seconds


class _Join(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    sub: _Uuid
    room_id: _Uuid
    user_id: _Uuid
    role: Literal["host", "attendee", "viewer"]
    grants: Annotated[list[Literal["recording", "ai"]], Meta(max_length=len(Grant))]
    consent_version: _Word | None
    consent_pending: bool
    region: _Word
    epoch: Annotated[int, Meta(ge=0, le=2**53)]
    jti: _Word


class _Consent(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    sub: _Uuid
    consent_id: _Uuid
    meeting_id: _Uuid


class _Service(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    sub: _Word


class _Node(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    ip: Annotated[str, Meta(min_length=2, max_length=64)]
    port: Annotated[int, Meta(ge=1, le=65_535)]


class _Tunnel(_Common, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    sub: _Uuid
    room_id: _Uuid
    nodes: Annotated[list[_Node], Meta(min_length=1, max_length=TUNNEL_NODES_MAX)]
    jti: _Word


_Shape = TypeVar("_Shape", bound=_Common)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[_Shape]):
    """One kind of token: its claims, its `typ`, and how long it lives at most."""

    shape: type[_Shape]
    typ: str
    lifetime: timedelta

    @property
    def profile(self) -> jws.Profile:
        return jws.Profile(types=frozenset({self.typ}), algorithms=frozenset({"ES256"}))


_JOIN: Final = _Kind(_Join, JOIN_TYP, JOIN_LIFETIME_MAX)
_CONSENT: Final = _Kind(_Consent, CONSENT_TYP, CONSENT_LIFETIME_MAX)
_SERVICE: Final = _Kind(_Service, SERVICE_TYP, SERVICE_LIFETIME)
_TUNNEL: Final = _Kind(_Tunnel, TUNNEL_TYP, TUNNEL_LIFETIME)


class JwtTokens:
    """Implements the port `Tokens`.

    Args:
        issuer: the `iss` of every token, the system's public origin; compared exactly.
        keys: what verifies; `OwnPublicKeys` where the signing keys are, else `RemotePublicKeys`.
        signing: what signs; None for a process that only verifies.
    """

    def __init__(self, *, issuer: str, keys: PublicKeys, signing: SigningKeys | None = None) -> None:
        self._issuer = issuer
        self._keys = keys
        self._signing = signing

    async def mint_join(self, claims: JoinClaims) -> str:
        """Signed with the key that is current at `not_before`."""
        body = _Join(
            iss=self._issuer,
            aud=SIGNALING_AUDIENCE,
            sub=claims.participant_id,
            room_id=claims.room_id,
            user_id=claims.user_id,
            role=claims.role.value,
            grants=sorted(grant.value for grant in claims.grants),
            consent_version=claims.consent_version,
            consent_pending=claims.consent_pending,
            region=claims.region,
            epoch=claims.epoch,
            jti=claims.jti,
            nbf=_seconds(claims.not_before),
            exp=_seconds(claims.expires_at),
        )
        return await self._mint(body, _JOIN, claims.not_before)

    async def verify_join(self, token: str, now: datetime) -> JoinClaims:
        body = await self._verify(token, _JOIN, SIGNALING_AUDIENCE, now)
        return JoinClaims(
            participant_id=ParticipantId(body.sub),
            room_id=MeetingId(body.room_id),
            user_id=UserId(body.user_id),
            role=Role(body.role),
            grants=frozenset(Grant(name) for name in body.grants),
            consent_version=body.consent_version,
            consent_pending=body.consent_pending,
            region=body.region,
            epoch=body.epoch,
            jti=body.jti,
            not_before=_time(body.nbf),
            expires_at=_time(body.exp),
        )

    async def mint_consent(self, claims: ConsentClaims, now: datetime) -> str:
        body = _Consent(
            iss=self._issuer,
            aud=CONSENT_AUDIENCE,
            sub=claims.user_id,
            consent_id=claims.consent_id,
            meeting_id=claims.meeting_id,
            nbf=_seconds(now),
            exp=_seconds(claims.expires_at),
        )
        return await self._mint(body, _CONSENT, now)

    async def verify_consent(self, token: str, now: datetime) -> ConsentClaims:
        body = await self._verify(token, _CONSENT, CONSENT_AUDIENCE, now)
        return ConsentClaims(
            consent_id=ConsentId(body.consent_id),
            user_id=UserId(body.sub),
            meeting_id=MeetingId(body.meeting_id),
            expires_at=_time(body.exp),
        )

    async def mint_service(self, *, subject: str, audience: str, now: datetime) -> str:
        nbf = _seconds(now)
        body = _Service(iss=self._issuer, aud=audience, sub=subject, nbf=nbf, exp=nbf + _whole(SERVICE_LIFETIME))
        return await self._mint(body, _SERVICE, now)

    async def verify_service(self, token: str, *, audience: str, now: datetime) -> str:
        return (await self._verify(token, _SERVICE, audience, now)).sub

    async def mint_tunnel(self, claims: TunnelClaims, now: datetime) -> str:
        body = _Tunnel(
            iss=self._issuer,
            aud=TUNNEL_AUDIENCE,
            sub=claims.participant_id,
            room_id=claims.room_id,
            nodes=[_Node(ip, port) for ip, port in claims.nodes],
            jti=claims.jti,
            nbf=_seconds(now),
            exp=_seconds(claims.expires_at),
        )
        return await self._mint(body, _TUNNEL, now)

    async def verify_tunnel(self, token: str, now: datetime) -> TunnelClaims:
        body = await self._verify(token, _TUNNEL, TUNNEL_AUDIENCE, now)
        return TunnelClaims(
            participant_id=ParticipantId(body.sub),
            room_id=MeetingId(body.room_id),
            nodes=tuple((node.ip, node.port) for node in body.nodes),
            jti=body.jti,
            expires_at=_time(body.exp),
        )

    async def _mint(self, body: _Shape, kind: _Kind[_Shape], now: datetime) -> str:
        if self._signing is None:
            raise RuntimeError("this process has no signing keys")
        if not 0 < body.exp - body.nbf <= _whole(kind.lifetime):
            raise ValueError("the token's lifetime is out of bounds")
        claims = msgspec.to_builtins(body)
        msgspec.convert(claims, kind.shape)  # what we sign is what we would accept
        key = await self._signing.current(now)
        return jws.sign(claims, typ=kind.typ, kid=key.kid, pem=key.pem)

    async def _verify(self, token: str, kind: _Kind[_Shape], audience: str, now: datetime) -> _Shape:
        claims, _ = await open_token(token, kind.profile, self._keys, now)
        body = _shaped(claims, kind.shape)
        if body.iss != self._issuer:
            jws.refuse("iss")
        if body.aud != audience:
            jws.refuse("aud")
        if not 0 < body.exp - body.nbf <= _whole(kind.lifetime):
            jws.refuse("claims")
        if now + NBF_SKEW < _time(body.nbf):
            jws.refuse("nbf")
        if now >= _time(body.exp):
            jws.refuse("expired")
        return body


def _shaped(claims: dict[str, object], shape: type[_Shape]) -> _Shape:
    try:
        return msgspec.convert(claims, shape, strict=True)
    except msgspec.ValidationError:
        jws.refuse("claims")


def _seconds(time: datetime) -> int:
    """Whole seconds, rounded down: a token never outlives what it stands for."""
    return int(time.timestamp() // 1)


def _whole(span: timedelta) -> int:
    return int(span.total_seconds())


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
