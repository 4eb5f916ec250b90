"""Two things at once: take-overs, resumes, orders and leaves that cross each other, answers that are lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from conference.adapters.redis.client import RedisClient
from conference.adapters.redis.presence import RedisPresence
from conference.domain.errors import Unavailable
from conference.ports.presence import RoomEvent
from conference.protocol import control as c
from conference.protocol.session import Limits
from tests.support.redis import RedisServer
from tests.support.signaling import QUICK, Process, World
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop
PATIENT = replace(QUICK, resume_s=45.0)


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


class Unsteady(RedisPresence):
    """Holds the answer of one `enter` back; commands named in `away` fail, those in `lost` are executed first."""

    def __init__(self, redis: RedisClient, process_id: str) -> None:
        super().__init__(redis, process_id=process_id)
        self.away: set[str] = set()
        self.lost: set[str] = set()
        self.hold = False
        self.held, self.go_on = asyncio.Event(), asyncio.Event()
        self.is_deaf = False
        self.late: list[RoomEvent] | None = None  # where there is a list, events wait in it
        self.delay_s = 0.0

    async def _run(self, name: str, *arguments: Any, **options: Any) -> Any:
        await asyncio.sleep(self.delay_s)
        if name in self.away:
            raise Unavailable("presence")
        answer = await getattr(RedisPresence, name)(self, *arguments, **options)
        if name in self.lost:
            raise Unavailable("presence")
        return answer

    async def enter(self, *arguments: Any, **options: Any) -> Any:
        held, self.hold = self.hold, False
        answer = await self._run("enter", *arguments, **options)
        if held:
            self.held.set()
            await self.go_on.wait()
        return answer

    async def update(self, *arguments: Any, **options: Any) -> Any:
        return await self._run("update", *arguments, **options)

    async def publish(self, *arguments: Any, **options: Any) -> Any:
        return await self._run("publish", *arguments, **options)

    async def reconnect(self, *arguments: Any, **options: Any) -> Any:
        return await self._run("reconnect", *arguments, **options)

    def listener(self, deliver: Any) -> Any:
        def hear(event: RoomEvent) -> None:
            if self.late is not None:
                self.late.append(event)
            elif not self.is_deaf:
                deliver(event)

        self.deliver = deliver

        return super().listener(hear)


async def unsteady(world: World, name: str, **options: Any) -> tuple[Process, Unsteady]:
    presence = Unsteady(world.redis, name)
    process = await world.process(replace(PATIENT, **options), process_id=name, presence=presence)
    return process, presence


async def resume(world: World, process: Process, client: SignalingClient) -> SignalingClient:
    """Another connection that asks to resume; the answer is the test's."""
    fresh = await world.connect(process)
    last = max([client.joined["seq"], *client.numbered()])
    wanted = {key: client.joined[key] for key in ("participantId", "resumeSecret", "generation")}
    await fresh.send("Resume", {**wanted, "lastSeq": last})
    return fresh


async def test_the_room_knows_of_a_take_over_before_the_new_connection_can_speak(world: World) -> None:
    await world.sfu()
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    _, watcher = await world.enter(one)
    bob = await world.person()
    first = await world.join(one, bob)
    transport = (await first.payload("SfuEndpoint"))["transportId"]
    track = {"mid": "0", "trackId": "cam", "kind": "video", "source": "camera"}
    await first.send("SendOffer", {"targetUserId": "sfu", "transportId": transport, "sdp": "v=0", "tracks": [track]})
    await first.send("UpdateState", {"isVideoOn": True})
    await watcher.expect("TrackPublished")
    second = await world.join(two, await world.person(user_id=bob.user_id))
    await second.send("UpdateState", {"isVideoOn": True})
    await watcher.expect("TrackUnpublished", lambda p: p["trackId"] == "cam")
    reset = await watcher.expect("StateChanged", lambda p: p["userId"] == bob.user_id and not p["isVideoOn"])
    assert reset["seq"] <= second.joined["seq"]
    on = await watcher.expect("StateChanged", lambda p: p["userId"] == bob.user_id)
    assert on["payload"]["isVideoOn"] is True
    assert "StateChanged" not in second.types() or second.numbered() == sorted(set(second.numbered()))


