"""Clocks, ids and cursors."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conference.adapters.cursors import decode_cursor, encode_cursor
from conference.adapters.memory.clock import ManualClock, SequenceIds
from conference.adapters.system import SystemClock, SystemIds
from conference.domain.errors import ProtocolError
from conference.domain.ids import is_uuid

pytestmark = pytest.mark.unit


def test_the_systems_clock_tells_utc_and_goes_forward() -> None:
    clock = SystemClock()
    before = clock.now()
    assert before.tzinfo == UTC
    assert timedelta(0) <= clock.now() - before < timedelta(minutes=1)


def test_the_systems_ids_are_random_uuids() -> None:
    ids = SystemIds()
    made = {ids.new() for _ in range(100)}
    assert len(made) == 100
    assert all(is_uuid(id) and UUID(id).version == 4 for id in made)


def test_a_manual_clock_stands_until_it_is_moved() -> None:
    clock = ManualClock()
    start = clock.now()
    assert clock.now() == start
    assert clock.advance(1.5) == start + timedelta(seconds=1.5) == clock.now()


def test_sequences_of_ids_are_uuids_that_never_meet() -> None:
    first, second = SequenceIds(), SequenceIds(1)
    made = [ids.new() for ids in (first, second) for _ in range(50)]
    assert len(set(made)) == 100
    assert all(is_uuid(id) for id in made)


@given(st.datetimes(timezones=st.just(UTC)), st.uuids().map(str))
def test_a_cursor_leads_back_to_where_it_was_given(at: datetime, id: str) -> None:
    assert decode_cursor(encode_cursor(at, id)) == (at, id)


@given(st.text() | st.text(alphabet="ABCDEFGHabcdefgh0123456789-_=", max_size=300))
def test_any_other_text_is_a_cursor_of_nobody(text: str) -> None:
    with pytest.raises(ProtocolError, match="invalid-cursor"):
        decode_cursor(text)


@given(st.datetimes(timezones=st.just(UTC)), st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
@example(datetime(2026, 1, 1, tzinfo=UTC), "a\0b")
def test_a_cursor_that_names_no_id_of_ours_is_refused(at: datetime, id: str) -> None:
    with pytest.raises(ProtocolError, match="invalid-cursor"):
        decode_cursor(encode_cursor(at, id))
