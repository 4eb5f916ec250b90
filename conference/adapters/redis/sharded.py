"""Sharded pub/sub of a server or of a cluster under one face: subscribe, ping, and the next message of any node.

redis-py's pub/sub of a cluster is not used: it reads its nodes one after the other, each for the whole time-out, moves
channels in a task of its own beside whoever reads, and does not sign subscribed connections in anew. Here each node has
one connection with one read at a time, and everything else happens in the task of the caller.

A channel can lose its node: the slot moves (the server says so, or answers MOVED), or the connection breaks. It is then
reported as unsubscribed, the nodes are asked anew who has it, and it is subscribed there; the caller reads from the
stream what came meanwhile. Only when no connection is left does an error go up.
"""

import asyncio
import contextlib
import random
from collections import deque
from typing import Any, Final, Protocol

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AuthenticationError, ConnectionError, MovedError, ResponseError

from conference.adapters.redis.connections import RenewingConnection
from conference.adapters.redis.failures import FAILURES

_READ_S: Final = 2.0
_RETRY_S: Final = 0.2
_KINDS: Final = ("ssubscribe", "sunsubscribe", "smessage")
Message = dict[str, Any]


class _Nodes(Protocol):
    """Who has a channel. Nodes go by name."""

    async def refresh(self) -> None:
        """Asks the server. Raises redis-py's errors."""
        ...

    def of(self, channel: str) -> str:
        """Raises redis-py's errors where nobody has it."""
        ...

    def connection(self, name: str) -> AbstractConnection:
        """A new one, not yet connected. Raises redis-py's errors."""
        ...


class _Server:
    def __init__(self, redis: Redis) -> None:
        self._pool: Any = redis.connection_pool

    async def refresh(self) -> None:
        """There is nothing to ask."""

    def of(self, channel: str) -> str:
        return ""

    def connection(self, name: str) -> AbstractConnection:
        made: AbstractConnection = self._pool.make_connection()
        return made


class _Cluster:
    def __init__(self, redis: RedisCluster) -> None:
        self._redis: Any = redis

    async def refresh(self) -> None:
        await self._redis.nodes_manager.initialize()

    def of(self, channel: str) -> str:
        return str(self._redis.get_node_from_key(channel).name)

    def connection(self, name: str) -> AbstractConnection:
        node = self._redis.get_node(node_name=name)
        if node is None:
            raise ConnectionError("the node has left the cluster")
        made: AbstractConnection = node.connection_class(**node.connection_kwargs | {"retry": Retry(NoBackoff(), 0)})
        return made


class _Link:
    """One connection to one node, and the read that waits on it."""

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._heard_at = asyncio.get_running_loop().time()
        self.read: asyncio.Task[Any] | None = None
        self.leaving: set[str] = set()

    async def open(self) -> None:
        if isinstance(self._connection, RenewingConnection):
            self._connection.owner_renews = True
        connection: Any = self._connection
        await connection.connect()

    async def send(self, *words: str) -> None:
        if not self._connection.is_connected:  # which would connect, and hear nothing of what was subscribed
            raise ConnectionError("the connection is closed")
        await self._connection.send_command(*words, check_health=False)

    async def ping(self) -> None:
        connection = self._connection
        sign_in = connection.next_sign_in() if isinstance(connection, RenewingConnection) else None
        if sign_in is not None:
            await self.send(*sign_in)
        await self.send("PING")

    def start_reading(self) -> "asyncio.Task[Any]":
        if self.read is None:
            self.read = asyncio.create_task(self._read())
            self.read.add_done_callback(_seen)
        return self.read

    def check(self, silence_s: float) -> None:
        """Raises TimeoutError where nothing was heard for so long."""
        if asyncio.get_running_loop().time() - self._heard_at > silence_s:
            raise TimeoutError

    async def _read(self) -> Any:
        """A message, or the plain answer to PING or AUTH; None after a while without. Raises redis-py's errors."""
        try:
            answer = await self._connection.read_response(timeout=_READ_S, disconnect_on_error=False, push_request=True)
        except AuthenticationError:
            if not isinstance(self._connection, RenewingConnection):
                raise
            self._connection.sign_in_refused()
            answer = None
        if answer is not None:
            self._heard_at = asyncio.get_running_loop().time()
        return answer

    async def close(self) -> None:
        """Waits for nothing, so that no cancellation comes between: the read ends a moment later."""
        if self.read is not None:
            self.read.cancel()
        with contextlib.suppress(*FAILURES):
            await self._connection.disconnect(nowait=True)


def _seen(read: "asyncio.Task[Any]") -> None:
    """What a read ends with is no news where its link was closed meanwhile."""
    if not read.cancelled():
        read.exception()


