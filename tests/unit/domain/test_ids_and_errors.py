"""Ids, secrets and errors: what they accept, and what their reprs keep to themselves."""

import traceback
from datetime import UTC, datetime

import pytest

from conference.domain.errors import REASONS, ProtocolError, Refused, Unavailable
from conference.domain.ids import MeetingId, ParticipantId, Secret, TenantId, UserId, canonical_uuid, is_uuid
from conference.domain.meetings import Meeting, Role, User, parse_role
from conference.domain.records import ActionItem, Segment

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CANONICAL = "6f0dbf3c-6f63-5d55-9d2f-0d1c9f4d7a11"


def test_only_the_canonical_form_is_a_uuid() -> None:
    assert is_uuid(CANONICAL)
    for other in (CANONICAL.upper(), CANONICAL.replace("-", ""), f"{{{CANONICAL}}}", CANONICAL + "\n", "", "x"):
        assert not is_uuid(other)


def test_other_forms_of_a_uuid_become_canonical() -> None:
    assert canonical_uuid(CANONICAL.upper()) == CANONICAL
    assert canonical_uuid(CANONICAL.replace("-", "")) == CANONICAL
    with pytest.raises(ValueError):
        canonical_uuid("room-1")


def test_a_secret_shows_in_no_text_made_of_it() -> None:
    secret = Secret("hunter2")
    shown = [repr(secret), str(secret), f"{secret}", repr({"password": secret})]
    try:
        raise RuntimeError(secret)
    except RuntimeError as error:
        shown.append("".join(traceback.format_exception(error)))
    assert not any("hunter2" in text for text in shown)
    assert secret.reveal() == "hunter2"
    assert secret == Secret("hunter2")
    assert secret != "hunter2"
    assert len({secret, Secret("hunter2"), Secret("other")}) == 2


def test_entities_show_a_short_id_and_nothing_personal() -> None:
    user = User(UserId(CANONICAL), TenantId("t"), "one@example.org", "Number One", NOW)
    assert repr(user) == "<User 6f0dbf3c…>"
    meeting = Meeting(MeetingId(CANONICAL), user.id, user.tenant_id, "local", NOW, password_hash=Secret("hash"))
    assert repr(meeting) == "<Meeting 6f0dbf3c…>"
    segment = Segment("segment-1", ParticipantId("p"), 0.0, 1.0, "en", "what was said", final=True)
    assert "said" not in repr(segment)
    assert "slides" not in repr(ActionItem("send the slides", "Number One", ("s",)))
    assert "Number One" not in repr(ActionItem("send the slides", "Number One", ("s",)))


@pytest.mark.parametrize(
    ("text", "role"),
    [("host", Role.HOST), ("viewer", Role.VIEWER), ("guest", Role.ATTENDEE), ("participant", Role.ATTENDEE)],
)
def test_roles_have_the_names_of_both_parts(text: str, role: Role) -> None:
    assert parse_role(text) is role


def test_an_unknown_role_is_an_error() -> None:
    with pytest.raises(ValueError):
        parse_role("admin")


def test_a_refusal_says_its_own_sentence_or_that_of_its_reason() -> None:
    assert str(Refused("room-full")) == REASONS["room-full"]
    assert str(Refused("room-full", "No chairs left.")) == "No chairs left."
    assert Refused("room-full", extra={"a": 1}) == Refused("room-full")
    with pytest.raises(ValueError):
        Refused("because")


def test_a_refusal_can_be_raised_and_caught_as_itself() -> None:
    with pytest.raises(Refused) as caught:
        raise Refused("removed")
    assert caught.value == Refused("removed")


def test_a_protocol_error_has_a_code_and_an_unavailable_says_when_to_retry() -> None:
    broken = ProtocolError("bad-sdp", "no fingerprint")
    assert (broken.code, broken.detail, str(broken)) == ("bad-sdp", "no fingerprint", "bad-sdp: no fingerprint")
    away = Unavailable("database", after_s=3.0)
    assert (away.what, away.retryable, away.after_s) == ("database", True, 3.0)
