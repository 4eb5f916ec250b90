"""People who enter a room at the same moment: whatever the order of seats, nobody is closed and nothing is missed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.presence import RedisPresence
from conference.domain.errors import Refused
from conference.ports.presence import Entered
from tests.support.redis import RedisServer
from tests.support.signaling import World

pytestmark = pytest.mark.interop


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


class FirstAnswersLast(RedisPresence):
    """The first to enter hears of it only when the second has a seat."""

    def __init__(self, redis: RedisClient) -> None:
        super().__init__(redis, process_id="together")
        self._entered = 0
        self.first_is_in = asyncio.Event()
        self.go_on = asyncio.Event()

    async def enter(self, *arguments: Any, **options: Any) -> Entered | Refused:
        entered = await super().enter(*arguments, **options)
        self._entered += 1
        if self._entered == 1:
            self.first_is_in.set()
            await self.go_on.wait()
        return entered


async def test_who_entered_first_and_is_seated_last_stays_and_hears_of_the_other(world: World) -> None:
    presence = FirstAnswersLast(world.redis)
    process = await world.process(process_id="together", presence=presence)
    ann, bob = await world.person(), await world.person()
    a = await world.connect(process)
    await a.send("JoinRoom", {"roomId": world.room, "token": ann.token})
    await presence.first_is_in.wait()
    b = await world.join(process, bob)
    await b.send("SendMessage", {"text": "anybody?", "messageId": "1"})
    await b.expect("MessageReceived")
    presence.go_on.set()
    joined = await a.payload("RoomJoined")
    assert [person["userId"] for person in joined["snapshot"]["participants"]] == [ann.user_id, bob.user_id]
    told = await a.expect("ParticipantJoined", lambda payload: payload["userId"] == bob.user_id)
    chat = await a.expect("MessageReceived")
    assert (told["seq"], chat["seq"]) == (joined["seq"] + 1, joined["seq"] + 2)
    await b.send("SendMessage", {"text": "and on", "messageId": "2"})
    assert (await a.payload("MessageReceived"))["text"] == "and on"
    assert a.close_code is None


async def test_many_who_join_many_new_rooms_at_once_all_stay(world: World) -> None:
    process = await world.process()
    people = []
    for _ in range(10):
        world.room = world.ids.new()  # type: ignore[assignment]
        await world.make_meeting()
        people += [(world.room, await world.person()) for _ in range(4)]

    async def enter(room: str, token: str) -> None:
        client = await world.connect(process)
        await client.send("JoinRoom", {"roomId": room, "token": token})
        await client.payload("RoomJoined")
        await client.send("KeepAlive")
        await client.payload("KeepAliveAck")
        assert client.close_code is None

    await asyncio.gather(*(enter(room, person.token) for room, person in people))
