"""The port Presence: one suite, on the Redis adapter and on the one in memory."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from conference.adapters.memory.presence import MemoryPresence
from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.presence import RedisPresence
from conference.domain.errors import Refused, Unavailable
from conference.domain.ids import MeetingId, NodeId, ParticipantId, UserId
from conference.ports.presence import Entered, MediaNode, Presence, Present, RoomEvent, RoomListener
from tests.support.redis import RedisCluster, RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.contract

ROOM = MeetingId("room-1")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@dataclass
class Directory:
    """The presence under test, and how to wipe what it holds."""

    presence: Presence
    _wipe: Callable[[], object]

    async def wipe(self) -> None:
        """Loses everything, and waits until it answers again."""
        self._wipe()
        async with asyncio.timeout(5):
            while True:
                try:
                    return await self.presence.ping()
                except Unavailable:
                    await asyncio.sleep(0.05)


@pytest.fixture(params=["memory", "redis", "cluster"])
async def directory(request: pytest.FixtureRequest) -> AsyncIterator[Directory]:
    if request.param == "memory":
        memory = MemoryPresence(time.monotonic, process_id="p1")
        yield Directory(memory, memory.lose_everything)
        return
    if request.param == "cluster":
        cluster: RedisCluster = request.getfixturevalue("redis_cluster")
        client = RedisClient(connect(cluster.url, cluster=True))
        yield Directory(RedisPresence(client, process_id="p1", events_kept=500), cluster.wipe)
        await client.close()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    client = RedisClient(connect(server.url))
    yield Directory(RedisPresence(client, process_id="p1", events_kept=500), server.restart_empty)
    await client.close()


@pytest.fixture
def presence(directory: Directory) -> Presence:
    return directory.presence


def person(name: str, connection: str = "c1", **changes: object) -> Present:
    present = Present(
        UserId(name), ParticipantId(f"p-{name}"), connection, "p1", "attendee", name.title(), NOW, {"isMuted": False}
    )
    return replace(present, **changes)  # type: ignore[arg-type]


async def enter(presence: Presence, present: Present, jti: str = "") -> Entered:
    entered = await presence.enter(
        ROOM,
        present,
        jti=jti or f"jti-{present.connection_id}",
        jti_ttl_s=60,
        told=lambda replaced: [
            ("ParticipantJoined" if replaced is None else "StateChanged", json.dumps({"userId": present.user_id}))
        ],
        generation="g1",
    )
    assert isinstance(entered, Entered)
    return entered


@asynccontextmanager
async def listening(presence: Presence, seq: int = 0) -> AsyncIterator[tuple[RoomListener, "asyncio.Queue[RoomEvent]"]]:
    events: asyncio.Queue[RoomEvent] = asyncio.Queue()
    listener = presence.listener(events.put_nowait)
    listener.follow(ROOM, "g1", seq)
    running = asyncio.create_task(listener.run())
    try:
        yield listener, events
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def take(events: "asyncio.Queue[RoomEvent]", count: int) -> list[RoomEvent]:
    async with asyncio.timeout(10):
        return [await events.get() for _ in range(count)]


async def test_a_person_who_enters_is_in_the_room_and_is_counted_as_event_one(presence: Presence) -> None:
    present = person("ann", tracks=({"trackId": "t", "kind": "audio", "source": "microphone"},), grants=("ai",))
    entered = await enter(presence, present)
    assert entered.room.participants == {"ann": present}
    assert (entered.room.generation, entered.replaced) == ("g1", None)
    first = await presence.since(ROOM, "g1", 0)
    assert first is not None
    assert [(event.type, event.seq) for event in first] == [("ParticipantJoined", entered.room.seq)]
    assert await presence.view(ROOM) == entered.room


async def test_a_jti_enters_once_and_another_generation_does_not_replace_a_living_room(presence: Presence) -> None:
    await enter(presence, person("ann"), jti="one")
    again = await presence.enter(ROOM, person("bob"), jti="one", jti_ttl_s=60, told=lambda _: [], generation="g2")
    assert isinstance(again, Refused)
    assert again.reason == "token-refused"
    other = await presence.enter(ROOM, person("bob"), jti="two", jti_ttl_s=60, told=lambda _: [], generation="g2")
    assert isinstance(other, Entered)
    assert other.room.generation == "g1"


async def test_a_second_connection_takes_over_and_the_room_is_not_told_of_a_newcomer(presence: Presence) -> None:
    await enter(presence, person("ann", "c1"))
    entered = await enter(presence, person("ann", "c2"))
    assert entered.replaced is not None
    assert entered.replaced.connection_id == "c1"
    events = await presence.since(ROOM, "g1", 0)
    assert events is not None
    told = [("ParticipantJoined", None), ("user.taken-over", "ann"), ("StateChanged", None)]
    assert [(e.type, e.to) for e in events] == told
    assert entered.room.seq == events[-1].seq  # whoever enters knows it all
    assert json.loads(events[1].payload) == {"connectionId": "c2"}


async def test_a_denied_participant_neither_enters_nor_resumes(presence: Presence) -> None:
    await enter(presence, person("ann", resume_hashes=("h1",)))
    await presence.deny(ROOM, ParticipantId("p-ann"), ttl_s=60)
    assert await presence.denied(ROOM, ParticipantId("p-ann"))
    assert not await presence.denied(ROOM, ParticipantId("p-bob"))
    refused = await presence.enter(ROOM, person("ann", "c2"), jti="x", jti_ttl_s=60, told=lambda _: [], generation="g1")
    assert refused == Refused("removed")
    assert await resume(presence, "h1", "h2") == Refused("removed")


async def resume(presence: Presence, secret_hash: str, new_hash: str, connection: str = "c9") -> Present | Refused:
    result = await presence.reconnect(
        ROOM,
        UserId("ann"),
        ParticipantId("p-ann"),
        secret_hash=secret_hash,
        new_hash=new_hash,
        connection_id=connection,
        process_id="p2",
    )
    return result if isinstance(result, Refused) else result[0]


async def test_the_previous_secret_is_valid_until_the_new_one_was_used(presence: Presence) -> None:
    await enter(presence, person("ann", resume_hashes=("h1",), disconnected_at=NOW))
    first = await resume(presence, "h1", "h2", "c2")
    assert isinstance(first, Present)
    assert (first.connection_id, first.process_id, first.disconnected_at) == ("c2", "p2", None)
    assert isinstance(await resume(presence, "h1", "h3", "c3"), Present)  # the answer with h2 was lost
    assert isinstance(await resume(presence, "h3", "h4", "c4"), Present)
    late = await resume(presence, "h1", "h5", "c5")
    assert isinstance(late, Refused)
    assert late.reason == "token-refused"


async def test_an_update_is_written_with_its_event_by_the_owning_connection_only(presence: Presence) -> None:
    start = (await enter(presence, person("ann"))).room.seq
    event = await presence.update(ROOM, person("ann", state={"isMuted": True}), event=("StateChanged", '{"a":"\\n"}'))
    assert event is not None
    assert (event.seq, event.generation) == (start + 1, "g1")
    assert await presence.update(ROOM, person("ann", "old"), event=("StateChanged", "{}")) is None
    assert await presence.update(ROOM, person("bob")) is None
    assert await presence.update(ROOM, person("ann", "c2"), instead_of="other") is None
    assert await presence.update(ROOM, person("ann", "c2"), instead_of="c1") is not None
    quiet = await presence.update(ROOM, person("ann", "c2", disconnected_at=NOW))
    assert quiet is not None
    view = await presence.view(ROOM)
    assert view is not None
    assert view.participants[UserId("ann")].disconnected_at == NOW
    assert view.seq == start + 1


async def test_only_the_owning_connection_leaves(presence: Presence) -> None:
    await enter(presence, person("ann", "c1"))
    start = (await enter(presence, person("ann", "c2"))).room.seq
    assert await presence.leave(ROOM, UserId("ann"), connection_id="c1", left="{}") is None
    left = await presence.leave(ROOM, UserId("ann"), connection_id="c2", left='{"userId":"ann"}')
    assert left is not None
    assert (left.type, left.seq) == ("ParticipantLeft", start + 1)
    view = await presence.view(ROOM)
    assert view is not None
    assert view.participants == {}


async def test_since_tells_a_gap_from_nothing_new(presence: Presence) -> None:
    start = (await enter(presence, person("ann"))).room.seq
    assert await presence.since(ROOM, "g1", start) == []
    assert await presence.since(ROOM, "other", 0) is None
    assert await presence.since(MeetingId("none"), "g1", 0) is None
    for number in range(1_200):
        await presence.publish(ROOM, "MessageReceived", str(number))
    assert await presence.since(ROOM, "g1", start) is None  # trimmed away
    recent = await presence.since(ROOM, "g1", start + 1_100)
    assert recent is not None
    assert [event.seq for event in recent] == list(range(start + 1_101, start + 1_201))


async def test_an_id_is_published_once_where_asked(presence: Presence) -> None:
    await enter(presence, person("ann"))
    first = await presence.publish(ROOM, "MessageReceived", "{}", id="m1", once_s=60)
    assert first is not None
    assert await presence.publish(ROOM, "MessageReceived", "{}", id="m1", once_s=60) is None


async def test_many_rooms_are_heard_at_once_wherever_they_are(presence: Presence) -> None:
    rooms = [MeetingId(f"room-{number}") for number in range(12)]  # on a cluster: on both nodes
    events: asyncio.Queue[RoomEvent] = asyncio.Queue()
    listener = presence.listener(events.put_nowait)
    running = asyncio.create_task(listener.run())
    for room in rooms:
        entered = await presence.enter(
            room, person("ann"), jti=room, jti_ttl_s=60, told=lambda _: [], generation=f"g-{room}"
        )
        assert isinstance(entered, Entered)
        listener.follow(room, entered.room.generation, entered.room.seq)
    await asyncio.gather(*(listener.ready(room) for room in rooms))
    for number in range(5):
        async with asyncio.timeout(1.0):
            for room in rooms:
                await presence.publish(room, "MessageReceived", str(number), numbered=number % 2 == 0)
            heard = {(event := await events.get()).room_id: event.payload for _ in rooms}
        assert heard == dict.fromkeys(rooms, str(number))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_cluster_that_is_not_there_is_unavailable() -> None:
    client = RedisClient(connect("redis://127.0.0.1:1/0", cluster=True))
    with pytest.raises(Unavailable):
        await RedisPresence(client).view(ROOM)
    await client.close()


async def test_what_may_have_been_published_already_is_not_published_again(presence: Presence) -> None:
    start = (await enter(presence, person("ann"))).room.seq
    assert await presence.publish(ROOM, "MessageReceived", "{}", id="m1") is not None
    assert await presence.publish(ROOM, "MessageReceived", "{}", id="m1", again=True) is None
    assert await presence.publish(ROOM, "MessageReceived", "{}", id="m2", again=True) is not None
    events = await presence.since(ROOM, "g1", start)
    assert events is not None
    assert [event.id for event in events] == ["m1", "m2"]


async def test_every_event_after_the_position_is_delivered_once_and_in_order(presence: Presence) -> None:
    start = (await enter(presence, person("ann"))).room.seq
    await presence.publish(ROOM, "MessageReceived", '"before"')
    async with listening(presence, seq=start) as (_, events):
        expected = ['"before"'] + [f'"{n}"' for n in range(50)]
        for payload in expected[1:]:
            await presence.publish(ROOM, "MessageReceived", payload, to=UserId("ann"))
        await presence.publish(ROOM, "QualityChanged", "{}", numbered=False)
        heard = await take(events, 52)
        assert [e.payload for e in heard if e.seq] == expected
        assert [e.seq for e in heard if e.seq] == list(range(start + 1, start + 52))
        assert [(e.type, e.seq) for e in heard if not e.seq] == [("QualityChanged", 0)]
        assert heard[5].to == "ann"


async def test_a_lost_room_is_noticed_and_made_again_under_another_generation(directory: Directory) -> None:
    presence = directory.presence
    await enter(presence, person("ann"))
    node = MediaNode(NodeId("n1"), "eu", "ws://n1", 0.0, 0)
    assert await presence.assign_node(ROOM, node) == "n1"
    before = await presence.view(ROOM)
    assert before is not None
    assert await presence.touch([ROOM, MeetingId("other")]) == {ROOM: "g1"}
    await directory.wipe()
    assert await presence.touch([ROOM]) == {}
    lost = await presence.publish(ROOM, "MessageReceived", "{}")
    assert lost is not None
    assert (lost.seq, lost.generation) == (0, "")
    after = await presence.announce(before, generation="g2")
    assert (after.generation, after.sfu_node, after.sfu_region) == ("g2", "n1", "eu")
    assert after.participants == before.participants
    assert after.seq > before.seq  # no event of it is mistaken for an old one
    bob = replace(before, participants={UserId("bob"): person("bob"), UserId("ann"): person("ann", "stale")})
    merged = await presence.announce(bob, generation="g3")
    assert merged.generation == "g2"
    assert {user: p.connection_id for user, p in merged.participants.items()} == {"ann": "c1", "bob": "c1"}
    assert await presence.touch([ROOM]) == {ROOM: "g2"}


async def test_a_listener_says_when_events_are_lost_for_good_and_follows_anew(directory: Directory) -> None:
    presence = directory.presence
    await enter(presence, person("ann"))
    before = await presence.view(ROOM)
    assert before is not None
    async with listening(presence, seq=before.seq) as (listener, events):
        await presence.publish(ROOM, "MessageReceived", "1")
        await take(events, 1)
        await directory.wipe()
        after = await presence.announce(before, generation="g2")
        async with asyncio.timeout(10):
            while True:  # the listener's connection comes back within moments
                await presence.publish(ROOM, "MessageReceived", "2")
                with_gap = [events.get_nowait() for _ in range(events.qsize())]
                if any(e.type == "room.gap" for e in with_gap):
                    break
                await asyncio.sleep(0.02)
        listener.follow(ROOM, "g2", before.seq)  # from before the room's making: all of the new room
        await presence.publish(ROOM, "MessageReceived", "3")
        heard: list[RoomEvent] = []
        async with asyncio.timeout(10):
            while not heard or heard[-1].payload != "3":
                heard.append(await events.get())
        numbered = [e.seq for e in heard if e.seq]
        assert numbered == list(range(after.seq + 1, after.seq + 1 + len(numbered)))


async def test_a_room_sticks_to_its_node_until_that_one_is_named(presence: Presence) -> None:
    await enter(presence, person("ann"))
    one, two = (MediaNode(NodeId(name), "eu", f"ws://{name}", 0.1, 0) for name in ("n1", "n2"))
    assert await presence.assign_node(ROOM, one) == "n1"
    assert await presence.assign_node(ROOM, two) == "n1"
    assert await presence.assign_node(ROOM, two, instead_of=NodeId("n1")) == "n2"
    assert await presence.assign_node(ROOM, one, instead_of=NodeId("n1")) == "n2"


async def test_recording_is_a_mark_on_a_living_room(presence: Presence) -> None:
    await presence.set_recording(ROOM, True)
    assert await presence.view(ROOM) is None
    await enter(presence, person("ann"))
    await presence.set_recording(ROOM, True)
    view = await presence.view(ROOM)
    assert view is not None
    assert view.is_recording


async def test_a_process_that_stops_beating_is_silent(presence: Presence) -> None:
    await presence.beat("alive", ttl_s=30)
    await presence.beat("dying", ttl_s=1)

    async def two_are_silent() -> bool:
        return await presence.silent(["alive", "dying", "never"]) == {"dying", "never"}

    await eventually(two_are_silent)


async def test_a_frozen_server_is_unavailable_soon_and_serves_again_after_it(redis_server: RedisServer) -> None:
    client = RedisClient(connect(redis_server.url))
    presence = RedisPresence(client)
    await presence.ping()
    started = time.monotonic()
    with redis_server.paused():
        with pytest.raises(Unavailable):
            await presence.ping()
        assert time.monotonic() - started < 4
        with pytest.raises(Unavailable):  # at once: nobody queues behind a dead server
            await presence.view(ROOM)
        assert time.monotonic() - started < 4
    async with asyncio.timeout(5):
        while True:
            try:
                await presence.ping()
                break
            except Unavailable:
                await asyncio.sleep(0.05)
    await client.close()


async def test_a_listener_misses_nothing_when_its_connection_is_cut(redis_server: RedisServer) -> None:
    client = RedisClient(connect(redis_server.url))
    presence = RedisPresence(client)
    start = (await enter(presence, person("ann"))).room.seq
    async with listening(presence, seq=start) as (_, events):
        await presence.publish(ROOM, "MessageReceived", "0")
        await take(events, 1)
        for number in range(1, 20):
            await client.redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await presence.publish(ROOM, "MessageReceived", str(number))
        heard = await take(events, 19)
        assert [e.seq for e in heard] == list(range(start + 2, start + 21))
    await client.close()


async def test_a_token_is_used_once_and_not_by_whom_was_removed(presence: Presence) -> None:
    ann, bob = ParticipantId("p-ann"), ParticipantId("p-bob")
    assert await presence.burn(ROOM, ann, jti="t1", ttl_s=60) is None
    again = await presence.burn(ROOM, ann, jti="t1", ttl_s=60)
    assert again == Refused("token-refused")
    assert again.extra == {"cause": "replayed"}
    joined = await presence.enter(ROOM, person("ann"), jti="t1", jti_ttl_s=60, told=lambda _: [], generation="g1")
    assert joined == Refused("token-refused")  # one memory for all kinds
    assert await presence.burn(MeetingId("room-2"), ann, jti="t1", ttl_s=60) is None
    await presence.deny(ROOM, bob, ttl_s=60)
    assert await presence.burn(ROOM, bob, jti="t2", ttl_s=60) == Refused("removed")


async def test_keys_of_a_room_share_a_slot_and_expire(redis_server: RedisServer) -> None:
    client = RedisClient(connect(redis_server.url))
    presence = RedisPresence(client)
    entered = await enter(presence, person("ann"), jti="j1")
    await presence.deny(ROOM, ParticipantId("p-bob"), ttl_s=60)
    redis: Any = client.redis
    keys = {key async for key in redis.scan_iter()}
    names = ("", ":participants", ":events", ":used:j1", ":denied:p-bob")
    assert keys == {f"room:{{room-1}}{name}" for name in names}
    for key in keys:
        assert 0 < await redis.ttl(key) <= 120
    assert (await redis.hgetall("room:{room-1}"))["participantCount"] == "1"
    entries = await redis.xrange("room:{room-1}:events")
    assert [entry[0] for entry in entries] == [f"{entered.room.seq}-0"]
    await redis.hset("room:{room-1}", "participantCount", "7")
    await presence.touch([ROOM])
    assert await redis.hget("room:{room-1}", "participantCount") == "1"
    await client.close()


async def test_a_room_begins_with_the_topology_of_who_makes_it(presence: Presence) -> None:
    entered: Entered | Refused | None = None
    for name, topology in (("ann", "mesh"), ("bob", "sfu")):
        entered = await presence.enter(
            ROOM,
            person(name, f"c-{name}", can_mesh=name == "ann"),
            jti=name,
            jti_ttl_s=60,
            told=lambda replaced: [],
            generation="g1",
            topology=topology,
        )
        assert isinstance(entered, Entered)
        assert (entered.room.topology, entered.room.epoch) == ("mesh", 1)
    assert isinstance(entered, Entered)
    assert {name: present.can_mesh for name, present in entered.room.participants.items()} == {
        "ann": True,
        "bob": False,
    }


async def test_of_two_switches_from_one_epoch_one_wins_and_is_told_once(presence: Presence) -> None:
    start = (await enter(presence, person("ann"))).room.seq

    async def switch(to: str, epoch: int = 1, generation: str = "g1") -> RoomEvent | None:
        return await presence.switch(
            ROOM, epoch=epoch, to=to, event=("SwitchTopology", json.dumps({"to": to})), generation=generation
        )

    won = [event for event in await asyncio.gather(switch("mesh"), switch("mesh")) if event is not None]
    assert len(won) == 1
    view = await presence.view(ROOM)
    assert view is not None
    assert (view.topology, view.epoch, view.seq) == ("mesh", 2, won[0].seq)
    assert await switch("sfu") is None
    assert await switch("sfu", epoch=2, generation="another") is None
    told = await presence.since(ROOM, "g1", start)
    assert told is not None
    assert [(event.type, json.loads(event.payload)) for event in told] == [("SwitchTopology", {"to": "mesh"})]
    assert (
        await presence.switch(MeetingId("nowhere"), epoch=1, to="mesh", event=("SwitchTopology", "{}"), generation="g1")
        is None
    )


async def test_triggers_and_readiness_are_there_for_whoever_looks_and_survive_an_announcement(
    directory: Directory,
) -> None:
    presence = directory.presence
    await presence.set_trigger(ROOM, "captions", True)
    assert await presence.view(ROOM) is None
    ann = person("ann", can_mesh=True)
    start = (await enter(presence, ann)).room.seq
    async with listening(presence, seq=start) as (listener, events):
        await listener.ready(ROOM)
        await presence.set_trigger(ROOM, "captions", True)
        await presence.set_trigger(ROOM, "live", True)
        await presence.set_trigger(ROOM, "live", False)
        assert [event.type for event in await take(events, 3)] == ["room.triggers"] * 3
    await presence.update(ROOM, replace(ann, ready_epoch=4, ready_peers=("bob",)))
    view = await presence.view(ROOM)
    assert view is not None
    assert view.triggers == {"captions"}
    assert (view.participants[UserId("ann")].ready_epoch, view.participants[UserId("ann")].ready_peers) == (4, ("bob",))
    await directory.wipe()
    made = await presence.announce(view, generation="g2")
    assert made.triggers == {"captions"}
