"""Token buckets in Redis, shared by all instances; stricter ones in the process while Redis is away.

One script a take, atomic on one key, so it works on a cluster too. Redis is a directory and may be lost: then each
instance allows a share of the limit by itself, and asks Redis again after a pause, so that a frozen server costs one
short wait a pause and not one a request.
"""

import asyncio
import hashlib
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Final, cast

from redis.asyncio import Redis, RedisCluster

from conference.adapters.memory.limits import MemoryRateLimiter, check
from conference.adapters.redis.failures import FAILURES
from conference.ports.limits import Bucket

TIMEOUT_S: Final = 0.25
PAUSE: Final = timedelta(seconds=1)
SHARE: Final = 4  # a process alone allows a quarter: instances that cannot see each other add up

# KEYS[1] the bucket; ARGV capacity, per_s, now_s, cost. The answer is the wait in seconds, "0" where allowed.
_TAKE: Final = """
local capacity, per_s, now, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local rate = capacity / per_s
local level = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(level[1]) or capacity, tonumber(level[2]) or now
if now > at then
  tokens = math.min(capacity, tokens + (now - at) * rate)
  at = now
end
tokens = math.min(capacity, tokens)
local wait = 0
if tokens + 1e-6 >= cost then
  tokens = math.max(0, tokens - cost)
else
  wait = (cost - tokens) / rate
end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', at))
redis.call('PEXPIRE', KEYS[1], math.ceil(per_s * 1000) + 1000)
return string.format('%.6f', wait)
"""


class RedisRateLimiter:
    """Implements the port `RateLimiter`. `alone` counts the takes that were decided without Redis."""

    def __init__(
        self,
        client: "Redis | RedisCluster",
        *,
        fallback: MemoryRateLimiter | None = None,
        prefix: str = "limit:",
        timeout_s: float = TIMEOUT_S,
        pause: timedelta = PAUSE,
    ) -> None:
        self._client, self._prefix = client, prefix
        self._fallback = fallback or MemoryRateLimiter()
        self._timeout_s, self._pause = timeout_s, pause
        self._failed_at = datetime.min.replace(tzinfo=UTC)
        self.alone = 0

    async def take(self, key: str, bucket: Bucket, now: datetime, *, cost: int = 1) -> float:
        check(bucket, cost)
        if not timedelta(0) <= now - self._failed_at < self._pause:
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._shared(key, bucket, now, cost)
            except FAILURES:
                self._failed_at = now
        self.alone += 1
        return self._fallback.take_now(key, stricter(bucket, cost), now, cost=cost)

    async def _shared(self, key: str, bucket: Bucket, now: datetime, cost: int) -> float:
        hashed = hashlib.sha256(key.encode()).hexdigest()[:32]  # one length whatever the key, and nothing to read
        answer = cast(
            Awaitable[str | bytes],
            self._client.eval(
                _TAKE,
                1,
                self._prefix + hashed,
                str(bucket.capacity),
                str(bucket.per_s),
                f"{now.timestamp():.6f}",
                str(cost),
            ),
        )
        return float(await answer)


def stricter(bucket: Bucket, cost: int = 1) -> Bucket:
    """What one process allows by itself; the cost still fits."""
    return Bucket(capacity=max(cost, bucket.capacity // SHARE), per_s=bucket.per_s)
