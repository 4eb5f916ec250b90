"""Joining: from a caller who knows a meeting's id to a place, a join token and TURN credentials.

Shared by `meetings/{id}/join`, `rooms/{id}/join` and the host's token of POST /rooms. What can be said without a
transaction is said first (window, role, password, the consent token); the store alone decides consent and capacity.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from conference.domain.claims import Caller, JoinClaims
from conference.domain.consent import consent_required, undecided
from conference.domain.errors import Refused
from conference.domain.ids import EventId, MeetingId, Secret, SessionId, UserId
from conference.domain.meetings import MediaProvider, Meeting, Role
from conference.domain.policies import may_enter, role_of
from conference.domain.records import AuditAction, AuditEvent
from conference.ports.limits import Bucket
from conference.ports.media_provider import ProviderAccess
from conference.ports.meetings import Joined, JoinRequest
from conference.ports.tokens import IceServer
from functions import media
from functions.access import acting_for, visible
from functions.services import Services

PASSWORD_TRIES: Final = Bucket(5, 60.0)  # per caller and meeting
_NO_EPOCH: Final = 0  # the topology's epoch is told by RoomJoined; before it there is none to name


@dataclass(frozen=True, slots=True)
class JoinWish:
    """What the caller asked for."""

    user_id: str
    password: str | None = field(default=None, repr=False)
    consent_token: str | None = field(default=None, repr=False)
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """A place, and what is needed to take it."""

    joined: Joined
    token: str = field(repr=False)
    expires_at: datetime
    signaling_url: str
    ice_servers: tuple[IceServer, ...]
    media_provider: MediaProvider = MediaProvider.PARLEY
    provider: ProviderAccess | None = None  # where the media is another provider's


async def join(services: Services, caller: Caller, meeting_id: MeetingId, wish: JoinWish) -> Admission:
    """A place in the meeting. Raises Refused with the reasons of `MeetingStore.join`, and: forbidden,
    password-required, wrong-password, too-many-tries, consent-token-refused, provider-unavailable."""
    now = services.clock.now()
    user_id = await acting_for(services, caller, UserId(wish.user_id))
    meeting = await visible(services, caller, meeting_id)
    role = _role(meeting, user_id, wish.role)
    decision = may_enter(meeting, user_id, role, now, services.config.join_early)
    # Of roles the store judges: who has a place keeps the role that the host gave them, whatever they ask for.
    if isinstance(decision, Refused) and decision.reason != "role-not-allowed":
        raise decision
    await _check_password(services, caller, meeting, user_id, wish.password, now)
    if wish.consent_token is not None:
        await _check_consent_token(services, meeting, user_id, wish.consent_token, now)
    joined = await services.meetings.join(_request(services, meeting, user_id, role, now))
    if isinstance(joined, Refused):
        raise await _explained(services, meeting, user_id, joined)
    return await _admit(services, meeting, joined, now, consent_pending=False)


async def reserve_for_host(services: Services, meeting: Meeting) -> Admission:
    """The host's place at POST /rooms, before any decision on consent: the token says that it is pending, and
    signaling asks by ConsentRequested."""
    now = services.clock.now()
    request = _request(services, meeting, meeting.host_id, Role.HOST, now, require_consent=False)
    joined = await services.meetings.join(request)
    if isinstance(joined, Refused):
        raise joined
    pending = bool(await _undecided(services, meeting, meeting.host_id))
    return await _admit(services, meeting, joined, now, consent_pending=pending)


def _request(
    services: Services, meeting: Meeting, user_id: UserId, role: Role, now: datetime, *, require_consent: bool = True
) -> JoinRequest:
    return JoinRequest(
        meeting_id=meeting.id,
        user_id=user_id,
        role=role,
        now=now,
        lease_until=now + media.place_life(services, meeting),
        session_id=SessionId(services.ids.new()),
        require_consent=require_consent,
        early_s=services.config.join_early.total_seconds(),
    )


def _role(meeting: Meeting, user_id: UserId, wanted: Role | None) -> Role:
    if wanted is Role.HOST and user_id != meeting.host_id:
        raise Refused("role-not-allowed", "Only the host joins as host.")
    return role_of(meeting, user_id, wanted)


async def _check_password(
    services: Services, caller: Caller, meeting: Meeting, user_id: UserId, password: str | None, now: datetime
) -> None:
    """The host set the password and is not asked for it. Each try counts, right or wrong, for the one who calls: an
    admin's tries for others are the admin's."""
    if meeting.password_hash is None or user_id == meeting.host_id:
        return
    if not password:
        raise Refused("password-required")
    wait_s = await services.limiter.take(f"password:{caller.user_id}:{meeting.id}", PASSWORD_TRIES, now)
    if wait_s > 0:
        raise Refused("too-many-tries", extra={"retryAfterS": wait_s})
    if not await services.passwords.verify(meeting.password_hash, Secret(password)):
        raise Refused("wrong-password")


async def _check_consent_token(
    services: Services, meeting: Meeting, user_id: UserId, token: str, now: datetime
) -> None:
    """A given token has to be ours, live, this user's, of this meeting, and name an entry that exists."""
    try:
        claims = await services.tokens.verify_consent(token, now)
    except Refused as refused:
        cause = str(refused.extra.get("cause", "malformed"))
        raise await _refused_consent(services, meeting, user_id, cause, now) from None
    if (claims.user_id, claims.meeting_id) != (user_id, meeting.id):
        raise await _refused_consent(services, meeting, user_id, "claims", now)
    entry = await services.meetings.consent(meeting.id, claims.consent_id)
    if entry is None or entry.user_id != user_id:
        raise await _refused_consent(services, meeting, user_id, "claims", now)


