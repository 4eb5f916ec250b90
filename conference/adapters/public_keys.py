"""Keys that verify tokens, by kid: of the own set, or read from a JWKS address and cached.

The cache forgets nothing on a failed fetch, asks once on a kid that it does not know, and never more often than a floor
interval, so a stranger's made-up kids cannot turn us into load on the issuer. `max_age` is shorter than the ten minutes
by which a new key is published before its first use: a cache knows every key before it meets it.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from conference.adapters import jws
from conference.domain.errors import Unavailable
from conference.ports.tokens import PublicKeys, SigningKeys

FetchJson = Callable[[str], Awaitable[object]]  # raises Unavailable
MAX_AGE: Final = timedelta(minutes=5)
FLOOR: Final = timedelta(seconds=10)
RETRY: Final = timedelta(seconds=1)  # after a failed fetch, while there is no key at all
MAX_KEYS: Final = 100
_NEVER: Final = datetime.min.replace(tzinfo=UTC)

Jwk = Mapping[str, object]


async def open_token(
    token: str, profile: jws.Profile, keys: PublicKeys, now: datetime
) -> tuple[dict[str, object], Jwk]:
    """The claims of a token that one of the keys has signed, and that key. Raises Refused("token-refused"),
    Unavailable."""
    sealed = jws.read_sealed(token, profile)
    jwk = await keys.key(sealed.kid, now)
    if jwk is None:
        jws.refuse("unknown-kid")
    return jws.open_sealed(sealed, jwk), jwk


class OwnPublicKeys:
    """The public halves of the own signing keys, without a network. Implements the port `PublicKeys`."""

    def __init__(self, signing: SigningKeys) -> None:
        self._signing = signing

    async def jwks(self, now: datetime) -> Mapping[str, object]:
        """A JWK Set (RFC 7517 5). Makes the first key where there is none, so that the set is never empty."""
        await self._signing.current(now)
        return {"keys": [jws.public_jwk(key.kid, key.pem) for key in await self._signing.published(now)]}

    async def key(self, kid: str, now: datetime) -> Jwk | None:
        for key in await self._signing.published(now):
            if key.kid == kid:
                return jws.public_jwk(key.kid, key.pem)
        return None


class CachedKeys(ABC):
    """A JWK Set that is read from elsewhere; a subclass says how. Implements the port `PublicKeys`."""

    def __init__(self, *, max_age: timedelta = MAX_AGE, floor: timedelta = FLOOR, retry: timedelta = RETRY) -> None:
        self._max_age, self._floor, self._retry = max_age, floor, retry
        self._keys: dict[str, Jwk] = {}
        self._fetched_at = self._tried_at = _NEVER
        self._one_at_a_time = asyncio.Lock()

    @abstractmethod
    async def _read(self) -> object:
        """The JWK Set as parsed JSON. Raises Unavailable."""

    async def jwks(self, now: datetime) -> Mapping[str, object]:
        await self._keep_fresh(now)
        return {"keys": list(self._keys.values())}

    async def key(self, kid: str, now: datetime) -> Jwk | None:
        """The JWK, or None. Raises Unavailable where no set could be read so far."""
        await self._keep_fresh(now)
        # Whoever comes while the set is being read waits for that, as it may well bring the key.
        if kid not in self._keys and (self._one_at_a_time.locked() or self._may_try(now, self._floor)):
            await self._refresh(now, self._floor)
        return self._keys.get(kid)

    async def _keep_fresh(self, now: datetime) -> None:
        if not self._keys:
            await self._refresh(now, self._retry)
            if not self._keys:
                raise Unavailable("the issuer's keys", after_s=self._retry.total_seconds())
        elif _past(now, self._fetched_at, self._max_age) and not self._one_at_a_time.locked():
            await self._refresh(now, self._floor)  # whoever comes meanwhile goes on with the old keys

    def _may_try(self, now: datetime, pause: timedelta) -> bool:
        return _past(now, self._tried_at, pause)

    async def _refresh(self, now: datetime, pause: timedelta) -> None:
        async with self._one_at_a_time:
            if not self._may_try(now, pause):  # somebody else has just tried
                return
            self._tried_at = now
            try:
                keys = _usable_keys(await self._read())
            except Unavailable:
                return
            if keys:
                self._keys, self._fetched_at = keys, now


class RemotePublicKeys(CachedKeys):
    """The keys at a JWKS address."""

    def __init__(
        self, url: str, fetch_json: FetchJson, *, max_age: timedelta = MAX_AGE, floor: timedelta = FLOOR
    ) -> None:
        super().__init__(max_age=max_age, floor=floor)
        self._url, self._fetch_json = url, fetch_json

    async def _read(self) -> object:
        return await self._fetch_json(self._url)


def _past(now: datetime, since: datetime, span: timedelta) -> bool:
    """True once `span` has gone by; also where the clock was set back, as nothing is known then."""
    return now < since or now - since >= span


def _usable_keys(document: object) -> dict[str, Jwk]:
    """The signature keys of a JWK Set by kid; the first of two with one kid counts. Nothing where it is no set."""
    listed = document.get("keys") if isinstance(document, dict) else None
    keys: dict[str, Jwk] = {}
    for jwk in listed[:MAX_KEYS] if isinstance(listed, list) else ():
        kid = jwk.get("kid") if isinstance(jwk, dict) else None
        if isinstance(kid, str) and jws.algorithm_of(jwk) is not None:
            keys.setdefault(kid, jwk)
    return keys
