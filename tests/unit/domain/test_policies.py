"""Policies: every yes and every no, with its reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from conference.domain.consent import ConsentLog, ConsentStatus, ConsentType, chained
from conference.domain.errors import ALLOWED, Refused
from conference.domain.ids import ConsentId, MeetingId, ParticipantId, SessionId, TenantId, UserId
from conference.domain.meetings import (
    MediaProvider,
    Meeting,
    MeetingSettings,
    MeetingStatus,
    Participant,
    Role,
    TopologyMode,
)
from conference.domain.policies import (
    check_settings,
    created_id,
    may_change_role,
    may_change_settings,
    may_enter,
    may_host,
    may_see,
    may_take_place,
    participant_id_of,
    provider_of,
    role_of,
    user_id_of,
)

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOST, GUEST, OTHER = UserId("host"), UserId("guest"), UserId("other")
TENANT, ELSEWHERE = TenantId("tenant"), TenantId("elsewhere")
EARLY = timedelta(minutes=15)


def a_meeting(**fields: object) -> Meeting:
    return Meeting(MeetingId("m"), HOST, TENANT, "local", NOW, **fields)  # type: ignore[arg-type]


def reason(decision: object) -> str | None:
    return decision.reason if isinstance(decision, Refused) else None


# --- ids ---


def test_derived_ids_are_uuids_that_every_instance_agrees_on() -> None:
    ids = [
        user_id_of("tenant", "object"),
        created_id(HOST, "POST /meetings", "key"),
        participant_id_of(MeetingId("m"), HOST, 1),
    ]
    assert ids == [
        user_id_of("tenant", "object"),
        created_id(HOST, "POST /meetings", "key"),
        participant_id_of(MeetingId("m"), HOST, 1),
    ]
    assert all(UUID(id).version == 5 for id in ids)
    assert len(set(ids)) == 3


def test_derived_ids_differ_in_each_of_their_parts() -> None:
    assert user_id_of("a", "b") != user_id_of("b", "a")
    assert len({created_id(user, route, key) for user in (HOST, GUEST) for route in "rs" for key in "kl"}) == 8
    assert participant_id_of(MeetingId("m"), HOST, 1) != participant_id_of(MeetingId("m"), HOST, 2)


# --- settings ---


def test_the_default_settings_are_allowed() -> None:
    assert check_settings(MeetingSettings()) == ALLOWED


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (MeetingSettings(max_participants=1), "invalid-body"),
        (MeetingSettings(max_participants=2_001), "invalid-body"),
        (MeetingSettings(allowed_roles=(Role.ATTENDEE,)), "invalid-body"),
        (MeetingSettings(e2ee=True, ai_enabled=True), "e2ee-excludes"),
        (MeetingSettings(e2ee=True, is_recording_enabled=True), "e2ee-excludes"),
        (MeetingSettings(e2ee=True), "not-available"),
        (MeetingSettings(waiting_room=True), "not-available"),
        (MeetingSettings(topology=TopologyMode.MESH), None),
        (MeetingSettings(media_provider=MediaProvider.ACS), "not-available"),
        (MeetingSettings(max_participants=2), None),
        (MeetingSettings(max_participants=2_000), None),
    ],
)
def test_settings_are_judged_by_their_limits_and_by_what_works_here(
    settings: MeetingSettings, expected: str | None
) -> None:
    assert reason(check_settings(settings)) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (MeetingSettings(media_provider=MediaProvider.ACS), None),
        (MeetingSettings(media_provider=MediaProvider.LIVEKIT), "not-available"),
        (MeetingSettings(media_provider=MediaProvider.ACS, ai_enabled=True), "not-available"),
        (MeetingSettings(media_provider=MediaProvider.ACS, is_recording_enabled=True), "not-available"),
        (MeetingSettings(ai_enabled=True, is_recording_enabled=True), None),
    ],
)
def test_a_provider_is_judged_by_what_is_set_up_and_by_what_it_gives(
    settings: MeetingSettings, expected: str | None
) -> None:
    assert reason(check_settings(settings, (MediaProvider.PARLEY, MediaProvider.ACS))) == expected


def test_a_meeting_that_chooses_no_provider_gets_one_that_does_what_it_asks_for() -> None:
    assert provider_of(MeetingSettings(), MediaProvider.ACS) is MediaProvider.ACS
    assert provider_of(MeetingSettings(), MediaProvider.PARLEY) is MediaProvider.PARLEY
    assert provider_of(MeetingSettings(ai_enabled=True), MediaProvider.ACS) is MediaProvider.PARLEY
    assert provider_of(MeetingSettings(is_recording_enabled=True), MediaProvider.LIVEKIT) is MediaProvider.PARLEY


def test_the_provider_of_a_meeting_stays() -> None:
    acs, own = MeetingSettings(media_provider=MediaProvider.ACS), MeetingSettings()
    assert may_change_settings(own, replace(own, max_participants=9)) == ALLOWED
    assert reason(may_change_settings(own, acs)) == "not-available"
    assert reason(may_change_settings(acs, own)) == "not-available"


# --- entering ---


@pytest.mark.parametrize(
    ("user", "wanted", "role"),
    [
        (HOST, None, Role.HOST),
        (HOST, Role.VIEWER, Role.HOST),
        (GUEST, None, Role.ATTENDEE),
        (GUEST, Role.HOST, Role.ATTENDEE),
        (GUEST, Role.VIEWER, Role.VIEWER),
    ],
)
def test_nobody_but_the_host_becomes_host(user: UserId, wanted: Role | None, role: Role) -> None:
    assert role_of(a_meeting(), user, wanted) is role


def test_a_completed_meeting_admits_nobody_not_even_the_host() -> None:
    meeting = a_meeting(status=MeetingStatus.COMPLETED)
    assert reason(may_enter(meeting, HOST, Role.HOST, NOW, EARLY)) == "meeting-ended"


def test_a_role_that_is_not_allowed_stays_out() -> None:
    meeting = a_meeting(settings=MeetingSettings(allowed_roles=(Role.HOST, Role.VIEWER)))
    assert reason(may_enter(meeting, GUEST, Role.ATTENDEE, NOW, EARLY)) == "role-not-allowed"
    assert may_enter(meeting, GUEST, Role.VIEWER, NOW, EARLY) == ALLOWED


def test_the_window_opens_exactly_early_before_the_scheduled_time() -> None:
    meeting = a_meeting(scheduled_time=NOW + EARLY)
    assert may_enter(meeting, GUEST, Role.ATTENDEE, NOW, EARLY) == ALLOWED
    moment_before = may_enter(meeting, GUEST, Role.ATTENDEE, NOW - timedelta(microseconds=1), EARLY)
    assert isinstance(moment_before, Refused)
    assert (moment_before.reason, moment_before.extra) == ("not-started", {"opensAt": NOW.isoformat()})
    assert may_enter(meeting, HOST, Role.HOST, NOW - timedelta(days=1), EARLY) == ALLOWED


def test_a_schedule_at_the_first_moment_of_the_calendar_has_opened() -> None:
    meeting = a_meeting(scheduled_time=datetime.min.replace(tzinfo=UTC))
    assert may_enter(meeting, GUEST, Role.ATTENDEE, NOW, EARLY) == ALLOWED


# --- taking a place ---


def take(settings: MeetingSettings, entries: list[ConsentLog] | None = None, **facts: object) -> object:
    known: dict[str, object] = {"removed": False, "others": 0, "require_consent": True, **facts}
    return may_take_place(settings, entries or [], **known)  # type: ignore[arg-type]


def test_a_place_is_refused_first_to_the_removed_then_to_the_undecided_then_for_want_of_room() -> None:
    settings = MeetingSettings(max_participants=2, ai_enabled=True)
    assert reason(take(settings, removed=True, others=2)) == "removed"
    assert reason(take(settings, others=2)) == "consent-required"
    assert reason(take(settings, others=2, require_consent=False)) == "room-full"
    assert take(settings, others=1, require_consent=False) == ALLOWED


def test_the_refusal_carries_the_texts_that_are_missing() -> None:
    settings = MeetingSettings(ai_enabled=True, is_recording_enabled=True)
    entry = ConsentLog(
        ConsentId("c"), MeetingId("m"), GUEST, None, ConsentType.AI, ConsentStatus.DECLINED, "2026-11", NOW
    )
    refused = take(settings, [chained(entry, "")])
    assert isinstance(refused, Refused)
    asked = refused.extra["consentRequired"]
    assert isinstance(asked, list)
    (needed,) = asked
    assert needed["type"] == "recording"
    assert "recorded" in needed["text"]


# --- roles, seeing, hosting ---


@pytest.mark.parametrize(
    ("has", "wanted", "expected"),
    [
        (Role.ATTENDEE, Role.VIEWER, None),
        (Role.VIEWER, Role.ATTENDEE, None),
        (Role.ATTENDEE, Role.HOST, "role-not-allowed"),
        (Role.HOST, Role.ATTENDEE, "role-not-allowed"),
    ],
)
def test_the_hosts_role_never_changes_hands(has: Role, wanted: Role, expected: str | None) -> None:
    stay = Participant(ParticipantId("p"), MeetingId("m"), SessionId("s"), GUEST, has, NOW, NOW)
    assert reason(may_change_role(stay, wanted, MeetingSettings())) == expected


def test_a_role_outside_the_allowed_ones_is_not_given() -> None:
    stay = Participant(ParticipantId("p"), MeetingId("m"), SessionId("s"), GUEST, Role.ATTENDEE, NOW, NOW)
    settings = MeetingSettings(allowed_roles=(Role.HOST, Role.ATTENDEE))
    assert reason(may_change_role(stay, Role.VIEWER, settings)) == "role-not-allowed"


@pytest.mark.parametrize(
    ("user", "tenant", "expected"),
    [(GUEST, TENANT, None), (HOST, ELSEWHERE, None), (GUEST, ELSEWHERE, "not-found")],
)
def test_a_meeting_of_another_tenant_looks_like_none(user: UserId, tenant: TenantId, expected: str | None) -> None:
    assert reason(may_see(a_meeting(), user, tenant, False)) == expected


@pytest.mark.parametrize(
    ("user", "tenant", "admin", "expected"),
    [
        (HOST, TENANT, False, None),
        (OTHER, TENANT, True, None),
        (OTHER, ELSEWHERE, True, "not-host"),
        (OTHER, TENANT, False, "not-host"),
    ],
)
def test_the_host_or_an_admin_of_their_tenant_hosts(
    user: UserId, tenant: TenantId, admin: bool, expected: str | None
) -> None:
    assert reason(may_host(a_meeting(), user, tenant, admin)) == expected
