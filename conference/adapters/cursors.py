"""Cursors of pages that are ordered by a moment and an id: opaque to clients, the same in every adapter."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import UTC, datetime

from conference.domain.errors import ProtocolError
from conference.domain.ids import is_uuid

_LONGEST = 256  # characters; ours have about 100


def encode_cursor(at: datetime, id: str) -> str:
    """Names the last item of a page."""
    return urlsafe_b64encode(f"{at.astimezone(UTC).isoformat()}|{id}".encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Raises ProtocolError("invalid-cursor") for anything that `encode_cursor` did not make."""
    try:
        if len(cursor) > _LONGEST:
            raise ValueError("too long")
        moment, _, id = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition("|")
        at = datetime.fromisoformat(moment)
        if not is_uuid(id) or encode_cursor(at, id) != cursor:
            raise ValueError("not ours")
    except (ValueError, OverflowError, TypeError, binascii.Error):
        raise ProtocolError("invalid-cursor", "the cursor was not given by this list") from None
    return at, id
