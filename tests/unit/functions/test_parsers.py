"""What reads a peer's text raises only what it documents, whatever the text."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from conference.adapters.memory.clock import SequenceIds
from conference.domain.claims import Caller
from conference.domain.errors import ProtocolError, Refused
from conference.domain.ids import MeetingId, TenantId, UserId
from conference.domain.meetings import Meeting
from conference.domain.records import Segment
from conference.protocol.events import decode_event
from functions.conditions import expected_version, id_for
from functions.meetings.schemas import JoinIn, MeetingIn
from functions.rooms.schemas import RoomChange
from functions.transcripts.schemas import as_srt, as_vtt
from functions.transcripts.use_cases import FORMATS, choose_format
from functions.users.schemas import ConsentIn
from functions.webhooks.schemas import ReplayIn, WebhookChange, WebhookIn

pytestmark = pytest.mark.unit
MEETING = Meeting(MeetingId("m"), UserId("u"), TenantId("t"), "local", datetime(2026, 1, 1, tzinfo=UTC), version=7)
CALLER = Caller(UserId("u"), TenantId("t"), False, "", "")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(st.text())
@example("*/*;q=nan")
@example("text/vtt;q=1_0,,;;=")
def test_any_accept_header_gives_a_form_or_a_refusal(accept: str) -> None:
    with suppress(Refused):
        assert choose_format(accept) in FORMATS


@given(st.text())
def test_any_if_match_gives_the_version_or_a_refusal(if_match: str) -> None:
    with suppress(Refused):
        assert expected_version(if_match, MEETING) == 7


@given(st.text())
def test_any_idempotency_key_gives_one_id_or_a_refusal(key: str) -> None:
    with suppress(Refused):
        ids = {id_for(CALLER, "POST /v1/rooms", key, SequenceIds()) for _ in range(2)}
        assert len(ids) == 1


@given(st.text() | JSON.map(json.dumps))
def test_any_queue_message_is_an_event_or_a_protocol_error(body: str) -> None:
    with suppress(ProtocolError):
        decode_event(body)


@pytest.mark.parametrize("shape", [MeetingIn, JoinIn, RoomChange, ConsentIn, WebhookIn, WebhookChange, ReplayIn])
@given(content=JSON)
def test_any_json_is_a_body_or_a_validation_error(shape: type[BaseModel], content: Any) -> None:
    with suppress(ValidationError):
        shape.model_validate(content)


@given(st.sampled_from(["scheduledTime", "settings", "password", "hostId"]), JSON)
def test_any_member_is_taken_or_a_validation_error(member: str, value: Any) -> None:
    with suppress(ValidationError):
        body = MeetingIn.model_validate({"hostId": "3f1d7a52-5d0e-5c1b-9a55-7c3f0f0a9d11", member: value})
        body.settings.chosen()


@given(st.sampled_from(["url", "events", "description"]), JSON | st.just(None))
def test_any_member_of_a_webhook_is_taken_or_a_validation_error(member: str, value: Any) -> None:
    with suppress(ValidationError):
        chosen = WebhookChange.model_validate({member: value}).chosen()
        assert set(chosen) <= {member}
        assert value is None or chosen


@pytest.mark.parametrize("form", [as_vtt, as_srt])
@given(text=st.text(), t0=st.floats(0, 1e6))
def test_no_text_can_end_its_cue(form: Callable[[list[Segment]], str], text: str, t0: float) -> None:
    segment = Segment("s1", "p", t0, t0 + 1, "en", text, True)  # type: ignore[arg-type]
    one = form([segment])
    two = form([segment, replace(segment, text="second")])
    assert one.count("-->") == 1
    assert two.count("-->") == 2
    assert len(one.rstrip("\n").split("\n")) <= 6
