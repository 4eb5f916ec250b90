"""The port MediaNodes: one suite, on the Redis adapter and on the one in memory."""

import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from conference.adapters.memory.nodes import MemoryMediaNodes
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode, MediaNodes
from tests.support.redis import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

ONE = MediaNode(NodeId("n1"), "eu", "ws://127.0.0.1:1/control", 0.25, 3)
TWO = MediaNode(NodeId("n2"), "us", "ws://127.0.0.1:2/control", 0.0, 0, draining=True)


@pytest.fixture(params=["memory", "redis"])
async def nodes(request: pytest.FixtureRequest) -> AsyncIterator[MediaNodes]:
    if request.param == "memory":
        yield MemoryMediaNodes(time.monotonic)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = RedisClient(connect(server.url))
    yield RedisMediaNodes(client)
    await client.close()


async def test_nodes_are_listed_as_they_announced_themselves_last(nodes: MediaNodes) -> None:
    assert await nodes.nodes() == []
    await nodes.announce(TWO)
    await nodes.announce(ONE)
    assert await nodes.nodes() == [ONE, TWO]
    busy = replace(ONE, load=0.75, draining=True)
    await nodes.announce(busy)
    assert await nodes.nodes() == [busy, TWO]


async def test_a_node_that_withdraws_is_gone(nodes: MediaNodes) -> None:
    await nodes.announce(ONE)
    await nodes.withdraw(ONE.node_id)
    assert await nodes.nodes() == []


async def test_a_silent_node_is_forgotten_and_comes_back(nodes: MediaNodes) -> None:
    await nodes.announce(ONE, ttl_s=1)
    await nodes.announce(TWO)

    async def only_two() -> bool:
        return await nodes.nodes() == [TWO]

    await eventually(only_two)
    await nodes.announce(ONE)
    assert await nodes.nodes() == [ONE, TWO]
