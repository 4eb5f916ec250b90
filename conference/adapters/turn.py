"""Ephemeral TURN credentials (draft-uberti-behave-turn-rest): username `expiry:participantId`, password by HMAC.

The TURN server holds the same secret and no list of users. Expiry is checked at Allocate only, so five minutes are
plenty. While the secret is rotated two are live: new credentials are made with the first, both are accepted.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from conference.domain.ids import ParticipantId, Secret
from conference.ports.tokens import IceServer

LIFETIME: Final = timedelta(minutes=5)
_USERNAME: Final = re.compile(r"([0-9]{1,12}):([!-~]{1,128})")


class TurnIceServers:
    """Implements the port `IceServers`. `urls` are turn: or turns: (RFC 7065); none offers nothing.

    Raises ValueError where an address is something else, or there is one and no secret.
    """

    def __init__(
        self,
        urls: Sequence[str],
        secret: Secret | None,
        *,
        previous: Secret | None = None,
        lifetime: timedelta = LIFETIME,
    ) -> None:
        if any(not url.startswith(("turn:", "turns:")) for url in urls):
            raise ValueError("a TURN address starts with turn: or turns:")
        if urls and not (secret and secret.reveal()):
            raise ValueError("a TURN address needs the secret shared with its server")
        if not timedelta(0) < lifetime <= LIFETIME:
            raise ValueError("TURN credentials live at most five minutes")
        self._urls, self._lifetime = tuple(urls), lifetime
        self._secret = secret
        self._accepted = tuple(known for known in (secret, previous) if known and known.reveal())

    def for_participant(self, participant_id: ParticipantId, now: datetime) -> tuple[IceServer, ...]:
        if not self._urls or self._secret is None:
            return ()
        expiry = int((now + self._lifetime).timestamp())
        username = f"{expiry}:{participant_id}"
        return (IceServer(self._urls, username, credential(self._secret, username)),)

    def credentials(self, username: str, now: datetime) -> tuple[Secret, ...]:
        """The passwords that a TURN server has to try for a username, newest secret first (the password itself never
        travels: RFC 8489 9.2.2 keys the message integrity with it). None for a name that is expired or malformed."""
        if participant_of(username, now) is None:
            return ()
        return tuple(credential(secret, username) for secret in self._accepted)

    def verify(self, username: str, password: Secret, now: datetime) -> ParticipantId | None:
        """The participant whose unexpired credentials these are, under either secret; None for others."""
        given = password.reveal().encode()
        matches = [hmac.compare_digest(known.reveal().encode(), given) for known in self.credentials(username, now)]
        return participant_of(username, now) if any(matches) else None


def credential(secret: Secret, username: str) -> Secret:
    """base64(HMAC-SHA1(secret, username)), as TURN servers compute it."""
    digest = hmac.digest(secret.reveal().encode(), username.encode(), hashlib.sha1)
    return Secret(base64.b64encode(digest).decode("ascii"))


def participant_of(username: str, now: datetime) -> ParticipantId | None:
    """Whom an unexpired username names. An expiry beyond our own lifetime was never given out by us."""
    found = _USERNAME.fullmatch(username)
    if found is None or not now.timestamp() < int(found[1]) <= (now + LIFETIME).timestamp():
        return None
    return ParticipantId(found[2])
