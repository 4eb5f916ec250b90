"""What a Redis client raises where the server, or the way to it, fails."""

from typing import Final

from redis.exceptions import RedisClusterException, RedisError

# Of a cluster that cannot be asked redis-py raises RedisClusterException, which is no RedisError.
FAILURES: Final = (RedisError, RedisClusterException, OSError, TimeoutError)
