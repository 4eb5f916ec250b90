"""docs/webhooks.md: its verification takes what the code signs, and nothing else."""

import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.ids import EventId, MeetingId, Secret
from conference.domain.records import DomainEvent, EventType
from conference.ports.webhooks import SEND_TIMEOUT_S, SendError
from conference.protocol.events import encode_event
from conference.protocol.webhooks import SIGNATURE, delivery_headers
from tests.support.webhooks import webhook_id

pytestmark = pytest.mark.architecture
GUIDE = (Path(__file__).parents[2] / "docs/webhooks.md").read_text(encoding="utf-8")
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
EVENT = DomainEvent(EventId("e"), MeetingId("m"), 7, EventType.MEETING_ENDED, NOW, {"by": "ä"})
BODY = encode_event(EVENT).encode()


def _verification() -> Callable[..., bool]:
    block = re.search(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    assert block
    names: dict[str, Any] = {}
    exec(block[1], names)
    verification: Callable[..., bool] = names["is_genuine"]
    return verification


def _signed(*secrets: str) -> str:
    chosen = [Secret(secret) for secret in secrets]
    headers = delivery_headers(EVENT, BODY, webhook_id=webhook_id(1), attempt=1, secrets=chosen, now=NOW)
    return headers[SIGNATURE]


def test_the_guides_verification_takes_genuine_deliveries_only() -> None:
    is_genuine, now = _verification(), NOW.timestamp()
    assert is_genuine(_signed("whsec_a"), BODY, "whsec_a", now)
    assert is_genuine(_signed("whsec_new", "whsec_a"), BODY, "whsec_a", now + 299)
    assert not is_genuine(_signed("whsec_a"), BODY, "whsec_b", now)
    assert not is_genuine(_signed("whsec_a"), BODY + b" ", "whsec_a", now)
    assert not is_genuine(_signed("whsec_a"), BODY, "whsec_a", now + 301)
    assert not is_genuine(_signed("whsec_a"), BODY, "whsec_a", now - 301)
    later = _signed("whsec_a").replace("t=1767268800", "t=1767268801")
    assert not is_genuine(later, BODY, "whsec_a", now)
    assert not is_genuine(_signed("whsec_a") + ",t=1767268801", BODY, "whsec_a", now)


@given(st.text() | st.text(alphabet="t=v1,0123456789abcdef").map(lambda text: "t=1767268800," + text))
def test_no_text_makes_the_guides_verification_fail_or_believe(header: str) -> None:
    with suppress(UnicodeEncodeError):
        header.encode()  # a header that is no text never reaches it
        assert not _verification()(header, BODY, "whsec_a", NOW.timestamp())


def test_the_guide_names_every_type_every_error_and_the_time_out() -> None:
    errors = SendError.__args__  # type: ignore[attr-defined]
    for name in (*EventType, *errors):
        assert f"`{name}`" in GUIDE, name
    assert f"within {SEND_TIMEOUT_S:.0f} seconds" in GUIDE
