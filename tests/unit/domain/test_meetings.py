"""Entities: places, lists, and what a change tells."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from conference.domain import events
from conference.domain.ids import EventId, MeetingId, ParticipantId, SessionId, TenantId, UserId
from conference.domain.meetings import Meeting, Participant, Role, Session
from conference.domain.records import AuditAction, EventType

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
MEETING = Meeting(MeetingId("m"), UserId("h"), TenantId("t"), "local", NOW)
STAY = Participant(
    ParticipantId("p"), MeetingId("m"), SessionId("s"), UserId("u"), Role.ATTENDEE, NOW, NOW + timedelta(seconds=90)
)


def test_a_place_is_live_until_its_lease_ends_or_its_holder_leaves() -> None:
    assert STAY.is_live(NOW)
    assert STAY.is_live(STAY.lease_until - timedelta(microseconds=1))
    assert not STAY.is_live(STAY.lease_until)
    assert not replace(STAY, left_at=NOW).is_live(NOW)


def test_a_meeting_is_listed_by_its_start_else_its_schedule_else_its_creation() -> None:
    scheduled, started = NOW + timedelta(hours=1), NOW + timedelta(hours=2)
    assert MEETING.listed_at == NOW
    assert replace(MEETING, scheduled_time=scheduled).listed_at == scheduled
    assert replace(MEETING, scheduled_time=scheduled, start_time=started).listed_at == started


def test_a_change_becomes_a_numbered_event_and_an_audit_entry() -> None:
    change = events.participant_left(replace(STAY, left_at=NOW), events.LEFT_TIMEOUT)
    event = change.numbered(EventId("e"), MEETING.id, 7)
    assert (event.seq, event.type, event.at) == (7, EventType.PARTICIPANT_LEFT, NOW)
    assert event.payload == {
        "participantId": "p",
        "sessionId": "s",
        "userId": "u",
        "role": "attendee",
        "reason": "timeout",
    }
    entry = change.audited(EventId("a"), MEETING.id, MEETING.tenant_id)
    assert entry is not None
    assert (entry.action, entry.user_id, entry.tenant_id) == (AuditAction.PARTICIPANT_LEFT, STAY.user_id, "t")
    assert entry.detail == {"participantId": "p", "sessionId": "s", "role": "attendee", "reason": "timeout"}


def test_the_audited_changes_are_those_of_the_contract() -> None:
    session = Session(SessionId("s"), MEETING.id, NOW)
    told = [
        (events.room_created(MEETING), AuditAction.ROOM_CREATED),
        (events.participant_joined(STAY, NOW), AuditAction.PARTICIPANT_JOINED),
        (events.session_started(session, STAY.user_id), None),
        (events.meeting_ended(session, MEETING.host_id, NOW), None),
    ]
    for change, action in told:
        entry = change.audited(EventId("a"), MEETING.id, MEETING.tenant_id)
        assert (entry.action if entry else None) is action


def test_what_is_unknown_is_left_out_of_the_audit_detail() -> None:
    change = replace(events.room_created(MEETING), payload={"hostId": "h", "sessionId": None})
    entry = change.audited(EventId("a"), MEETING.id, MEETING.tenant_id)
    assert entry is not None
    assert entry.detail == {"hostId": "h"}