async def _refused_consent(services: Services, meeting: Meeting, user_id: UserId, cause: str, now: datetime) -> Refused:
    """Audits the refusal and gives it."""
    event = AuditEvent(
        EventId(services.ids.new()),
        AuditAction.TOKEN_REFUSED,
        now,
        "consent-token-refused",
        meeting.tenant_id,
        user_id,
        meeting.id,
        {"token": "consent", "cause": cause},
    )
    await services.audit.write(event)
    return Refused("consent-token-refused")


async def _explained(services: Services, meeting: Meeting, user_id: UserId, refused: Refused) -> Refused:
    """A missing decision is answered with the texts to decide on."""
    if refused.reason != "consent-required":
        return refused
    missing = await _undecided(services, meeting, user_id)
    texts = [
        {"type": needed.type.value, "text": needed.text, "version": needed.version}
        for needed in consent_required(meeting.settings)
        if needed.type in missing
    ]
    return Refused(refused.reason, refused.detail, extra={"consentRequired": texts})


async def _undecided(services: Services, meeting: Meeting, user_id: UserId) -> frozenset[str]:
    if not consent_required(meeting.settings):
        return frozenset()
    return frozenset(undecided(await services.meetings.consents(meeting.id, user_id), meeting.settings))


async def _admit(
    services: Services, meeting: Meeting, joined: Joined, now: datetime, *, consent_pending: bool
) -> Admission:
    participant = joined.participant
    access = await _enter(services, meeting, joined, now)
    expires_at = now + services.config.join_token_life
    claims = JoinClaims(
        participant_id=participant.id,
        room_id=meeting.id,
        user_id=participant.user_id,
        role=participant.role,
        grants=joined.grants,
        consent_version=joined.consent_version,
        consent_pending=consent_pending,
        region=meeting.region,
        epoch=_NO_EPOCH,
        jti=services.ids.new(),
        not_before=now,
        expires_at=expires_at,
    )
    token = await services.tokens.mint_join(claims)
    ice_servers = services.ice.for_participant(participant.id, now)
    return Admission(
        joined,
        token,
        expires_at,
        services.config.signaling_url,
        ice_servers,
        meeting.settings.media_provider,
        access,
    )


async def _enter(services: Services, meeting: Meeting, joined: Joined, now: datetime) -> ProviderAccess | None:
    """The way into the provider's room. Where there is none, a place that was taken for it is free again."""
    try:
        return await media.admit(services, meeting, joined.participant, now)
    except Exception:
        if not joined.rejoined:
            place = joined.participant
            await services.meetings.mark_left(meeting.id, place.id, now=now, reason="provider-unavailable")
        raise
