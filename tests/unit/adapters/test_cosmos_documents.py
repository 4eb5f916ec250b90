"""Entities as documents of Cosmos DB, and the conditions of patches."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters.cosmos import documents
from conference.adapters.cosmos.containers import ALL, AUDIT
from conference.adapters.cosmos.documents import camel, item_id, moment, own_id
from conference.adapters.cosmos.feed import in_order
from conference.adapters.cosmos.operations import literal, one_of, patch
from conference.domain.ids import EventId, MeetingId, ParticipantId, RecordingId, Secret, SessionId
from conference.domain.meetings import Meeting, MeetingSettings, Role
from conference.domain.records import (
    AuditAction,
    AuditEvent,
    DomainEvent,
    EventType,
    Recording,
    RecordingState,
    Segment,
    StorageTier,
)
from local.cosmos.evaluating import compiled
from local.cosmos.parsing import parse_predicate
from tests.support.meetings import HOST, TENANT, a_meeting

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
_NAIVE = NOW.replace(tzinfo=None)
MOMENTS = st.datetimes(min_value=_NAIVE.replace(year=2), max_value=_NAIVE.replace(year=9998), timezones=st.just(UTC))


@given(TEXTS)
def test_any_id_is_an_item_id_and_comes_back(id: str) -> None:
    made = item_id("segment", id)
    assert not set("/\\?#%") & set(made)
    assert own_id({"id": made}) == id


@given(MOMENTS, MOMENTS)
def test_moments_are_texts_that_follow_each_other_as_they_do(first: datetime, second: datetime) -> None:
    assert (moment(first) < moment(second)) == (first < second)
    assert datetime.fromisoformat(moment(first)) == first
    assert moment(first.astimezone(timezone(timedelta(hours=5, minutes=30)))) == moment(first)


@given(TEXTS, TEXTS)
def test_a_text_in_a_condition_is_that_text_and_nothing_else(one: str, other: str) -> None:
    condition = compiled(parse_predicate(f"FROM c WHERE c.name = {literal(one)} AND c.map[{literal(one)}] = 1"))
    assert condition({"name": one, "map": {one: 1}}, {}) is True
    assert (condition({"name": other, "map": {one: 1}}, {}) is True) == (one == other)


def test_a_patch_says_what_it_does_and_when() -> None:
    made = patch("x", set={"a": 1}, add={"n": -2}, remove=("b",), where="c.n > 2", etag='"1"')
    changes = [
        {"op": "set", "path": "/a", "value": 1},
        {"op": "incr", "path": "/n", "value": -2},
        {"op": "remove", "path": "/b"},
    ]
    assert made == ("patch", ("x", changes), {"filter_predicate": "FROM c WHERE c.n > 2", "if_match_etag": '"1"'})
    assert one_of(["a", "b"]) == ("c.id IN (@id0, @id1)", {"id0": "a", "id1": "b"})


def test_names_are_camel_case() -> None:
    assert [camel(name) for name in ("id", "lease_until", "is_recording_enabled")] == [
        "id",
        "leaseUntil",
        "isRecordingEnabled",
    ]


def test_a_meeting_keeps_its_secret_and_its_settings() -> None:
    settings = MeetingSettings(max_participants=7, allowed_roles=(Role.HOST,), languages=("de",))
    meeting = a_meeting(NOW, settings=settings, password_hash=Secret("$argon2id$"), scheduled_time=NOW)
    document = documents.meeting_document(meeting, "print")
    assert (document["passwordHash"], document["fingerprint"], document["kind"]) == ("$argon2id$", "print", "meeting")
    assert "endTime" not in document
    assert documents.meeting(document) == meeting
    assert isinstance(documents.meeting(document), Meeting)


def test_a_document_that_lacks_what_came_later_is_read_with_its_default() -> None:
    document = documents.meeting_document(a_meeting(NOW), "")
    del document["settings"]["waiting_room"]
    assert documents.meeting(document).settings.waiting_room is False


def test_payloads_and_manifests_stay_as_they_are() -> None:
    event = DomainEvent(
        EventId("e"), MeetingId("m"), 3, EventType.MEETING_ENDED, NOW, {"sessionId": None, "n": [1, {"x": 2}]}
    )
    document = documents.event_document(event, None)
    assert "seq" not in document
    assert documents.event(document | {"seq": 3}) == event
    recording = Recording(
        RecordingId("r/1"),
        MeetingId("m"),
        SessionId("s"),
        "blob",
        1.0,
        StorageTier.COOL,
        RecordingState.READY,
        NOW,
        None,
        {"a": {"b": 1}},
    )
    assert documents.recording(documents.recording_document(recording)) == recording
    segment = Segment("s?1", ParticipantId("p"), 0.0, 1, "en", "text", final=False)
    assert documents.segment(documents.segment_document(segment, MeetingId("m"))) == segment


@pytest.mark.parametrize("tenant", [TENANT, None])
def test_an_audit_entry_has_both_parts_of_its_key(tenant: str | None) -> None:
    entry = AuditEvent(EventId("e"), AuditAction.LOGIN, NOW, "ok", tenant, HOST)  # type: ignore[arg-type]
    document = documents.audit_document(entry)
    assert [document[path[1:]] for path in AUDIT.partition_key] == [tenant or "", "2026-01-02"]
    assert documents.audit(document) == entry


@given(st.permutations(range(3)), st.permutations(range(4)))
def test_events_of_one_commit_are_numbered_as_they_were_written(first: list[int], second: list[int]) -> None:
    fed = [
        *({"commit": "x", "place": place} for place in first),
        *({"commit": "a", "place": place} for place in second),
    ]
    assert in_order(fed) == [
        *({"commit": "x", "place": place} for place in range(3)),
        *({"commit": "a", "place": place} for place in range(4)),
    ]


def test_every_container_has_a_name_of_its_own() -> None:
    assert len({definition.name for definition in ALL}) == len(ALL)
