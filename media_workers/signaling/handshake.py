"""The WebSocket handshake's rules: origin, subprotocols, no token in the address (contracts.md section 4).

Nothing of the subprotocol header is logged or echoed, since it may carry the token.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from conference.protocol.http_origin import origin_allowed

SUBPROTOCOL: Final = "parley.v1"
_TOKEN_PREFIX: Final = "token."  # noqa: S105 - a name, no secret
_WORD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 7230 token, which is what a subprotocol is
_MOST_BYTES: Final = 9_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """`selected` is the subprotocol to answer with; `token` came beside it."""

    selected: bool
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """An HTTP status and a sentence for a developer."""

    status: int
    text: str


def check(
    headers: Mapping[str, str], query: Mapping[str, str], protocols: list[str], origins: frozenset[str]
) -> Accepted | Rejected:
    """Judges a handshake. `protocols` are the values of Sec-WebSocket-Protocol."""
    if any("token" in name.lower() for name in query):
        return Rejected(400, "The token never goes into the address: send it in JoinRoom or as a subprotocol.")
    if not origin_allowed(headers.get("Origin"), origins):
        return Rejected(403, "This origin is not allowed.")
    if not protocols:
        return Accepted(selected=False)
    words = [word.strip() for value in protocols for word in value.split(",")]
    sound = sum(map(len, words)) <= _MOST_BYTES and all(_WORD.fullmatch(word) for word in words)
    if not sound:
        return Rejected(400, "Sec-WebSocket-Protocol is malformed.")
    if SUBPROTOCOL not in words:
        return Rejected(400, f"Offer the subprotocol {SUBPROTOCOL}.")
    tokens = [word.removeprefix(_TOKEN_PREFIX) for word in words if word.startswith(_TOKEN_PREFIX)]
    if len(tokens) > 1:
        return Rejected(400, "Offer one token.")
    return Accepted(selected=True, token=tokens[0] if tokens else None)


class Strangers:
    """Connections that have not joined: few of one address, and bounded in all."""

    def __init__(self, of_one: int, in_all: int) -> None:
        self._of_one, self._in_all = of_one, in_all
        self._counts: Counter[str] = Counter()
        self._total = 0

    def come(self, address: str) -> bool:
        """False where there are too many already."""
        if self._total >= self._in_all or self._counts.get(address, 0) >= self._of_one:
            return False
        self._counts[address] += 1
        self._total += 1
        return True

    def go(self, address: str) -> None:
        """Joined, or gone."""
        self._total -= 1
        self._counts[address] -= 1
        if self._counts[address] <= 0:
            del self._counts[address]
