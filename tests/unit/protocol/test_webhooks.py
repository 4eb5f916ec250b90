"""Signatures of webhook deliveries, against what another program (`openssl dgst -sha256 -hmac`) makes of the text."""

from datetime import UTC, datetime

import pytest

from conference.domain.ids import EventId, MeetingId, Secret
from conference.domain.records import DomainEvent, EventType
from conference.protocol.webhooks import delivery_headers, signature
from tests.support.webhooks import webhook_id

pytestmark = pytest.mark.unit
FIRST, SECOND = Secret("whsec_first"), Secret("whsec_second")
BODY = b'{"id":"e"}'
OF_FIRST = "d29f37f21e1d09015690cd52c057ac4bc9edc323a87817fd3736d547fe0fee97"
OF_SECOND = "20a15f2f4b00c21b2f9c1d00a1d35f85c2e1f1c7c3c3c884897dfa30749761de"


@pytest.mark.parametrize(
    ("secret", "timestamp", "body", "expected"),
    [
        (FIRST, 1767268800, BODY, OF_FIRST),
        (SECOND, 1767268800, BODY, OF_SECOND),
        (FIRST, 0, b"", "2e424c313e42390393fcce661f8ca0e7426a7a12f0ace61f7658c20deabdf705"),
        (
            FIRST,
            1767268800,
            '{"name":"ä €"}'.encode(),
            "545b85be5737db17db16f97264509b5a9f969dcb9ad638805c27909f475bcfa0",
        ),
    ],
)
def test_a_signature_is_what_openssl_makes_of_it(secret: Secret, timestamp: int, body: bytes, expected: str) -> None:
    assert signature(secret, timestamp, body) == expected


def test_the_headers_name_the_event_and_carry_a_signature_of_each_secret() -> None:
    now = datetime(2026, 1, 1, 12, 0, 0, 999_999, tzinfo=UTC)
    event = DomainEvent(EventId("e"), MeetingId("m"), 3, EventType.MEETING_ENDED, now)
    headers = delivery_headers(event, BODY, webhook_id=webhook_id(1), attempt=7, secrets=(FIRST, SECOND), now=now)
    assert headers == {
        "Content-Type": "application/json",
        "User-Agent": "Parley-Webhooks/1",
        "Parley-Event-Id": "e",
        "Parley-Event-Type": "MeetingEnded",
        "Parley-Webhook-Id": webhook_id(1),
        "Parley-Attempt": "7",
        "Parley-Signature": f"t=1767268800,v1={OF_FIRST},v1={OF_SECOND}",
    }
