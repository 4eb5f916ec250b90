"""Keys that wrap keys: what is secret at rest is encrypted with a key of its own, and that key is wrapped here."""

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """`key_id` names the version of the key that wrapped it."""

    key_id: str
    algorithm: str
    wrapped: bytes = field(repr=False)


class KeyRing(Protocol):
    """Versions of one key-encryption key; none ever leaves it. Raises Unavailable where it does not answer, and where
    a version is gone or may not be used (not retryable)."""

    async def wrap(self, key: bytes) -> WrappedKey:
        """Wraps a key of 32 bytes with the newest version; makes the first one where the ring may."""
        ...

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        """With the version that wrapped it. Raises ValueError for what this ring has not wrapped."""
        ...

    async def rotate(self) -> str:
        """Makes a new version, which wraps from now on, and gives its id. Older ones go on unwrapping."""
        ...
