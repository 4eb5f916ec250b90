"""The promises of signaling in numbers: how soon a dropped connection is back, what an outage of Redis costs."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import aiohttp
import pytest

from conference.domain.meetings import Role
from conference.protocol.session import Limits
from tests.support.invariants import settles
from tests.support.redis import RedisServer
from tests.support.signaling import QUICK, Person, Process, World
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop
PATIENT = replace(QUICK, resume_s=45.0)
OUTAGE_S = 5.0


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


async def resume(world: World, process: Process, client: SignalingClient) -> SignalingClient:
    fresh = await world.connect(process)
    last = max([client.joined["seq"], *client.numbered()])
    wanted = {key: client.joined[key] for key in ("participantId", "resumeSecret", "generation")}
    await fresh.send("Resume", {**wanted, "lastSeq": last})
    fresh.joined = {**client.joined, **await fresh.payload("Resumed")}
    return fresh


def texts(client: SignalingClient) -> list[str]:
    return [m["payload"]["text"] for m in client.messages if m["type"] == "MessageReceived"]


async def more_than(sent: list[str], number: int) -> None:
    start = len(sent)
    await eventually(lambda: len(sent) > start + number)


async def test_dropped_connections_are_back_within_two_seconds_with_nothing_missed_or_doubled(world: World) -> None:
    talkative = replace(PATIENT, limits=Limits(messages_per_s=100_000, burst=100_000))
    processes = [await world.process(talkative) for _ in range(2)]
    bob, talker = await world.enter(processes[0])
    ann, client = await world.enter(processes[1])
    stop = asyncio.Event()
    sent: list[str] = []

    async def talk() -> None:
        while not stop.is_set():
            sent.append(str(len(sent)))
            await talker.send("SendMessage", {"text": sent[-1], "messageId": sent[-1]})
            await talker.expect("MessageReceived", lambda p: p["text"] == sent[-1])

    talking = asyncio.create_task(talk())
    heard: list[str] = []
    took: list[float] = []
    for number in range(40):
        await more_than(sent, 2)
        client.cut()
        await more_than(sent, 2)
        started = time.monotonic()
        former, client = client, await resume(world, processes[number % 2], client)
        took.append(time.monotonic() - started)
        heard += texts(former)
    stop.set()
    await talking
    await client.expect("MessageReceived", lambda p: p["text"] == sent[-1])
    assert heard + texts(client) == sent
    assert sorted(took)[int(len(took) * 0.95)] <= 2.0
    await settles(world, {ann.user_id, bob.user_id})


async def join_again(world: World, process: Process, person: Person) -> float:
    """Seconds until a join works, as a client tries: again on the connection, a new token where it is burnt."""
    started = time.monotonic()
    async with asyncio.timeout(15):
        while True:
            client = await world.connect(process)
            while client.close_code is None:
                await client.send("JoinRoom", {"roomId": world.room, "token": person.token})
                await eventually(lambda c=client: bool({"RoomJoined", "Error"} & set(c.types())))  # type: ignore[misc]
                if "RoomJoined" in client.types():
                    return time.monotonic() - started
                if not (await client.payload("Error"))["retryable"]:
                    break
                client.messages.clear()
                client._taken = 0
            person = await world.person(person.role, user_id=person.user_id)


@pytest.mark.parametrize("fault", ["killed", "frozen", "emptied twice"])
async def test_an_outage_of_the_directory_drops_no_call_and_joins_work_soon_after_it(world: World, fault: str) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    people = [await world.enter(process) for process in (one, one, two, two)]
    if fault == "emptied twice":
        world.server.restart_empty()
        await asyncio.gather(*(client.send("UpdateState", {"isMuted": True}) for _, client in people))
        world.server.restart_empty()
    else:
        world.server.pause() if fault == "frozen" else world.server.kill()
        over = time.monotonic() + OUTAGE_S
        number = 0
        while time.monotonic() < over:  # the calls go on meanwhile
            number += 1
            await people[0][1].send("SendMessage", {"text": f"dark {number}", "messageId": f"d{number}"})
            await people[1][1].expect("MessageReceived", lambda p, n=number: p["text"] == f"dark {n}")  # type: ignore[misc]
            await people[0][1].expect("MessageReceived", lambda p, n=number: p["text"] == f"dark {n}")  # type: ignore[misc]
            if number >= 20:
                await eventually(lambda: time.monotonic() >= over)
        world.server.resume() if fault == "frozen" else world.server.start()
    late = await world.person()
    assert await join_again(world, two, late) <= 3.0
    assert [client.close_code for _, client in people] == [None] * 4
    await settles(world, {late.user_id, *(person.user_id for person, _ in people)})
    await people[3][1].send("SendMessage", {"text": "light", "messageId": "light"})
    for _, client in people:
        await eventually(lambda c=client: set(texts(c)) == {*texts(people[0][1]), "light"})  # type: ignore[misc]
        assert len(texts(client)) == len(set(texts(client)))
        in_the_dark = [text for text in texts(client) if text != "light"]
        assert in_the_dark == [f"dark {n}" for n in range(1, len(in_the_dark) + 1)]
        assert client.numbered() == sorted(set(client.numbered()))


async def test_faults_of_people_and_processes_leave_the_directory_true(world: World) -> None:
    one, two = await world.process(), await world.process()
    host, alex = await world.enter(one, Role.HOST)
    bob, _ = await world.enter(two)
    carl, third = await world.enter(two)
    again = await world.join(one, await world.person(user_id=bob.user_id))  # a second tab, elsewhere
    await settles(world, {host.user_id, bob.user_id, carl.user_id})
    third.cut()  # and never back
    await settles(world, {host.user_id, bob.user_id})
    dora, fourth = await world.enter(two)
    await alex.send("Moderate", {"action": "remove", "targetUserId": dora.user_id})
    assert await fourth.ends() == 4403
    await again.send("Leave")
    await settles(world, {host.user_id})
