"""Claims of the tokens that Parley issues, and of a caller's. A value of these types exists only once verified."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from conference.domain.consent import Grant
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, Redacted, TenantId, UserId
from conference.domain.meetings import Role

JOIN_TYP: Final = "join+jwt"
CONSENT_TYP: Final = "consent+jwt"
SERVICE_TYP: Final = "service+jwt"
TUNNEL_TYP: Final = "tunnel+jwt"
SIGNALING_AUDIENCE: Final = "signaling"
CONSENT_AUDIENCE: Final = "consent"
TUNNEL_AUDIENCE: Final = "tunnel"
# No token lives longer than this, whatever it says; the last one is how long a retired key stays published.
JOIN_LIFETIME_MAX: Final = timedelta(minutes=10)
CONSENT_LIFETIME_MAX: Final = timedelta(hours=1)
SERVICE_LIFETIME: Final = timedelta(minutes=5)
TUNNEL_LIFETIME: Final = timedelta(seconds=60)
TUNNEL_NODES_MAX: Final = 4  # addresses of media nodes that a tunnel token names
LONGEST_LIFETIME: Final = max(JOIN_LIFETIME_MAX, CONSENT_LIFETIME_MAX, SERVICE_LIFETIME, TUNNEL_LIFETIME)


@dataclass(frozen=True, slots=True, repr=False)
class Caller(Redacted):
    """Who calls the REST API, from an OIDC token that was verified."""

    user_id: UserId
    tenant_id: TenantId
    is_admin: bool
    display_name: str
    email: str
    token_id: str = ""  # uti or jti, to tell a first sight of a token


@dataclass(frozen=True, slots=True, repr=False)
class JoinClaims(Redacted):
    """What a join token says: aud=signaling, sub=participantId (contracts.md section 3)."""

    participant_id: ParticipantId
    room_id: MeetingId
    user_id: UserId
    role: Role
    grants: frozenset[Grant]
    consent_version: str | None
    consent_pending: bool  # a host's joinToken of POST /rooms: signaling asks by ConsentRequested
    region: str
    epoch: int
    jti: str
    not_before: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class ConsentClaims(Redacted):
    """Names the ConsentLog entry; join checks the entry, not only the token."""

    consent_id: ConsentId
    user_id: UserId
    meeting_id: MeetingId
    expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)
class TunnelClaims(Redacted):
    """What a tunnel token says: aud=tunnel, sub=participantId. `nodes` are (ip, UDP port) of the media nodes that the
    participant's transports are on, as signaling knows them: the gateway opens paths to no other address."""

    participant_id: ParticipantId
    room_id: MeetingId
    nodes: tuple[tuple[str, int], ...]
    jti: str
    expires_at: datetime
