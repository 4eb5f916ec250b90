"""Authorization codes and refresh tokens: what was granted, once, to whom, until when.

Codes are single use and live a minute (RFC 6749 4.1.2, RFC 7636). Refresh tokens rotate: each is good once, and the use
of a spent one means that it was stolen, so the whole family is revoked (RFC 9700 4.14.2). A code that comes twice
revokes what it gave. Everything lives in memory with a cap; a restart asks people to sign in again.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode
from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

from local.identity.people import Person

CODE_SECONDS = 60.0
REFRESH_SECONDS = 24 * 3600.0
MAX_LIVE = 10_000

_Entry = TypeVar("_Entry")


@dataclass(frozen=True)
class Grant:
    """What a person allowed a client: the base of a code and of every token that follows from it."""

    client_id: str
    redirect_uri: str
    code_challenge: str
    person: Person
    scope: str
    nonce: str


@dataclass
class _Code:
    grant: Grant
    expires: float
    family: str = ""


@dataclass(frozen=True)
class _Refresh:
    grant: Grant
    family: str
    expires: float


class InvalidGrant(Exception):
    """The code or refresh token is unknown, spent, expired, or not this client's (RFC 6749 5.2)."""


class Grants:
    """The live grants. `now` is in seconds of any clock that only goes forward."""

    def __init__(self) -> None:
        self._codes: OrderedDict[str, _Code] = OrderedDict()
        self._refresh: OrderedDict[str, _Refresh] = OrderedDict()
        self._spent: OrderedDict[str, str] = OrderedDict()  # hash of a spent refresh token -> its family

    def issue_code(self, grant: Grant, now: float) -> str:
        """A new single-use code for `grant`."""
        code = secrets.token_urlsafe(32)
        self._codes[_digest(code)] = _Code(grant, now + CODE_SECONDS)
        _trim(self._codes)
        return code

    def redeem_code(self, code: str, client_id: str, redirect_uri: str, verifier: str, now: float) -> tuple[Grant, str]:
        """The grant behind `code` and its first refresh token. Raises InvalidGrant; a second use revokes the first."""
        entry = self._codes.get(_digest(code))
        if entry is None:
            raise InvalidGrant("The code is unknown.")
        if entry.family:
            self._revoke(entry.family)
            raise InvalidGrant("The code has been used.")
        entry.family = secrets.token_urlsafe(12)
        grant = entry.grant
        if now >= entry.expires:
            raise InvalidGrant("The code has expired.")
        if grant.client_id != client_id or grant.redirect_uri != redirect_uri:
            raise InvalidGrant("The code belongs to another client or address.")
        if not hmac.compare_digest(challenge_of(verifier), grant.code_challenge):
            raise InvalidGrant("The code verifier does not match the challenge.")
        return grant, self._issue_refresh(grant, entry.family, now)

    def redeem_refresh(self, token: str, client_id: str, now: float) -> tuple[Grant, str]:
        """The grant behind a refresh token, and the token that replaces it. Raises InvalidGrant."""
        digest = _digest(token)
        stolen = self._spent.get(digest)
        if stolen is not None:
            self._revoke(stolen)
            raise InvalidGrant("The refresh token has been used; its whole family is revoked.")
        entry = self._refresh.get(digest)
        if entry is None or entry.grant.client_id != client_id:
            raise InvalidGrant("The refresh token is unknown.")
        del self._refresh[digest]
        if now >= entry.expires:
            raise InvalidGrant("The refresh token has expired.")
        self._spent[digest] = entry.family
        _trim(self._spent)
        return entry.grant, self._issue_refresh(entry.grant, entry.family, now)

    def _issue_refresh(self, grant: Grant, family: str, now: float) -> str:
        token = secrets.token_urlsafe(32)
        self._refresh[_digest(token)] = _Refresh(grant, family, now + REFRESH_SECONDS)
        _trim(self._refresh)
        return token

    def _revoke(self, family: str) -> None:
        for digest in [key for key, entry in self._refresh.items() if entry.family == family]:
            del self._refresh[digest]


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier (RFC 7636 4.2)."""
    return urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _trim(entries: OrderedDict[str, _Entry]) -> None:
    while len(entries) > MAX_LIVE:
        entries.popitem(last=False)
