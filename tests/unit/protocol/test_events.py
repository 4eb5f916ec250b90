"""Domain events as text."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent, EventType
from conference.protocol.events import MAX_EVENT_BYTES, decode_event, encode_event

pytestmark = pytest.mark.unit

EVENT = DomainEvent(
    EventId("e"), MeetingId("m"), 3, EventType.MEETING_ENDED, datetime(2026, 1, 1, tzinfo=UTC), {"by": "h"}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_the_text_is_the_documented_one() -> None:
    assert encode_event(EVENT) == (
        '{"id":"e","meetingId":"m","seq":3,"type":"MeetingEnded","at":"2026-01-01T00:00:00Z","payload":{"by":"h"}}'
    )


@given(
    st.builds(
        DomainEvent,
        id=st.text().map(EventId),
        meeting_id=st.text().map(MeetingId),
        seq=st.integers(1, 2**31),
        type=st.sampled_from(EventType),
        at=st.datetimes(timezones=st.just(UTC)),
        payload=st.dictionaries(st.text(), JSON, max_size=3),
    )
)
def test_an_event_comes_back_as_it_was(event: DomainEvent) -> None:
    assert decode_event(encode_event(event)) == event


def test_a_time_of_another_zone_is_the_same_instant_in_utc() -> None:
    text = encode_event(EVENT).replace("00:00:00Z", "05:30:00+05:30")
    assert decode_event(text) == EVENT
    assert decode_event(text).at.tzinfo == UTC
    zone = timezone(timedelta(hours=-3))
    moved = DomainEvent(EVENT.id, EVENT.meeting_id, 3, EVENT.type, EVENT.at.astimezone(zone), EVENT.payload)
    assert encode_event(moved) == encode_event(EVENT)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        encode_event(EVENT)[:-1],
        encode_event(EVENT).replace('"seq":3', '"seq":0'),
        encode_event(EVENT).replace('"seq":3', '"seq":"3"'),
        encode_event(EVENT).replace("MeetingEnded", "MeetingMoved"),
        encode_event(EVENT).replace("00:00:00Z", "00:00:00"),
        encode_event(EVENT).replace("2026-01-01T00:00:00Z", "0001-01-01T00:00:00+05:00"),
        encode_event(EVENT).replace('"payload"', '"extra":1,"payload"'),
        encode_event(EVENT).replace('{"by":"h"}', "[" * 50_000),
        " " * (MAX_EVENT_BYTES + 1),
    ],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError, match="invalid-event"):
        decode_event(text)


@given(st.text() | st.binary())
def test_the_parser_raises_nothing_else(text: str | bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_event(text)
