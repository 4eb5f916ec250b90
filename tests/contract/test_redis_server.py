"""The server that the tests of Redis adapters stand on: it is empty at the start, and it can be made to disappear."""

import pytest
import redis

from tests.support.redis import RedisServer

pytestmark = pytest.mark.contract


def _client(server: RedisServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, socket_timeout=0.2, retry=None)


def test_a_restart_empties_the_server_and_keeps_its_address(redis_server: RedisServer) -> None:
    with _client(redis_server) as client:
        client.set("key", "value")
    redis_server.restart_empty()
    with _client(redis_server) as client:
        assert client.dbsize() == 0


def test_a_paused_server_does_not_answer_until_it_is_resumed(redis_server: RedisServer) -> None:
    with _client(redis_server) as client, redis_server.paused(), pytest.raises(redis.TimeoutError):
        client.ping()
    with _client(redis_server) as client:
        assert client.ping()


def test_it_is_at_least_version_7(redis_server: RedisServer) -> None:
    with _client(redis_server) as client:
        assert int(client.info("server")["redis_version"].split(".")[0]) >= 7
