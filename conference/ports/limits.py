"""Rate limits: token buckets."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Bucket:
    """`capacity` tokens, refilled evenly over `per_s` seconds."""

    capacity: int
    per_s: float


class RateLimiter(Protocol):
    """Buckets shared by instances; a stricter one in the process while the shared store is away."""

    async def take(self, key: str, bucket: Bucket, now: datetime, *, cost: int = 1) -> float:
        """0.0 where allowed, else seconds until it may be tried again."""
        ...
