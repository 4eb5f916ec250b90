"""A webhook delivery on the wire: a POST whose body is the event (`conference/protocol/events.py`), signed.

`Parley-Signature: t=<unix seconds>,v1=<hex>[,v1=<hex>]`, where each v1 is the HMAC-SHA256 of `<t>.<body>` under one of
the endpoint's valid secrets (the whole text of the secret, as UTF-8, is the key). A receiver takes a delivery if one v1
is right and t is recent; it knows a repeated event by `Parley-Event-Id`. docs/webhooks.md has the receiver's side.
"""

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from conference.domain.ids import Secret, WebhookId
from conference.domain.records import DomainEvent

SIGNATURE: Final = "Parley-Signature"
EVENT_ID: Final = "Parley-Event-Id"
USER_AGENT: Final = "Parley-Webhooks/1"


def signature(secret: Secret, timestamp: int, body: bytes) -> str:
    """HMAC-SHA256 of `<timestamp>.<body>` in hex."""
    return hmac.new(secret.reveal().encode(), b"%d.%b" % (timestamp, body), hashlib.sha256).hexdigest()


def delivery_headers(
    event: DomainEvent, body: bytes, *, webhook_id: WebhookId, attempt: int, secrets: Sequence[Secret], now: datetime
) -> dict[str, str]:
    """The headers of one attempt, which counts from 1."""
    timestamp = int(now.timestamp())
    signatures = [f"v1={signature(secret, timestamp, body)}" for secret in secrets]
    return {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        EVENT_ID: event.id,
        "Parley-Event-Type": event.type.value,
        "Parley-Webhook-Id": webhook_id,
        "Parley-Attempt": str(attempt),
        SIGNATURE: ",".join([f"t={timestamp}", *signatures]),
    }
