"""Token buckets in this process: the twin of the shared ones in tests, and what holds while Redis is away."""

from collections import OrderedDict
from datetime import datetime
from typing import Final, NamedTuple

from conference.ports.limits import Bucket

MAX_KEYS: Final = 10_000
_EPSILON: Final = 1e-6  # of a token: waiting exactly as long as told has to be enough


class _Level(NamedTuple):
    tokens: float
    at_s: float


class MemoryRateLimiter:
    """Implements the port `RateLimiter` for at most `max_keys` buckets; the one unused longest is forgotten, counted in
    `forgotten`. A forgotten bucket is full again."""

    def __init__(self, *, max_keys: int = MAX_KEYS) -> None:
        self._max_keys = max_keys
        self._levels: OrderedDict[str, _Level] = OrderedDict()
        self.forgotten = 0

    async def take(self, key: str, bucket: Bucket, now: datetime, *, cost: int = 1) -> float:
        return self.take_now(key, bucket, now, cost=cost)

    def take_now(self, key: str, bucket: Bucket, now: datetime, *, cost: int = 1) -> float:
        """`take` without waiting. Raises ValueError where the bucket could never hold the cost."""
        check(bucket, cost)
        now_s, rate = now.timestamp(), bucket.capacity / bucket.per_s
        level = self._levels.pop(key, _Level(bucket.capacity, now_s))
        at_s = max(now_s, level.at_s)  # a clock that was set back refills nothing
        tokens = min(bucket.capacity, level.tokens + (at_s - level.at_s) * rate)
        wait_s = 0.0 if tokens + _EPSILON >= cost else (cost - tokens) / rate
        self._levels[key] = _Level(tokens if wait_s else max(0.0, tokens - cost), at_s)
        if len(self._levels) > self._max_keys:
            self._levels.popitem(last=False)
            self.forgotten += 1
        return wait_s


def check(bucket: Bucket, cost: int) -> None:
    """Raises ValueError for a bucket that makes no sense or could never hold the cost."""
    if not (0 < cost <= bucket.capacity and bucket.per_s > 0):
        raise ValueError("the cost has to fit into the bucket")
