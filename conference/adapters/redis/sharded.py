"""Sharded pub/sub of a server or of a cluster under one face: subscribe, ping, and the next message of any node.

redis-py's cluster client reads its nodes one after the other, each for the whole time-out, so that a message of one
node would wait for the silence of another. Here every node has its own read, and the reads are ended before a command
goes out, since two tasks on one connection would both reconnect it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

_READ_S: Final = 2.0
Message = dict[str, Any]


class ShardedPubSub(Protocol):
    async def ssubscribe(self, channel: str) -> None: ...

    async def sunsubscribe(self, channel: str) -> None: ...

    async def ping(self) -> None:
        """A message of each node follows."""
        ...

    async def get_message(self) -> Message | None:
        """The next message, None after a while without; may be cancelled. Raises TimeoutError for a silent node."""
        ...

    async def aclose(self) -> None: ...


def sharded_pubsub(redis: Redis | RedisCluster, *, silence_s: float) -> ShardedPubSub:
    """A connection of its own to each node that has a channel of ours. No answer for `silence_s` means a dead one."""
    if isinstance(redis, RedisCluster):
        return _Cluster(redis, silence_s)
    return _Server(redis, silence_s)


class _Heard:
    """When each node was heard last."""

    def __init__(self, silence_s: float) -> None:
        self._silence_s = silence_s
        self._at: dict[str, float] = {}

    def now(self, node: str) -> None:
        self._at[node] = asyncio.get_running_loop().time()

    def check(self, node: str) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._at.setdefault(node, now) > self._silence_s:
            raise TimeoutError

    def keep(self, nodes: set[str]) -> None:
        self._at = {node: at for node, at in self._at.items() if node in nodes}


class _Server:
    def __init__(self, redis: Redis, silence_s: float) -> None:
        self._pubsub: Any = redis.pubsub()
        self._heard = _Heard(silence_s)

    async def ssubscribe(self, channel: str) -> None:
        await self._pubsub.ssubscribe(channel)

    async def sunsubscribe(self, channel: str) -> None:
        await self._pubsub.sunsubscribe(channel)

    async def ping(self) -> None:
        await self._pubsub.ping()

    async def get_message(self) -> Message | None:
        self._heard.check("")
        message: Message | None = await self._pubsub.get_message(timeout=_READ_S)
        if message is not None:
            self._heard.now("")
        return message

    async def aclose(self) -> None:
        await self._pubsub.aclose()


class _Cluster:
    def __init__(self, redis: RedisCluster, silence_s: float) -> None:
        self._pubsub: Any = redis.pubsub()
        self._redis: Any = redis
        self._heard = _Heard(silence_s)
        self._reads: dict[str, asyncio.Task[Message | None]] = {}

    async def ssubscribe(self, channel: str) -> None:
        if not self._redis.nodes_manager.slots_cache:
            await self._redis.initialize()  # which node has the channel is known only then
        await self._alone(lambda: self._pubsub.ssubscribe(channel))

    async def sunsubscribe(self, channel: str) -> None:
        await self._alone(lambda: self._pubsub.sunsubscribe(channel))

    async def ping(self) -> None:
        for pubsub in tuple(self._pubsub.node_pubsub_mapping.values()):
            await self._alone(pubsub.ping)

    async def get_message(self) -> Message | None:
        nodes = set(self._pubsub.node_pubsub_mapping)
        self._heard.keep(nodes)
        for name in nodes:
            self._heard.check(name)
            if name not in self._reads:
                self._reads[name] = asyncio.create_task(self._read(name))
        if not self._reads:
            await asyncio.sleep(_READ_S)
            return None
        await asyncio.wait(self._reads.values(), timeout=_READ_S, return_when=asyncio.FIRST_COMPLETED)
        for name, read in self._reads.items():
            if read.done():
                del self._reads[name]
                return read.result()
        return None

    async def _read(self, name: str) -> Message | None:
        node = self._redis.get_node(node_name=name)
        if node is None:  # gone from the cluster; its channels move with the next refresh
            await asyncio.sleep(_READ_S)
            return None
        message: Message | None = await self._pubsub.get_sharded_message(timeout=_READ_S, target_node=node)
        if message is not None:
            self._heard.now(name)
        return message

    async def _alone(self, command: Callable[[], Awaitable[object]]) -> None:
        """Runs a command while nothing reads; a read that has its message already is kept."""
        reading = [read for read in self._reads.values() if not read.done()]
        for read in reading:
            read.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        self._reads = {name: read for name, read in self._reads.items() if not read.cancelled()}
        await command()

    async def aclose(self) -> None:
        for read in self._reads.values():
            read.cancel()
        await asyncio.gather(*self._reads.values(), return_exceptions=True)
        self._reads.clear()
        await self._pubsub.aclose()
