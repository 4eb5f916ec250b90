"""Two signaling processes, one Redis, a real SFU and aiortc clients: faults of signaling leave media alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.domain.meetings import Role
from tests.support.native_client import NativeParticipant
from tests.support.redis import RedisServer
from tests.support.sfu import Received, running_sfu
from tests.support.signaling import QUICK, Person, Process, World
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop
PATIENT = replace(QUICK, resume_s=45.0)


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        redis = RedisClient(connect(redis_server.url))
        async with running_sfu(tokens=made.tokens, nodes=RedisMediaNodes(redis)):
            yield made
            await made.stop()
        await redis.close()


@asynccontextmanager
async def two(world: World) -> AsyncIterator[tuple[Process, Process, AsyncExitStack]]:
    async with AsyncExitStack() as people:
        yield await world.process(PATIENT), await world.process(PATIENT), people


def native(world: World, process: Process, person: Person, shade: int, **options: Any) -> NativeParticipant:
    grant = {"signalingUrl": process.url, "token": person.token}
    return NativeParticipant(world.http, grant, world.room, shade=shade, **options)


async def goes_on(received: Received, frames: int = 10) -> None:
    start = received.frames
    await eventually(lambda: received.frames >= start + frames)


async def test_a_client_of_part_a_gets_and_gives_media(world: World) -> None:
    async with two(world) as (one, other, people):
        a = await people.enter_async_context(native(world, one, await world.person(), 60, part_a=True))
        b = await people.enter_async_context(native(world, other, await world.person(), 190))
        seen = await a.receives(b.user_id, "camera", frames=10)
        assert seen.shade is not None
        assert abs(seen.shade - 190) < 25
        seen = await b.receives(a.user_id, "camera", frames=10)
        assert seen.shade is not None
        assert abs(seen.shade - 60) < 25
        types = a.signaling.types()
        assert {"room_joined", "sfu_endpoint", "answer", "offer", "participant_joined"} <= set(types)
        assert not [name for name in types if name != name.lower()]


async def test_a_resume_on_another_process_leaves_media_alone_and_repeats_the_open_offer(world: World) -> None:
    async with two(world) as (one, other, people):
        a = await people.enter_async_context(native(world, one, await world.person(), 60))
        b = await people.enter_async_context(native(world, other, await world.person(), 190))
        picture = await a.receives(b.user_id, "camera", frames=5)
        await a.stop_answering()
        carol = await people.enter_async_context(native(world, one, await world.person(), 120))
        offered = a.signaling.types().count("ReceiveOffer")
        await a.signaling.expect("ReceiveOffer", lambda p: any(t.get("userId") == carol.user_id for t in p["tracks"]))
        assert offered >= 1
        resumed = await a.resume(other.url)
        assert "snapshot" not in resumed
        await a.receives(carol.user_id, "camera", frames=10)
        await goes_on(picture)
        await b.send("SendMessage", {"text": "through the other", "messageId": "1"})
        assert (await a.payload("MessageReceived"))["text"] == "through the other"
        kinds = [
            endpoint["payload"]["direction"] for endpoint in a.signaling.messages if endpoint["type"] == "SfuEndpoint"
        ]
        assert kinds == ["publish", "subscribe"]


async def test_a_second_connection_on_another_process_takes_the_media_over(world: World) -> None:
    async with two(world) as (one, other, people):
        a = await people.enter_async_context(native(world, one, await world.person(), 60))
        bob = await world.person()
        first = await people.enter_async_context(native(world, one, bob, 190))
        await a.receives(first.user_id, "camera", frames=5)
        again = await world.person(user_id=bob.user_id)
        second = await people.enter_async_context(native(world, other, again, 120))
        assert await first.signaling.ends() == 4409
        await second.receives(a.user_id, "camera", frames=10)

        def shown() -> bool:
            fresh = a.received.get("native-120-video")
            return fresh is not None and fresh.frames >= 10

        await eventually(shown)
        assert second.signaling.types().count("SfuEndpoint") == 2
        flags = [
            m["payload"] for m in a.signaling.messages if m["type"] == "StateChanged" and "isVideoOn" in m["payload"]
        ]
        assert flags[-1]["isVideoOn"] is True


async def test_who_is_removed_sends_and_receives_nothing_after_two_seconds(world: World) -> None:
    async with two(world) as (one, other, people):
        host = await people.enter_async_context(native(world, one, await world.person(Role.HOST), 60))
        b = await people.enter_async_context(native(world, other, await world.person(), 190))
        of_b, of_host = await host.receives(b.user_id, "camera"), await b.receives(host.user_id, "camera")
        await host.send("Moderate", {"action": "remove", "targetUserId": b.user_id})
        assert await b.signaling.ends() == 4403
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 2.0
        await eventually(lambda: loop.time() >= deadline)
        before = (of_b.frames, of_host.frames)
        await goes_on_for(1.0)
        assert (of_b.frames, of_host.frames) == before


async def goes_on_for(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    await eventually(lambda: loop.time() >= until)
