"""Policies: pure decisions that return ALLOWED or Refused(reason). An edge turns them into a status or code, once."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from conference.domain.consent import ConsentLog, consent_required, undecided
from conference.domain.errors import ALLOWED, Allowed, Refused
from conference.domain.ids import MeetingId, ParticipantId, TenantId, UserId
from conference.domain.meetings import (
    MAX_PARTICIPANTS,
    MIN_PARTICIPANTS,
    MediaProvider,
    Meeting,
    MeetingSettings,
    MeetingStatus,
    Participant,
    Role,
)

Decision = Allowed | Refused
_NAMESPACE: Final = uuid.UUID("6f0dbf3c-6f63-5d55-9d2f-0d1c9f4d7a11")  # of all ids that Parley derives


def user_id_of(tenant_id: str, object_id: str) -> UserId:
    """The user's id: derived from the provider's tenant and object id, so every instance agrees without a look-up."""
    return UserId(str(uuid.uuid5(_NAMESPACE, f"user/{tenant_id}/{object_id}")))


def created_id(caller: UserId, route: str, key: str) -> str:
    """The id of what an idempotent POST creates: a retry under the same key finds its own item."""
    return str(uuid.uuid5(_NAMESPACE, f"create/{caller}/{route}/{key}"))


def participant_id_of(meeting_id: MeetingId, user_id: UserId, stay: int) -> ParticipantId:
    """The id of a user's nth stay in a meeting; two concurrent joins of one user propose the same row."""
    return ParticipantId(str(uuid.uuid5(_NAMESPACE, f"participant/{meeting_id}/{user_id}/{stay}")))


def check_settings(
    settings: MeetingSettings, providers: Collection[MediaProvider] = (MediaProvider.PARLEY,)
) -> Decision:
    """Refuses combinations that contradict themselves, and what this installation cannot do. `providers` are the
    media providers that it has."""
    if not MIN_PARTICIPANTS <= settings.max_participants <= MAX_PARTICIPANTS:
        limits = f"maxParticipants is from {MIN_PARTICIPANTS} to {MAX_PARTICIPANTS}."
        return Refused("invalid-body", limits)
    if Role.HOST not in settings.allowed_roles:
        return Refused("invalid-body", "allowedRoles has to contain host.")
    if settings.e2ee and (settings.ai_enabled or settings.is_recording_enabled):
        return Refused("e2ee-excludes")
    missing = {
        "e2ee": settings.e2ee,
        "waitingRoom": settings.waiting_room,
        f"mediaProvider {settings.media_provider}": settings.media_provider not in providers,
    }
    for name, wanted in missing.items():
        if wanted:
            return Refused("not-available", f"{name} is not available here yet.")
    return _check_own_media(settings)


def _check_own_media(settings: MeetingSettings) -> Decision:
    """Recording and AI read the media that passes Parley's own servers; another provider's never does."""
    if settings.media_provider is MediaProvider.PARLEY:
        return ALLOWED
    if settings.is_recording_enabled or settings.ai_enabled:
        name = settings.media_provider.value
        return Refused("not-available", f"Recording and AI need mediaProvider parley; this meeting chooses {name}.")
    return ALLOWED


def provider_of(settings: MeetingSettings, default: MediaProvider) -> MediaProvider:
    """Who carries the media of a meeting that chooses nobody: the installation's default, where it can do what the
    meeting asks for, else Parley."""
    elsewhere = replace(settings, media_provider=default)
    return MediaProvider.PARLEY if isinstance(_check_own_media(elsewhere), Refused) else default


def may_change_settings(before: MeetingSettings, after: MeetingSettings) -> Decision:
    """The media provider is chosen once: the room that it holds does not move."""
    if before.media_provider is not after.media_provider:
        return Refused("not-available", "mediaProvider is chosen when the meeting is created and does not change.")
    return ALLOWED


def role_of(meeting: Meeting, user_id: UserId, wanted: Role | None) -> Role:
    """The role a user joins with: the host is the host; others are attendees unless they ask to view only."""
    if user_id == meeting.host_id:
        return Role.HOST
    return Role.VIEWER if wanted is Role.VIEWER else Role.ATTENDEE


def may_enter(meeting: Meeting, user_id: UserId, role: Role, now: datetime, early: timedelta) -> Decision:
    """Status, window and role; consent and capacity are decided inside the store's transaction."""
    if meeting.status is MeetingStatus.COMPLETED:
        return Refused("meeting-ended")
    if role not in meeting.settings.allowed_roles:
        return Refused("role-not-allowed")
    scheduled = meeting.scheduled_time
    # Added to now and not taken from the schedule, which may be the first moment of the calendar.
    if scheduled is not None and now + early < scheduled and user_id != meeting.host_id:
        return Refused("not-started", extra={"opensAt": (scheduled - early).isoformat()})
    return ALLOWED


def may_take_place(
    settings: MeetingSettings, entries: Sequence[ConsentLog], *, removed: bool, others: int, require_consent: bool
) -> Decision:
    """The part of a join that only the store can decide, from what it read under the meeting's lock.

    `entries` are the user's consent entries in chain order; `others` counts the live places that
    the user competes with: 0 for one who comes back to a place of their own, which is never refused for capacity.
    """
    if removed:
        return Refused("removed")
    missing = undecided(entries, settings) if require_consent else ()
    if missing:
        asked = [need for need in consent_required(settings) if need.type in missing]
        texts = [{"type": need.type.value, "text": need.text, "version": need.version} for need in asked]
        return Refused("consent-required", extra={"consentRequired": texts})
    if others >= settings.max_participants:
        return Refused("room-full")
    return ALLOWED


def may_change_role(participant: Participant, role: Role, settings: MeetingSettings) -> Decision:
    """The host's role never changes hands, and allowedRoles holds."""
    if Role.HOST in (participant.role, role) or role not in settings.allowed_roles:
        return Refused("role-not-allowed")
    return ALLOWED


def may_see(meeting: Meeting, user_id: UserId, tenant_id: TenantId, is_admin: bool) -> Decision:
    """Anybody of the tenant who knows the id may see a meeting; others get the same answer as for none."""
    if tenant_id == meeting.tenant_id or user_id == meeting.host_id:
        return ALLOWED
    return Refused("not-found")


def may_host(meeting: Meeting, user_id: UserId, tenant_id: TenantId, is_admin: bool) -> Decision:
    """The host, or an admin of the host's tenant."""
    if user_id == meeting.host_id or (is_admin and tenant_id == meeting.tenant_id):
        return ALLOWED
    return Refused("not-host")
