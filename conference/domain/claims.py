"""Claims of the tokens that Parley issues, and of a caller's. A value of these types exists only once verified."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from conference.domain.consent import Grant
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, TenantId, UserId
from conference.domain.meetings import Role

JOIN_TYP: Final = "join+jwt"
CONSENT_TYP: Final = "consent+jwt"
SERVICE_TYP: Final = "service+jwt"
SIGNALING_AUDIENCE: Final = "signaling"
CONSENT_AUDIENCE: Final = "consent"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls the REST API, from an OIDC token that was verified. Personal data stays out of the repr."""

    user_id: UserId
    tenant_id: TenantId
    is_admin: bool
    display_name: str = field(repr=False)
    email: str = field(repr=False)
    token_id: str = field(default="", repr=False)  # uti or jti, to tell a first sight of a token


@dataclass(frozen=True, slots=True)
class JoinClaims:
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


@dataclass(frozen=True, slots=True)
class ConsentClaims:
    """Names the ConsentLog entry; join checks the entry, not only the token."""

    consent_id: ConsentId
    user_id: UserId
    meeting_id: MeetingId
    expires_at: datetime
