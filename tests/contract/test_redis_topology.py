"""A cluster whose slots move, connections that break, a network that stops passing: who is subscribed hears it all."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import RedisClusterException

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.presence import RedisPresence
from conference.domain.errors import Unavailable
from conference.domain.ids import MeetingId
from conference.ports.presence import RoomEvent
from tests.support.redis import RedisCluster, RedisServer
from tests.support.redis_gate import gate_to
from tests.support.rooms import enter_room
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

ROOMS = [MeetingId(f"room-{number}") for number in range(8)]


@dataclass
class Directory:
    """Two clients, as of two processes: one follows the rooms and keeps what it hears, the other publishes."""

    client: RedisClient
    presence: RedisPresence
    writer: RedisPresence
    heard: list[RoomEvent]

    def texts(self, room: MeetingId) -> list[str]:
        told = [event for event in self.heard if event.room_id == room]
        assert "room.gap" not in [event.type for event in told]
        return [event.payload for event in told if event.type == "MessageReceived"]

    async def tell(self, room: MeetingId, text: str) -> None:
        """Until it is told: a caller tries again by the event's id, which tells it once."""
        event_id = text.strip('"')
        async with asyncio.timeout(20):
            while True:
                try:
                    await self.writer.publish(room, "MessageReceived", text, id=event_id, once_s=60)
                except Unavailable as error:
                    await asyncio.sleep(error.after_s or 0.1)
                else:
                    return


@asynccontextmanager
async def follow(make: Callable[[], RedisClient]) -> AsyncIterator[Directory]:
    client, other = make(), make()
    heard: list[RoomEvent] = []
    directory = Directory(client, RedisPresence(client), RedisPresence(other), heard)
    listener = directory.presence.listener(heard.append)
    for room in ROOMS:
        listener.follow(room, "g1", await enter_room(directory.writer, room))
    running = asyncio.create_task(listener.run())
    async with asyncio.timeout(10):
        for room in ROOMS:
            await listener.ready(room)
    yield directory
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await client.close()
    await other.close()


@pytest.fixture
async def on_cluster(redis_cluster: RedisCluster) -> AsyncIterator[Directory]:
    async with follow(lambda: RedisClient(connect(redis_cluster.url, cluster=True))) as directory:
        yield directory


def slot_of(room: MeetingId) -> int:
    return int(key_slot(f"room:{{{room}}}".encode()))


async def test_a_room_whose_slot_moves_is_heard_without_a_gap(
    redis_cluster: RedisCluster,
    on_cluster: Directory,
) -> None:
    """There and back, key by key, while every room is spoken in. A cluster refuses scripts on a slot that is half way
    (TRYAGAIN), so who speaks in that room tries again; the other rooms are spoken in all the time."""
    assert len({redis_cluster.owner_of(slot_of(each)).port for each in ROOMS}) == 2
    moved, told = ROOMS[0], dict.fromkeys(ROOMS, 0)
    moving = True

    async def speak(room: MeetingId) -> None:
        while moving:
            await on_cluster.tell(room, f'"{room}.{told[room]}"')
            told[room] += 1
            await asyncio.sleep(0.02)

    speakers = [asyncio.create_task(speak(room)) for room in ROOMS]
    for _ in range(2):
        source = redis_cluster.owner_of(slot_of(moved))
        target = next(node for node in redis_cluster.nodes if node is not source)
        for step in redis_cluster.moving(slot_of(moved), source, target):
            await asyncio.to_thread(step)
            await asyncio.sleep(0.1)
        before = told[moved]
        await eventually(lambda: told[moved] > before + 3)  # noqa: B023
    moving = False
    await asyncio.gather(*speakers)
    for room in ROOMS:
        await eventually(lambda: len(on_cluster.texts(room)) >= told[room])  # noqa: B023
        assert on_cluster.texts(room) == [f'"{room}.{number}"' for number in range(told[room])]


async def test_a_slot_that_moves_while_nobody_speaks_is_subscribed_at_its_new_node(
    redis_cluster: RedisCluster,
    on_cluster: Directory,
) -> None:
    room = ROOMS[0]
    source = redis_cluster.owner_of(slot_of(room))
    target = next(node for node in redis_cluster.nodes if node is not source)
    channel = f"room:{{{room}}}:events"
    await asyncio.to_thread(redis_cluster.move, slot_of(room), source, target)
    await eventually(lambda: channel.encode() in target.ask("PUBSUB", "SHARDCHANNELS"))
    assert channel.encode() not in source.ask("PUBSUB", "SHARDCHANNELS")
    await on_cluster.tell(room, '"heard"')
    await eventually(lambda: on_cluster.texts(room) == ['"heard"'])
    await asyncio.to_thread(redis_cluster.move, slot_of(room), target, source)
    await eventually(lambda: channel.encode() in source.ask("PUBSUB", "SHARDCHANNELS"))


