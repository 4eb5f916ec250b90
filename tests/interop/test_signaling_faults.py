"""Signaling when things break: sockets, processes, the directory, the store. Nobody is lost, nothing comes twice."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import aiohttp
import pytest

from conference.domain.errors import Unavailable
from conference.domain.meetings import Role
from conference.protocol import control as c
from tests.support.redis import RedisServer
from tests.support.signaling import QUICK, Person, Process, World
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


PATIENT = replace(QUICK, resume_s=45.0)


async def resume(
    world: World, process: Process, client: SignalingClient, *, seq: int | None = None
) -> tuple[SignalingClient, dict[str, Any]]:
    """The client's next connection, and the answer to its Resume."""
    fresh = await world.connect(process)
    last = max([client.joined["seq"], *client.numbered()]) if seq is None else seq
    joined = client.joined
    await fresh.send(
        "Resume",
        {
            "participantId": joined["participantId"],
            "resumeSecret": joined["resumeSecret"],
            "generation": joined["generation"],
            "lastSeq": last,
        },
    )
    resumed = await fresh.payload("Resumed")
    fresh.joined = {**joined, **resumed}
    return fresh, resumed


async def chat(client: SignalingClient, *texts: str) -> None:
    for text in texts:
        await client.send("SendMessage", {"text": text, "messageId": text})
    await client.expect("MessageReceived", lambda p: p["text"] == texts[-1])


def texts(client: SignalingClient) -> list[str]:
    return [m["payload"]["text"] for m in client.messages if m["type"] == "MessageReceived"]


async def test_a_second_tab_on_another_process_takes_over_and_the_first_closes(world: World) -> None:
    one, two = await world.process(), await world.process()
    _, watcher = await world.enter(one, Role.HOST)
    bob = await world.person()
    first = await world.join(one, bob)
    again = await world.person(user_id=bob.user_id)
    second = await world.join(two, again)
    assert await first.ends() == 4409
    assert second.joined["participantId"] == first.joined["participantId"]
    await chat(second, "still here")
    await watcher.expect("MessageReceived")
    assert watcher.types().count("ParticipantJoined") == 1
    assert "ParticipantLeft" not in watcher.types()
    view = await world.presence.view(world.room)
    assert view is not None
    assert len(view.participants) == 2


@pytest.mark.parametrize("same", [True, False])
async def test_a_dropped_connection_resumes_and_gets_what_it_missed_once_and_in_order(world: World, same: bool) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    _, a = await world.enter(one)
    _, b = await world.enter(two)
    await chat(b, "before")
    await a.expect("MessageReceived")
    a.cut()
    await chat(b, *(f"missed {n}" for n in range(20)))
    back, resumed = await resume(world, one if same else two, a)
    assert "snapshot" not in resumed
    await chat(b, "after")
    await back.expect("MessageReceived", lambda p: p["text"] == "after")
    assert texts(back) == [f"missed {n}" for n in range(20)] + ["after"]
    assert back.numbered() == sorted(set(back.numbered()))
    assert "ParticipantLeft" not in b.types()


async def test_a_resume_with_lost_answers_works_with_the_previous_secret_and_a_wrong_one_is_refused(
    world: World,
) -> None:
    process = await world.process(PATIENT)
    _, a = await world.enter(process)
    a.cut()
    await resume(world, process, a)
    again, _ = await resume(world, process, a)  # the first answer was lost: the old secret still counts
    await resume(world, process, again)
    stranger = await world.connect(process)
    secret = f"{world.room}.{a.joined['userId']}.{world.ids.new()}"
    forged = {"participantId": a.joined["participantId"], "resumeSecret": secret, "generation": "g", "lastSeq": 0}
    await stranger.send("Resume", forged)
    assert (await stranger.payload("Error"))["code"] == "token-refused"
    assert await stranger.ends() == 4401


async def test_a_resume_that_is_too_far_behind_or_of_another_generation_gets_a_snapshot(world: World) -> None:
    process = await world.process(PATIENT)
    _, a = await world.enter(process)
    bob, b = await world.enter(process)
    a.cut()
    a.joined["generation"] = "another"
    _, resumed = await resume(world, process, a)
    assert bob.user_id in [p["userId"] for p in resumed["snapshot"]["participants"]]
    await chat(b, "on")


async def test_who_does_not_come_back_has_left(world: World) -> None:
    one, two = await world.process(), await world.process()
    _, a = await world.enter(one)
    bob, b = await world.enter(two)
    b.cut()
    left = await a.payload("ParticipantLeft")
    assert (left["userId"], left["reason"]) == (bob.user_id, "timeout")
    late = await world.connect(one)
    joined = b.joined
    await late.send(
        "Resume",
        {
            "participantId": joined["participantId"],
            "resumeSecret": joined["resumeSecret"],
            "generation": joined["generation"],
            "lastSeq": 0,
        },
    )
    assert await late.ends() == 4401

    async def stay_has_ended() -> bool:
        stay = await world.meetings.participant(world.room, bob.claims.participant_id)
        return stay is not None and stay.left_at is not None

    await eventually(stay_has_ended)


