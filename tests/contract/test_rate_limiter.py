"""The port `RateLimiter`: token buckets in memory and in Redis, and what holds while Redis is away."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conference.adapters.memory.limits import MemoryRateLimiter
from conference.adapters.redis.limits import RedisRateLimiter, stricter
from conference.ports.limits import Bucket, RateLimiter
from tests.support.redis import RedisServer
from tests.support.token_kinds import NOW

pytestmark = pytest.mark.contract

TRIES = Bucket(capacity=5, per_s=60)


def _after(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


@pytest.fixture
async def client(redis_server: RedisServer) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_server.url, retry=Retry(NoBackoff(), 0)) as client:
        yield client


@pytest.fixture
def shared(client: Redis) -> RedisRateLimiter:
    return RedisRateLimiter(client, timeout_s=2)


@pytest.fixture(params=["memory", "redis"])
def limiter(request: pytest.FixtureRequest) -> RateLimiter:
    if request.param == "memory":
        return MemoryRateLimiter()
    limiter: RateLimiter = request.getfixturevalue("shared")
    return limiter


async def test_a_full_bucket_allows_its_capacity_and_then_tells_how_long_to_wait(limiter: RateLimiter) -> None:
    assert [await limiter.take("user", TRIES, NOW) for _ in range(5)] == [0.0] * 5
    assert await limiter.take("user", TRIES, NOW) == pytest.approx(12.0)


async def test_after_the_wait_that_was_told_one_more_is_allowed(limiter: RateLimiter) -> None:
    await limiter.take("user", TRIES, NOW, cost=5)
    wait_s = await limiter.take("user", TRIES, NOW)
    assert await limiter.take("user", TRIES, NOW + _after(wait_s - 0.1)) > 0
    assert await limiter.take("user", TRIES, NOW + _after(wait_s)) == 0.0
    assert await limiter.take("user", TRIES, NOW + _after(wait_s)) > 0


async def test_asking_in_vain_costs_nothing(limiter: RateLimiter) -> None:
    await limiter.take("user", TRIES, NOW, cost=5)
    for _ in range(20):
        await limiter.take("user", TRIES, NOW)
    assert await limiter.take("user", TRIES, NOW + _after(12)) == 0.0


async def test_a_bucket_never_holds_more_than_its_capacity(limiter: RateLimiter) -> None:
    await limiter.take("user", TRIES, NOW)
    later = NOW + timedelta(days=1)
    assert await limiter.take("user", TRIES, later, cost=5) == 0.0
    assert await limiter.take("user", TRIES, later) > 0


async def test_keys_do_not_share_a_bucket(limiter: RateLimiter) -> None:
    await limiter.take("one", TRIES, NOW, cost=5)
    assert await limiter.take("other", TRIES, NOW) == 0.0


async def test_a_clock_that_is_set_back_refills_nothing(limiter: RateLimiter) -> None:
    await limiter.take("user", TRIES, NOW, cost=5)
    assert await limiter.take("user", TRIES, NOW - timedelta(hours=1)) > 0
    assert await limiter.take("user", TRIES, NOW) > 0


async def test_any_text_is_a_key(limiter: RateLimiter) -> None:
    for key in ("", "a" * 10_000, "{slot}\r\nDEL", "é\x00"):
        assert await limiter.take(key, TRIES, NOW) == 0.0


@pytest.mark.parametrize(("bucket", "cost"), [(TRIES, 6), (TRIES, 0), (TRIES, -1), (Bucket(1, 0), 1)])
async def test_a_cost_that_never_fits_is_an_error_of_ours(limiter: RateLimiter, bucket: Bucket, cost: int) -> None:
    with pytest.raises(ValueError, match="bucket"):
        await limiter.take("user", bucket, NOW, cost=cost)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(st.tuples(st.floats(0, 30), st.integers(1, 5)), max_size=12))
async def test_both_decide_alike(client: Redis, shared: RedisRateLimiter, steps: list[tuple[float, int]]) -> None:
    await client.flushall()
    memory, now = MemoryRateLimiter(), NOW
    for pause_s, cost in steps:
        now += _after(round(pause_s, 3))
        expected = await memory.take("user", TRIES, now, cost=cost)
        assert await shared.take("user", TRIES, now, cost=cost) == pytest.approx(expected, abs=1e-3)


# --- memory ---


async def test_the_process_remembers_a_bounded_number_of_keys() -> None:
    limiter = MemoryRateLimiter(max_keys=2)
    for key in ("one", "two", "three"):
        await limiter.take(key, TRIES, NOW, cost=5)
    assert limiter.forgotten == 1
    assert await limiter.take("three", TRIES, NOW) > 0
    assert await limiter.take("two", TRIES, NOW) > 0
    assert await limiter.take("one", TRIES, NOW) == 0.0


# --- Redis ---


async def test_instances_share_a_bucket(client: Redis) -> None:
    here, there = RedisRateLimiter(client, timeout_s=2), RedisRateLimiter(client, timeout_s=2)
    await here.take("user", TRIES, NOW, cost=5)
    assert await there.take("user", TRIES, NOW) > 0


async def test_a_bucket_in_redis_has_an_end_and_its_name_tells_nobody_whose_it_is(
    shared: RedisRateLimiter, client: Redis
) -> None:
    await shared.take("user@parley.test", TRIES, NOW)
    (key,) = await client.keys("*")
    assert b"user" not in key
    assert 0 < await client.pttl(key) <= 61_000


async def test_without_redis_a_quarter_is_allowed(client: Redis, redis_server: RedisServer) -> None:
    limiter, bucket = RedisRateLimiter(client), Bucket(capacity=8, per_s=60)
    redis_server.kill()
    assert [await limiter.take("user", bucket, NOW) for _ in range(3)] == [0.0, 0.0, pytest.approx(30.0)]
    assert limiter.alone == 3


async def test_a_cluster_without_nodes_decides_nothing_either() -> None:
    away = RedisCluster(host="127.0.0.1", port=9, retry=Retry(NoBackoff(), 0))
    limiter = RedisRateLimiter(away, timeout_s=2)
    assert [await limiter.take("user", TRIES, NOW) for _ in range(2)] == [0.0, pytest.approx(60.0)]
    assert limiter.alone == 2


async def test_a_frozen_redis_costs_one_short_wait_a_pause(client: Redis, redis_server: RedisServer) -> None:
    limiter = RedisRateLimiter(client, timeout_s=0.2, pause=_after(1))
    asked = 0
    shared = limiter._shared

    async def counting(*args: object) -> float:
        nonlocal asked
        asked += 1
        return await shared(*args)  # type: ignore[arg-type]

    limiter._shared = counting  # type: ignore[method-assign, assignment]
    with redis_server.paused():
        for step in range(10):
            await limiter.take("user", TRIES, NOW + _after(step / 10))
        assert asked == 1
        await limiter.take("user", TRIES, NOW + _after(1))
        assert asked == 2
    assert limiter.alone == 11


async def test_when_redis_is_back_it_decides_again(client: Redis, redis_server: RedisServer) -> None:
    limiter = RedisRateLimiter(client, timeout_s=2)
    redis_server.kill()
    await limiter.take("user", TRIES, NOW)
    redis_server.start()
    assert [await limiter.take("user", TRIES, NOW + _after(2)) for _ in range(5)] == [0.0] * 5
    assert limiter.alone == 1


def test_alone_every_bucket_still_lets_something_through() -> None:
    assert stricter(Bucket(1, 60)) == Bucket(1, 60)
    assert stricter(Bucket(10, 60), cost=7) == Bucket(7, 60)