async def test_one_connection_that_breaks_takes_only_its_own_rooms_along(
    redis_cluster: RedisCluster,
    on_cluster: Directory,
) -> None:
    broken, whole = redis_cluster.nodes
    before = whole.ask("CLIENT", "LIST", "TYPE", "pubsub")
    assert b"ssub=" in before
    broken.ask("CLIENT", "KILL", "TYPE", "pubsub")
    for room in ROOMS:
        await on_cluster.tell(room, '"after"')
    for room in ROOMS:
        await eventually(lambda: on_cluster.texts(room) == ['"after"'])  # noqa: B023
    names = [client.split(b" addr=")[1].split()[0] for client in before.split(b"\n") if b" addr=" in client]
    after = whole.ask("CLIENT", "LIST", "TYPE", "pubsub")
    assert names
    assert all(name in after for name in names)


async def test_slots_that_nobody_tells_take_only_the_rooms_that_lost_their_node_along(
    redis_cluster: RedisCluster,
    on_cluster: Directory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken, whole = redis_cluster.nodes
    kept = [room for room in ROOMS if redis_cluster.owner_of(slot_of(room)) is whole]
    before = whole.ask("CLIENT", "LIST", "TYPE", "pubsub")
    asked = 0

    async def no_map(*args: object) -> None:
        nonlocal asked
        asked += 1
        raise RedisClusterException("All slots are not covered after query all startup_nodes.")

    redis: Any = on_cluster.client.redis
    with monkeypatch.context() as patch:
        patch.setattr(type(redis.nodes_manager), "initialize", no_map)
        broken.ask("CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: asked > 2)
        for room in kept:
            await on_cluster.tell(room, '"during"')
        await eventually(lambda: all(on_cluster.texts(room) == ['"during"'] for room in kept))
        names = [client.split(b" addr=")[1].split()[0] for client in before.split(b"\n") if b" addr=" in client]
        after = whole.ask("CLIENT", "LIST", "TYPE", "pubsub")
        assert names
        assert all(name in after for name in names)
    for room in ROOMS:
        await on_cluster.tell(room, '"after"')
    for room in ROOMS:
        await eventually(lambda: on_cluster.texts(room)[-1:] == ['"after"'])  # noqa: B023


async def test_a_half_open_connection_is_noticed_and_what_was_missed_is_read(
    redis_server: RedisServer,
) -> None:
    """Nothing passes, in neither direction, and no socket says so; the other process goes on by another way."""
    async with gate_to(redis_server.port) as gate:
        made = [f"redis://127.0.0.1:{gate.port}", redis_server.url]
        async with follow(lambda: RedisClient(connect(made.pop(0)))) as directory:
            loop = asyncio.get_running_loop()
            gate.freeze()
            for number in range(3):
                await directory.tell(ROOMS[0], f'"{number}"')
            started = loop.time()
            with pytest.raises(Unavailable):
                await directory.presence.ping()
            assert loop.time() - started < 4
            started = loop.time()
            with pytest.raises(Unavailable):
                await directory.presence.ping()
            assert loop.time() - started < 0.2  # who comes next does not wait as well
            accepted = gate.accepted
            await asyncio.sleep(8)  # past the three pings that a silent node may miss
            assert gate.accepted - accepted <= 40  # it tries again, at a pace
            gate.thaw()
            await eventually(lambda: len(directory.texts(ROOMS[0])) == 3)
            await directory.tell(ROOMS[0], '"on"')
            await eventually(lambda: len(directory.texts(ROOMS[0])) == 4)
            assert directory.texts(ROOMS[0]) == ['"0"', '"1"', '"2"', '"on"']


async def test_a_server_that_is_away_for_a_while_is_asked_at_a_pace_and_every_room_is_heard_again(
    redis_server: RedisServer,
) -> None:
    async with (
        gate_to(redis_server.port) as gate,
        follow(lambda: RedisClient(connect(f"redis://127.0.0.1:{gate.port}"))) as directory,
    ):
        accepted = gate.accepted
        redis_server.kill()
        loop = asyncio.get_running_loop()
        ends, asked = loop.time() + 5, 0
        while loop.time() < ends:
            started = loop.time()
            with pytest.raises(Unavailable):
                await directory.presence.ping()
            assert loop.time() - started < 3
            asked += 1
            await asyncio.sleep(0.01)
        assert asked > 100  # answered at once, not each by its own wait
        assert gate.accepted - accepted < 80
        redis_server.start()
        for room in ROOMS:
            await enter_room(directory.writer, room, generation="g2")

        def told_of_the_loss() -> bool:
            lost = {event.room_id for event in directory.heard if event.type == "room.gap"}
            return lost == set(ROOMS)

        await eventually(told_of_the_loss)


async def test_a_listener_that_is_cancelled_again_while_it_ends_leaves_no_connection(
    redis_cluster: RedisCluster,
) -> None:
    """As whoever ends a process's tasks does, who cancels until they are gone."""
    client = RedisClient(connect(redis_cluster.url, cluster=True))
    presence = RedisPresence(client)
    listener = presence.listener(lambda event: None)
    running = asyncio.create_task(listener.run())
    for room in ROOMS:
        listener.follow(room, "g1", await enter_room(presence, room))
    async with asyncio.timeout(10):
        for room in ROOMS:
            await listener.ready(room)
    assert all(b"events" in node.ask("PUBSUB", "SHARDCHANNELS") for node in redis_cluster.nodes)
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    await eventually(lambda: all(node.ask("PUBSUB", "SHARDCHANNELS") == b"*0\r\n" for node in redis_cluster.nodes))
    await client.close()