class ShardedPubSub:
    """A connection to each node that has a channel of ours; no answer for `silence_s` means a dead one.

    For one task at a time. `get_message` may be cancelled; the others end what they began."""

    def __init__(self, redis: Redis | RedisCluster, *, silence_s: float) -> None:
        self._nodes: _Nodes = _Cluster(redis) if isinstance(redis, RedisCluster) else _Server(redis)
        self._silence_s = silence_s
        self._links: dict[str, _Link] = {}
        self._homes: dict[str, str] = {}  # channel -> node that was asked for it
        self._lost: set[str] = set()  # channels without a node
        self._told: deque[Message] = deque()
        self._is_stale = isinstance(self._nodes, _Cluster)  # who has a channel is known once it was asked
        self._retry_at = 0.0

    def ssubscribe(self, channel: str) -> None:
        """A message "ssubscribe" follows once `settle` has found the channel's node."""
        if channel not in self._homes:
            self._lost.add(channel)
            self._retry_at = 0.0

    async def sunsubscribe(self, channel: str) -> None:
        self._lost.discard(channel)
        home = self._homes.pop(channel, "")
        link = self._links.get(home)
        if link is not None and channel not in link.leaving:
            link.leaving.add(channel)
            await self._guarded(home, link.send("SUNSUBSCRIBE", channel))

    async def ping(self) -> None:
        """A message of each node follows. Channels whose slot has moved in silence follow it."""
        for name, link in tuple(self._links.items()):
            await self._guarded(name, link.ping())
        for channel, home in tuple(self._homes.items()):
            with contextlib.suppress(*FAILURES):
                if self._nodes.of(channel) != home:
                    await self.sunsubscribe(channel)
                    self._lose(channel)

    async def get_message(self) -> Message | None:
        """The next message: `type`, `channel`, `data`; None after a while without.

        Raises redis-py's errors, OSError and TimeoutError where no node is left to hear."""
        if self._told:
            return self._told.popleft()
        reads = {link.start_reading(): name for name, link in self._links.items()}
        wait_s = min(_READ_S, max(0.0, self._retry_at - asyncio.get_running_loop().time())) if self._lost else _READ_S
        if not reads:
            await asyncio.sleep(wait_s)
            return None
        done, _ = await asyncio.wait(reads, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        for read in done:
            await self._finish(reads[read], read)
        return self._told.popleft() if self._told else None

    async def aclose(self) -> None:
        links = tuple(self._links.values())
        self._links.clear()
        for link in links:
            await link.close()
        await asyncio.gather(*(link.read for link in links if link.read is not None), return_exceptions=True)

    async def settle(self) -> None:
        """Subscribes every channel that has no node, where it is time to try. What fails stays for the next time.

        Raises redis-py's errors, OSError and TimeoutError where no node is there at all."""
        if not self._lost or self._retry_at > asyncio.get_running_loop().time():
            return
        self._retry_at = asyncio.get_running_loop().time() + _RETRY_S * random.uniform(0.5, 1.5)  # noqa: S311
        try:
            if self._is_stale:
                await self._nodes.refresh()
                self._is_stale = False
            for channel in tuple(self._lost):
                await self._subscribe(channel)
        except FAILURES:
            self._is_stale = isinstance(self._nodes, _Cluster)
            if not self._links:
                raise

    async def _subscribe(self, channel: str) -> None:
        name = self._nodes.of(channel)
        link = self._links.get(name)
        if link is None:
            link = _Link(self._nodes.connection(name))
            try:
                await link.open()
            except BaseException:
                await link.close()
                raise
            self._links[name] = link
        self._lost.discard(channel)
        self._homes[channel] = name
        await self._guarded(name, link.send("SSUBSCRIBE", channel))

    async def _finish(self, name: str, read: "asyncio.Task[Any]") -> None:
        link = self._links[name]
        link.read = None
        try:
            answer = read.result()
            link.check(self._silence_s)
        except MovedError as moved:
            self._is_stale = True
            for channel, home in tuple(self._homes.items()):
                if home == name and key_slot(channel.encode()) == moved.slot_id:
                    self._lose(channel)
        except ResponseError:  # a word that the server does not take
            raise
        except FAILURES as error:
            await self._broken(name, error)
        else:
            self._heard(name, link, answer)

    def _heard(self, name: str, link: _Link, answer: Any) -> None:
        if not isinstance(answer, list) or len(answer) != 3 or answer[0] not in _KINDS:
            if answer is not None:  # to PING or AUTH, or news of the server that redis-py has dealt with
                self._told.append({"type": "pong", "channel": None, "data": None})
            return
        kind, channel, data = answer
        if kind != "sunsubscribe":
            self._told.append({"type": kind, "channel": channel, "data": data})
        elif channel in link.leaving:
            link.leaving.discard(channel)
        elif self._homes.get(channel) == name:  # its slot has left the node
            self._is_stale = isinstance(self._nodes, _Cluster)
            self._lose(channel)

    def _lose(self, channel: str) -> None:
        self._homes.pop(channel, None)
        self._lost.add(channel)
        self._told.append({"type": "sunsubscribe", "channel": channel, "data": 0})

    async def _guarded(self, name: str, sending: Any) -> None:
        try:
            await sending
        except FAILURES as error:
            await self._broken(name, error)

    async def _broken(self, name: str, error: Exception) -> None:
        """The node's channels have no node any more. Raises the error where no other connection is there."""
        link = self._links.pop(name, None)
        self._is_stale = isinstance(self._nodes, _Cluster)
        for channel in [channel for channel, home in self._homes.items() if home == name]:
            self._lose(channel)
        if link is not None:
            await link.close()
        if not self._links:
            raise error