async def test_a_resume_finds_the_media_session_as_it_was(world: World) -> None:
    node = await world.sfu()
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    ann, a = await world.enter(one)
    publish = await a.payload("SfuEndpoint")
    await a.expect("SfuEndpoint")
    a.cut()
    back, _ = await resume(world, two, a)
    assert (await back.payload("SfuEndpoint"))["transportId"] == publish["transportId"]
    assert [x.participant_id for x in node.of(c.AttachSession)] == [ann.claims.participant_id]
    back.cut()
    third, _ = await resume(world, two, back)
    assert (await third.payload("SfuEndpoint"))["transportId"] == publish["transportId"]
    assert len(node.of(c.OpenSession)) == 1


async def test_a_process_that_dies_leaves_no_ghosts(world: World) -> None:
    one, two = await world.process(), await world.process()
    _, a = await world.enter(one)
    bob, b = await world.enter(two)
    # It dies: its field stays as it was, and it beats no more.
    await two.worker._tasks.stop()
    b.cut()
    await world.redis.redis.delete(f"signaling:process:{two.services.process_id}")
    ghost = await world.presence.view(world.room)
    assert ghost is not None

    async def marked() -> bool:
        view = await world.presence.view(world.room)
        return view is None or view.participants[bob.user_id].disconnected_at is not None

    await eventually(marked)
    back, _ = await resume(world, one, b)  # within the window, on a process that lives
    await chat(back, "alive")
    await a.expect("MessageReceived")
    assert "ParticipantLeft" not in a.types()


