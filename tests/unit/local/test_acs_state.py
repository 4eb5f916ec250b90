"""What the local Communication Services server makes of what it is sent."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.acs.state import BadRequest, Conflict, NotFound, Resource

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("2026-01-02T00:00:00Z"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def bodies(*names: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=len(names))


@given(
    bodies("validFrom", "validUntil", "participants"),
    bodies("senderAddress", "recipients", "content"),
    VALUES,
    VALUES,
)
def test_whatever_is_sent_is_taken_or_refused(
    room: dict[str, Any], email: dict[str, Any], scopes: object, minutes: object
) -> None:
    resource = Resource()
    identity, known = resource.new_identity(), resource.create_room({}, "", NOW)
    calls = (
        lambda: resource.create_room(room, "", NOW),
        lambda: resource.update_room(known.id, room, NOW),
        lambda: resource.update_roster(known.id, room),
        lambda: resource.send("one", email),
        lambda: resource.token(identity, scopes, minutes, NOW),
    )
    for call in calls:
        with suppress(BadRequest, NotFound, Conflict):  # any other error is a bug
            call()


def test_a_token_is_good_for_its_identity_until_it_ends_or_is_revoked() -> None:
    resource = Resource()
    first, second = resource.new_identity(), resource.new_identity()
    token, expires = resource.token(first, ["voip"], 60, NOW)
    assert expires == NOW + timedelta(hours=1)
    assert resource.identity_of(token, NOW) == first
    assert resource.identity_of(token, expires) is None
    other, _ = resource.token(second, ["voip.join"], None, NOW)
    resource.revoke(first)
    assert resource.identity_of(token, NOW) is None
    assert resource.identity_of(other, NOW) == second
    again, _ = resource.token(first, ["voip"], 60, NOW)
    assert resource.identity_of(again, NOW) == first
    resource.delete_identity(first)
    assert resource.identity_of(again, NOW) is None


def test_a_room_is_entered_by_its_roster_in_its_time() -> None:
    resource = Resource()
    identity = resource.new_identity()
    window = {"validFrom": (NOW + timedelta(hours=1)).isoformat(), "validUntil": (NOW + timedelta(hours=2)).isoformat()}
    room = resource.create_room({**window, "participants": {identity: {"role": "Consumer"}}}, "r", NOW)
    token, _ = resource.token(identity, ["voip"], 1440, NOW)
    roles = [resource.may_enter(room.id, token, NOW + timedelta(minutes=minutes)) for minutes in (59, 60, 119, 120)]
    assert roles == [None, "Consumer", "Consumer", None]
    resource.update_roster(room.id, {"participants": {identity: None}})
    assert resource.may_enter(room.id, token, NOW + timedelta(minutes=60)) is None


def test_an_operation_sends_one_message_and_no_other() -> None:
    resource = Resource()
    message = {
        "senderAddress": "a@example.com",
        "recipients": {"to": [{"address": "b@example.com"}]},
        "content": {"subject": "s", "plainText": "t"},
    }
    assert resource.send("one", message) is resource.send("one", dict(message))
    with pytest.raises(Conflict):
        resource.send("one", {**message, "senderAddress": "c@example.com"})
    assert len(resource.emails) == 1