async def test_what_a_former_connection_still_says_holds_nothing_up_that_the_new_one_says(world: World) -> None:
    process, presence = await unsteady(world, "p")
    _, watcher = await world.enter(process)
    bob = await world.person()
    first = await world.join(process, bob)
    presence.hold, presence.late = True, []
    second = await world.connect(process)
    await second.send("JoinRoom", {"roomId": world.room, "token": (await world.person(user_id=bob.user_id)).token})
    await presence.held.wait()
    publisher = process.worker._requests._publisher
    await first.send("UpdateState", {"isHandRaised": True})
    await eventually(lambda: publisher.suspect)
    presence.go_on.set()
    await second.expect("RoomJoined")
    await second.send("UpdateState", {"isVideoOn": True})
    room = process.worker.rooms.get(world.room)
    assert room is not None
    await eventually(
        lambda: any(event.type == "StateChanged" and "true" in event.payload for event in presence.late or ())
    )
    waiting, presence.late = presence.late, None
    for event in waiting:
        presence.deliver(event)
    on = await watcher.expect("StateChanged", lambda p: p["userId"] == bob.user_id and p["isVideoOn"])
    assert watcher.types().count("StateChanged") == 2
    assert watcher.numbered() == sorted(watcher.numbered())
    assert on["seq"] == watcher.numbered()[-1]


async def test_of_two_connections_of_one_person_the_one_that_entered_last_stays(world: World) -> None:
    process, presence = await unsteady(world, "p")
    bob = await world.person()
    presence.hold = True
    first = await world.connect(process)
    await first.send("JoinRoom", {"roomId": world.room, "token": bob.token})
    await presence.held.wait()
    second = await world.join(process, await world.person(user_id=bob.user_id))
    presence.go_on.set()
    assert await first.ends() == 4409
    await second.send("UpdateState", {"isMuted": True})
    assert (await second.payload("StateChanged"))["isMuted"] is True
    assert second.close_code is None


async def test_a_take_over_elsewhere_and_a_removal_reach_who_has_no_seat_yet(world: World) -> None:
    process, presence = await unsteady(world, "p")
    other = await world.process(PATIENT)
    await world.enter(process)
    bob = await world.person()
    presence.hold = True
    first = await world.connect(process)
    await first.send("JoinRoom", {"roomId": world.room, "token": bob.token})
    await presence.held.wait()
    second = await world.join(other, await world.person(user_id=bob.user_id))
    room = process.worker.rooms.get(world.room)
    assert room is not None
    await eventually(lambda: room.replay.seq >= second.joined["seq"])
    presence.go_on.set()
    assert await first.ends() == 4409
    assert second.close_code is None
    carl = await world.person()
    presence.hold = True
    presence.held.clear()
    presence.go_on.clear()
    third = await world.connect(process)
    await third.send("JoinRoom", {"roomId": world.room, "token": carl.token})
    await presence.held.wait()
    order = f'{{"userId": "{carl.user_id}", "participantId": "{carl.claims.participant_id}"}}'
    told = await world.presence.publish(world.room, "user.removed", order, to=carl.user_id)
    assert told is not None
    await eventually(lambda: room.replay.seq >= told.seq)
    presence.go_on.set()
    assert await third.ends() == 4403


async def test_a_process_that_has_not_heard_of_a_resume_elsewhere_ends_nothing(world: World) -> None:
    node = await world.sfu()
    one, presence = await unsteady(world, "p", resume_s=0.5)
    two = await world.process(PATIENT)
    ann, a = await world.enter(one)
    await a.expect("SfuEndpoint")
    _, b = await world.enter(two)
    presence.is_deaf = True
    a.cut()
    back = await resume(world, two, a)
    await back.expect("Resumed")
    await eventually(lambda: one.worker.rooms.participant(ann.claims.participant_id) is None)
    stay = await world.meetings.participant(world.room, ann.claims.participant_id)
    assert stay is not None
    assert stay.left_at is None
    await back.send("SendMessage", {"text": "here", "messageId": "1"})
    await b.expect("MessageReceived")
    assert "ParticipantLeft" not in b.types()
    assert node.of(c.CloseSession) == []


async def test_what_waited_for_the_directory_is_told_before_what_came_later(world: World) -> None:
    one, presence = await unsteady(world, "p", tick_s=0.5)
    _, a = await world.enter(one)
    _, b = await world.enter(await world.process(PATIENT))
    presence.away = {"update", "publish"}
    await a.send("UpdateState", {"isMuted": True})
    await a.expect("StateChanged")
    presence.away = set()
    await a.send("UpdateState", {"isMuted": False})
    await a.send("SendMessage", {"text": "done", "messageId": "1"})
    await b.expect("MessageReceived")
    flags = [m["payload"]["isMuted"] for m in b.messages if m["type"] == "StateChanged"]
    assert flags == [True, False]


