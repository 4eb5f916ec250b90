"""Users over the ports: profiles, decisions on consent."""

from dataclasses import dataclass, field
from datetime import datetime

from conference.domain.claims import Caller, ConsentClaims
from conference.domain.consent import TEXT_VERSION, ConsentLog, ConsentStatus, ConsentType
from conference.domain.errors import Refused
from conference.domain.ids import ConsentId, MeetingId, UserId
from conference.domain.meetings import User
from conference.ports.meetings import NewConsent
from functions.access import visible
from functions.conditions import id_for
from functions.live import announce_grants
from functions.services import Services


@dataclass(frozen=True, slots=True)
class Decision:
    """What a user decided."""

    meeting_id: MeetingId
    consent_type: ConsentType
    status: ConsentStatus


@dataclass(frozen=True, slots=True)
class Recorded:
    entry: ConsentLog
    token: str = field(repr=False)
    expires_at: datetime


async def profile(services: Services, caller: Caller, user_id: UserId) -> tuple[User, bool]:
    """A user of the caller's tenant, and whether the caller may see the e-mail. Raises Refused("not-found")."""
    user = await services.users.get(user_id)
    if user is None or user.tenant_id != caller.tenant_id:
        raise Refused("not-found")
    return user, user.id == caller.user_id or caller.is_admin


async def record_consent(
    services: Services, caller: Caller, route: str, decision: Decision, key: str | None
) -> Recorded:
    """Appends the caller's decision to the meeting's log, and tells a live room. Raises Refused: not-found,
    meeting-ended, idempotency-conflict."""
    meeting = await visible(services, caller, decision.meeting_id)
    now = services.clock.now()
    consent = NewConsent(
        id=ConsentId(id_for(caller, route, key, services.ids)),
        meeting_id=meeting.id,
        user_id=caller.user_id,
        consent_type=decision.consent_type,
        status=decision.status,
        text_version=TEXT_VERSION,
        now=now,
    )
    entry = await services.meetings.record_consent(consent)
    if isinstance(entry, Refused):
        raise entry
    if entry.participant_id is not None:
        await announce_grants(services, meeting, caller.user_id, entry.id)
    expires_at = now + services.config.consent_token_life
    token = await services.tokens.mint_consent(ConsentClaims(entry.id, caller.user_id, meeting.id, expires_at), now)
    return Recorded(entry, token, expires_at)
