"""Hears a process's rooms: sharded pub/sub for speed, the stream for truth.

A room's position is (generation, seq). A message with the next seq is delivered; a gap, a fresh subscription or a
broken connection makes the room read its stream from its position. What arrives meanwhile waits in the stream. The
connection is pinged, because a TCP connection can be dead for many minutes without a sign.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.failures import FAILURES
from conference.adapters.redis.sharded import Message, ShardedPubSub
from conference.adapters.redis.stored import event_of_message
from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId
from conference.ports.presence import RoomEvent

_PING_S: Final = 2.0
_SILENCE_S: Final = 7.0  # three pings unanswered
_RECONNECT_S: Final = 0.2
_RETRY_S: Final = 0.3
_KEEP_OPEN: Final = "signaling:listener"  # a shard channel that is always subscribed

_log = logging.getLogger(__name__)
Since = Callable[[MeetingId, str, int], Awaitable[Sequence[RoomEvent] | None]]


class _Position:
    """How far a room has been delivered. `heard` is the highest seq that pub/sub told of."""

    __slots__ = ("generation", "heard", "reader", "seq", "subscribed")

    def __init__(self, generation: str, seq: int) -> None:
        self.generation = generation
        self.seq = seq
        self.heard = seq
        self.reader: asyncio.Task[None] | None = None
        self.subscribed = asyncio.Event()


class RedisRoomListener:
    """Implements the port `RoomListener`."""

    def __init__(self, client: RedisClient, since: Since, deliver: Callable[[RoomEvent], None]) -> None:
        self._client = client
        self._since = since
        self._deliver = deliver
        self._rooms: dict[MeetingId, _Position] = {}
        self._channels: dict[str, MeetingId] = {}
        self._subscribed: set[str] = set()
        self._waiting: asyncio.Timeout | None = None  # of the read that `_wake` interrupts

    def follow(self, room_id: MeetingId, generation: str, seq: int) -> None:
        old = self._rooms.get(room_id)
        if old is not None and old.reader is not None:
            old.reader.cancel()
        position = self._rooms[room_id] = _Position(generation, seq)
        channel = _channel(room_id)
        self._channels[channel] = room_id
        if channel in self._subscribed:
            position.subscribed.set()
            self._read_stream(room_id, position)
        self._wake()

    def unfollow(self, room_id: MeetingId) -> None:
        position = self._rooms.pop(room_id, None)
        if position is not None and position.reader is not None:
            position.reader.cancel()
        self._channels.pop(_channel(room_id), None)
        self._wake()

    async def ready(self, room_id: MeetingId) -> None:
        position = self._rooms.get(room_id)
        if position is not None:
            await position.subscribed.wait()

    async def run(self) -> None:
        failed = False
        try:
            while True:
                try:
                    async for _ in self._heartbeats():
                        failed = False
                except FAILURES as error:
                    if not failed:
                        _log.warning("listening to rooms was interrupted", extra={"error": type(error).__name__})
                    failed = True
                except Exception:  # a bug in what one event leads to must not deafen the process
                    _log.exception("listening to rooms failed")
                await asyncio.sleep(_RECONNECT_S * random.uniform(0.5, 1.5))  # noqa: S311  # not all processes at once
        finally:
            for position in self._rooms.values():
                if position.reader is not None:
                    position.reader.cancel()

    async def _heartbeats(self) -> AsyncIterator[None]:
        """The life of the connections to all nodes, in one task. Gives a beat whenever a server was heard."""
        pubsub = ShardedPubSub(self._client.redis, silence_s=_SILENCE_S)
        asked: set[str] = set()
        loop = asyncio.get_running_loop()
        pinged = loop.time()
        try:
            pubsub.ssubscribe(_KEEP_OPEN)
            while True:
                asked = await self._subscribe(pubsub, asked)
                await pubsub.settle()
                message = await self._next(pubsub)
                if message is not None:
                    self._heard(message)
                    yield
                if loop.time() - pinged > _PING_S:
                    pinged = loop.time()
                    await pubsub.ping()
        finally:
            self._subscribed.clear()
            with contextlib.suppress(*FAILURES):
                await pubsub.aclose()

    async def _next(self, pubsub: ShardedPubSub) -> Message | None:
        """The next message; None when the time for a ping has come, or rooms came or went. Raises TimeoutError."""
        waiting = self._waiting = asyncio.timeout(None)
        try:
            async with waiting:
                return await pubsub.get_message()
        except TimeoutError:
            if not waiting.expired():
                raise
            return None
        finally:
            self._waiting = None

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, None  # once: a time-out that expires cannot be set again
        if waiting is not None:
            waiting.reschedule(asyncio.get_running_loop().time())

    async def _subscribe(self, pubsub: ShardedPubSub, asked: set[str]) -> set[str]:
        """Makes the connection hear what is followed now; gives that."""
        if self._channels.keys() == asked:
            return asked
        wanted = set(self._channels)  # as of now: rooms come and go during the calls below
        for channel in wanted - asked:
            pubsub.ssubscribe(channel)
        for channel in asked - wanted:
            await pubsub.sunsubscribe(channel)
            self._subscribed.discard(channel)
        return wanted

    def _heard(self, message: Message) -> None:
        kind, channel = message["type"], message["channel"]
        if kind == "ssubscribe":
            self._subscribed.add(channel)
        elif kind == "sunsubscribe":  # its node is lost, and another one is looked for
            self._subscribed.discard(channel)
        room_id = self._channels.get(channel) if isinstance(channel, str) else None
        if room_id is None:
            return
        position = self._rooms[room_id]
        if kind == "ssubscribe":
            position.subscribed.set()
            self._read_stream(room_id, position)
        elif kind == "smessage":
            self._event(event_of_message(room_id, message["data"]), position)

    def _event(self, event: RoomEvent, position: _Position) -> None:
        if event.seq == 0:
            self._deliver(event)
        elif event.generation != position.generation:
            position.heard = position.seq
            self._lost(event.room_id, position)
        elif position.reader is None and event.seq == position.seq + 1:
            position.seq = position.heard = event.seq
            self._deliver(event)
        elif event.seq > position.seq:
            position.heard = max(position.heard, event.seq)
            self._read_stream(event.room_id, position)

    def _read_stream(self, room_id: MeetingId, position: _Position) -> None:
        if position.reader is None:
            position.reader = asyncio.create_task(self._catch_up(room_id, position))

    async def _catch_up(self, room_id: MeetingId, position: _Position) -> None:
        try:
            while self._rooms.get(room_id) is position:
                try:
                    missed = await self._since(room_id, position.generation, position.seq)
                except Unavailable:
                    await asyncio.sleep(_RETRY_S)
                    continue
                if self._rooms.get(room_id) is not position:
                    return
                if missed is None:
                    self._lost(room_id, position)
                    return
                for event in missed:
                    position.seq = event.seq
                    self._deliver(event)
                if position.heard <= position.seq:
                    return
        finally:
            position.reader = None

    def _lost(self, room_id: MeetingId, position: _Position) -> None:
        self._deliver(RoomEvent(room_id, position.generation, 0, "room.gap", "{}"))


def _channel(room_id: MeetingId) -> str:
    return f"room:{{{room_id}}}:events"