async def test_a_busy_room_gets_back_to_a_slow_directory_after_an_outage(world: World) -> None:
    one, presence = await unsteady(world, "p", limits=Limits(messages_per_s=1e6, burst=1_000_000))
    _, a = await world.enter(one)
    room = one.worker.rooms.get(world.room)
    assert room is not None

    async def say(number: int) -> dict[str, Any]:
        await a.send("SendMessage", {"text": str(number), "messageId": str(number)})
        return await a.expect("MessageReceived", lambda p: p["messageId"] == str(number))

    async def talk() -> None:
        for number in range(10, 100_000):
            await say(number)

    presence.away = {"publish"}
    for number in range(10):
        assert "seq" not in await say(number)
    presence.away, presence.delay_s = set(), 0.005
    talking = asyncio.create_task(talk())
    try:
        await eventually(lambda: not room.late, within_s=3)
    finally:
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
    assert "seq" in await say(200_000)


async def test_an_event_whose_answer_was_lost_is_in_the_stream_once(world: World) -> None:
    one, presence = await unsteady(world, "p")
    _, a = await world.enter(one)
    start = a.joined["seq"]
    presence.lost = {"publish", "update"}
    await a.send("SendMessage", {"text": "once", "messageId": "1"})
    await a.send("UpdateState", {"isMuted": True})
    await a.expect("StateChanged")
    room = one.worker.rooms.get(world.room)
    assert room is not None
    assert room.late
    presence.lost = set()
    await eventually(lambda: not room.late)
    await a.send("SendMessage", {"text": "end", "messageId": "2"})
    await a.expect("MessageReceived", lambda p: p["text"] == "end")
    events = await world.presence.since(world.room, a.joined["generation"], start)
    assert events is not None
    assert [event.type for event in events] == ["MessageReceived", "StateChanged", "MessageReceived"]
    assert a.types().count("StateChanged") == 1


async def test_a_seat_that_others_gave_up_is_closed_to_join_again(world: World) -> None:
    process = await world.process(PATIENT)
    ann, a = await world.enter(process)
    await world.enter(process)
    view = await world.presence.view(world.room)
    assert view is not None
    stored = view.participants[ann.user_id]  # as the sweep of another process does while this one is frozen
    assert await world.presence.leave(world.room, ann.user_id, connection_id=stored.connection_id, left="{}")
    assert await a.ends() == 1012
    again = await resume(world, process, a)
    assert await again.ends() == 4401
    assert not process.worker._requests._publisher.suspect


async def test_who_is_connected_is_not_taken_for_absent_for_long(world: World) -> None:
    process = await world.process(PATIENT)
    ann, _ = await world.enter(process)
    view = await world.presence.view(world.room)
    assert view is not None
    stored = view.participants[ann.user_id]
    await world.presence.update(world.room, replace(stored, disconnected_at=world.clock.now()))

    async def present() -> bool:
        view = await world.presence.view(world.room)
        return view is not None and view.participants[ann.user_id].disconnected_at is None

    await eventually(present)


async def test_a_resume_whose_answer_was_lost_leaves_nobody_behind(world: World) -> None:
    one = await world.process(PATIENT)
    two, presence = await unsteady(world, "p")
    ann, a = await world.enter(one)
    await world.enter(one)
    a.cut()
    presence.lost = {"reconnect"}
    lost = await resume(world, two, a)
    assert (await lost.payload("Error"))["retryable"]
    view = await world.presence.view(world.room)
    assert view is not None
    assert view.participants[ann.user_id].process_id == "p"
    presence.lost = set()
    await lost.close()

    async def absent() -> bool:
        view = await world.presence.view(world.room)
        return view is not None and view.participants[ann.user_id].disconnected_at is not None

    await eventually(absent)


async def test_a_session_is_asked_for_once_however_many_ask(world: World) -> None:
    node = await world.sfu()
    process = await world.process(PATIENT)
    ann, a = await world.enter(process)
    member = process.worker.rooms.participant(ann.claims.participant_id)
    assert member is not None
    for _ in range(3):
        process.worker._media.open(member)
    for _ in range(2):
        await a.expect("SfuEndpoint")
    await a.send("KeepAlive")
    await a.expect("KeepAliveAck")
    assert len(node.of(c.OpenSession)) == 1
    assert a.types().count("SfuEndpoint") == 2