async def join_again(world: World, process: Process, person: Person) -> float:
    """Seconds until a join works."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    client = await world.connect(process)
    while True:
        await client.send("JoinRoom", {"roomId": world.room, "token": person.token})
        await eventually(lambda: bool({"RoomJoined", "Error"} & set(client.types())))
        if "RoomJoined" in client.types():
            client.joined = await client.payload("RoomJoined")
            return loop.time() - started
        error = await client.payload("Error")
        assert error["retryable"]
        client.messages.clear()
        client._taken = 0


async def test_a_directory_that_comes_back_empty_loses_no_connection_and_no_room(world: World) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    ann, a = await world.enter(one)
    bob, b = await world.enter(two)
    await chat(a, "before")
    await b.expect("MessageReceived")
    world.server.restart_empty()
    carol = await world.person()
    assert await join_again(world, two, carol) <= 3.0
    third = world.clients[-1]

    async def whole() -> bool:
        try:
            view = await world.presence.view(world.room)
        except Unavailable:
            return False
        return view is not None and set(view.participants) == {ann.user_id, bob.user_id, carol.user_id}

    await eventually(whole)
    await chat(a, "after")
    for client in (b, third):
        await client.expect("MessageReceived", lambda p: p["text"] == "after")
    assert a.close_code is None
    assert b.close_code is None
    known = {p["userId"] for p in third.joined["snapshot"]["participants"]}
    await eventually(lambda: known | _joiners(third) >= {ann.user_id, bob.user_id})
    for client in (a, b):
        await eventually(lambda seen=client: carol.user_id in _joiners(seen))  # type: ignore[misc]
        assert client.numbered() == sorted(set(client.numbered()))
        assert texts(client).count("after") == 1
    a.cut()
    _, resumed = await resume(world, one, a)  # of the former generation
    assert len(resumed["snapshot"]["participants"]) == 3


def _joiners(client: SignalingClient) -> set[str]:
    return {m["payload"]["userId"] for m in client.messages if m["type"] == "ParticipantJoined"}


async def test_a_frozen_directory_drops_no_call_and_people_of_one_process_still_talk(world: World) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    _, a = await world.enter(one)
    bob, b = await world.enter(one)
    _, d = await world.enter(two)
    late = await world.person()
    with world.server.paused():
        await b.send("UpdateState", {"isMuted": True})
        assert (await a.payload("StateChanged"))["isMuted"] is True
        await chat(b, "in the dark")
        assert (await a.payload("MessageReceived"))["text"] == "in the dark"
        client = await world.connect(one)
        await client.send("JoinRoom", {"roomId": world.room, "token": late.token})
        assert (await client.payload("Error"))["retryable"]
        b.cut()
        back, _ = await resume(world, one, b)
    assert (await d.payload("StateChanged"))["isMuted"] is True
    assert (await d.payload("MessageReceived"))["text"] == "in the dark"

    async def written() -> bool:
        view = await world.presence.view(world.room)
        if view is None:
            return False
        bobs = view.participants[bob.user_id]
        return bool(bobs.state["isMuted"]) and bobs.disconnected_at is None

    await eventually(written)
    await chat(back, "light")
    await a.expect("MessageReceived", lambda p: p["text"] == "light")
    for client in (a, d):
        await eventually(lambda seen=client: "light" in texts(seen))  # type: ignore[misc]
        assert texts(client) == ["in the dark", "light"]
        assert client.close_code is None
    back.cut()
    await resume(world, two, back)


async def test_a_directory_that_is_away_for_longer_than_it_takes_to_notice_loses_and_doubles_nothing(
    world: World,
) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    _, a = await world.enter(one)
    _, b = await world.enter(two)
    late = await world.person()
    with world.server.paused():
        await chat(a, "early")
        await asyncio.sleep(9)  # the listeners have given up their connections, and so has everything else
        await chat(a, "late")
    assert await join_again(world, two, late) <= 3.0
    await chat(a, "after")
    await eventually(lambda: "after" in texts(b))
    assert texts(b) == ["early", "late", "after"]
    assert texts(a) == ["early", "late", "after"]
    assert (a.close_code, b.close_code) == (None, None)
    assert "ParticipantLeft" not in a.types() + b.types()


async def test_the_host_removes_somebody_of_the_same_process_while_the_directory_is_frozen(world: World) -> None:
    node = await world.sfu()
    process = await world.process(PATIENT)
    _, host = await world.enter(process, Role.HOST)
    bob, b = await world.enter(process)
    await b.expect("SfuEndpoint")
    with world.server.paused():
        await host.send("Moderate", {"action": "remove", "targetUserId": bob.user_id})
        assert await b.ends() == 4403
        await eventually(lambda: [x.participant_id for x in node.of(c.CloseSession)] == [bob.claims.participant_id])

    async def gone() -> bool:
        try:
            view = await world.presence.view(world.room)
        except Unavailable:
            return False
        return view is not None and bob.user_id not in view.participants

    await eventually(gone)


async def test_a_store_that_is_away_stops_no_join_and_is_told_later(world: World) -> None:
    away = True
    meetings = world.meetings

    class Flaky:
        def __getattr__(self, name: str) -> Any:
            if away and name in ("mark_joined", "mark_left", "renew_leases"):
                return self._fail
            return getattr(meetings, name)

        async def _fail(self, *args: object, **more: object) -> None:
            raise Unavailable("store")

    process = await world.process(meetings=Flaky())
    person, client = await world.enter(process)
    await client.send("Leave")
    await client.ends()
    stay = await meetings.participant(world.room, person.claims.participant_id)
    assert stay is not None
    assert stay.joined_at is None
    away = False

    async def both_are_written() -> bool:
        late = await meetings.participant(world.room, person.claims.participant_id)
        return late is not None and late.joined_at is not None and late.left_at is not None

    await eventually(both_are_written)


async def test_leases_of_connected_people_are_renewed(world: World) -> None:
    process = await world.process(replace(QUICK, lease_s=1))
    person, _ = await world.enter(process)
    first = await world.meetings.participant(world.room, person.claims.participant_id)
    assert first is not None

    async def renewed() -> bool:
        stay = await world.meetings.participant(world.room, person.claims.participant_id)
        return stay is not None and stay.lease_until > first.lease_until

    await eventually(renewed)


async def test_a_draining_process_moves_its_people_and_keeps_their_seats(world: World) -> None:
    one, two = await world.process(PATIENT), await world.process(PATIENT)
    _, a = await world.enter(one)
    _, b = await world.enter(two)
    draining = asyncio.create_task(one.worker.drain())
    await a.expect("Moving")
    async with world.http.get(one.http_url + "/ready") as answer:
        assert answer.status == 503
    back, _ = await resume(world, two, a)
    await chat(b, "moved")
    await back.expect("MessageReceived")
    await draining
    assert "ParticipantLeft" not in b.types()


async def test_debug_hooks_cut_and_lose_the_signal(world: World) -> None:
    process = await world.process(PATIENT)
    _, a = await world.enter(process)
    _, b = await world.enter(process)
    await a.send("Simulate", {"scenario": "signal-drop-lossy"})
    await chat(b, "lost", "lost too")
    await a.send("Simulate", {"scenario": "signal-drop"})
    assert await a.ends() == 1006
    back, _ = await resume(world, process, a, seq=a.joined["seq"])
    await back.expect("MessageReceived", lambda p: p["text"] == "lost too")
    assert texts(back) == ["lost", "lost too"]
    plain = await world.process(replace(QUICK, debug_hooks=False))
    _, d = await world.enter(plain)
    await d.send("Simulate", {"scenario": "signal-drop"})
    assert (await d.payload("Error", lambda p: p["code"] != "sfu-unavailable"))["code"] == "unknown-type"
