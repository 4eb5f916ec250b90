"""Nonces that the server need not remember: a time and a keyed hash of it and of the client's address."""

import hashlib
import hmac
from typing import Final

from conference.domain.addresses import IpAddress

LIFE_S: Final = 600.0
_TIME: Final = 8  # hexadecimal digits of the second
_MAC: Final = 16


class Nonces:
    """`key` is random bytes of the process; `random_bytes` gives fresh ones."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._count = 0

    def make(self, client: tuple[IpAddress, int], now: float) -> bytes:
        stamp = f"{int(now) & 0xFFFF_FFFF:08x}".encode()
        return stamp + self._mac(stamp, client)

    def knows(self, nonce: bytes, client: tuple[IpAddress, int], now: float) -> bool:
        """True for a nonce that was made for this client within ten minutes."""
        stamp, mac = nonce[:_TIME], nonce[_TIME:]
        if not hmac.compare_digest(self._mac(stamp, client), mac):
            return False
        return 0 <= now - int(stamp, 16) <= LIFE_S

    def transaction_id(self) -> bytes:
        """Of an indication; nobody answers it."""
        self._count += 1
        return hmac.digest(self._key, self._count.to_bytes(8, "big"), hashlib.sha256)[:12]

    def _mac(self, stamp: bytes, client: tuple[IpAddress, int]) -> bytes:
        about = stamp + client[0].packed + client[1].to_bytes(2, "big")
        return hmac.digest(self._key, about, hashlib.sha256).hex()[:_MAC].encode()
