"""Media nodes on Redis: the set `media:nodes`, and a hash with a TTL for each that the node renews."""

from collections.abc import Sequence
from typing import Any, Final

from conference.adapters.redis.client import RedisClient
from conference.domain.ids import NodeId
from conference.ports.presence import MediaNode

_NODES: Final = "media:nodes"


class RedisMediaNodes:
    """Implements the port `MediaNodes`."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def announce(self, node: MediaNode, *, ttl_s: int = 15) -> None:
        redis: Any = self._client.redis
        key = _key(node.node_id)
        fields = {
            "region": node.region,
            "address": node.control_url,
            "load": repr(node.load),
            "rooms": str(node.rooms),
            "draining": "1" if node.draining else "0",
        }

        async def write() -> None:
            await redis.hset(key, mapping=fields)
            await redis.expire(key, ttl_s)
            await redis.sadd(_NODES, node.node_id)

        await self._client.run("announce-node", write)

    async def nodes(self) -> Sequence[MediaNode]:
        redis: Any = self._client.redis

        async def read() -> list[MediaNode]:
            found = []
            for node_id in sorted(await redis.smembers(_NODES)):
                fields = await redis.hgetall(_key(node_id))
                if "address" in fields:
                    found.append(_node(node_id, fields))
                else:
                    await redis.srem(_NODES, node_id)  # silent past its TTL; a late announcement adds it again
            return found

        found: list[MediaNode] = await self._client.run("nodes", read)
        return found

    async def withdraw(self, node_id: NodeId) -> None:
        redis: Any = self._client.redis

        async def remove() -> None:
            await redis.srem(_NODES, node_id)
            await redis.delete(_key(node_id))

        await self._client.run("withdraw-node", remove)


def _key(node_id: str) -> str:
    return f"media:node:{node_id}"


def _node(node_id: str, fields: dict[str, str]) -> MediaNode:
    return MediaNode(
        node_id=NodeId(node_id),
        region=fields["region"],
        control_url=fields["address"],
        load=float(fields["load"]),
        rooms=int(fields["rooms"]),
        draining=fields["draining"] == "1",
    )
