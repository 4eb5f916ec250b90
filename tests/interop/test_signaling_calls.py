"""Signaling over real sockets, two processes and a real Redis: joining, talking, moderating, leaving."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from conference.domain.ids import ParticipantId
from conference.domain.meetings import MeetingSettings, Role
from conference.protocol import control as c
from conference.protocol import messages as m
from tests.support.redis import RedisServer
from tests.support.signaling import World
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


async def test_two_people_on_two_processes_see_each_other(world: World) -> None:
    one, two = await world.process(), await world.process()
    ann, a = await world.enter(one, displayName="  Ann\u202e\n A. ")
    bob, b = await world.enter(two)
    assert [p["userId"] for p in b.joined["snapshot"]["participants"]] == [ann.user_id, bob.user_id]
    assert b.joined["snapshot"]["participants"][0]["displayName"] == "Ann A."
    told = await a.expect("ParticipantJoined", lambda p: p["userId"] == bob.user_id)
    assert told["payload"]["displayName"] == "Guest"
    assert told["seq"] == b.joined["seq"]
    await b.send("UpdateState", {"isHandRaised": True})
    for client in (a, b):
        changed = await client.payload("StateChanged")
        assert changed == {"userId": bob.user_id, "isHandRaised": True}
    await b.send("Leave")
    left = await a.payload("ParticipantLeft")
    assert (left["userId"], left["reason"]) == (bob.user_id, "left")
    assert await b.ends() == 1000
    stay = await world.meetings.participant(world.room, bob.claims.participant_id)
    assert stay is not None
    assert stay.joined_at is not None
    assert stay.left_at is not None


async def test_a_name_comes_from_the_client_else_the_user_else_guest(world: World) -> None:
    process = await world.process()
    named = await world.person(name="Known Name")
    client = await world.join(process, named)
    assert client.joined["snapshot"]["participants"][0]["displayName"] == "Known Name"


async def test_chat_reaches_everybody_once_with_the_senders_name(world: World) -> None:
    one, two = await world.process(), await world.process()
    ann, a = await world.enter(one, displayName="Ann")
    _, b = await world.enter(two)
    for _ in range(3):  # a client that got no answer sends again
        await a.send("SendMessage", {"text": "hello", "messageId": "m1"})
    await a.send("SendMessage", {"text": "bye", "messageId": "m2"})
    for client in (a, b):
        await client.expect("MessageReceived", lambda p: p["messageId"] == "m2")
        received = [m["payload"] for m in client.messages if m["type"] == "MessageReceived"]
        assert [(m["text"], m["userId"], m["displayName"]) for m in received] == [
            ("hello", ann.user_id, "Ann"),
            ("bye", ann.user_id, "Ann"),
        ]


async def test_media_is_negotiated_through_the_control_link(world: World) -> None:
    node = await world.sfu()
    one, two = await world.process(), await world.process()
    ann, a = await world.enter(one)
    _, b = await world.enter(two)
    publish, subscribe = await a.payload("SfuEndpoint"), await a.payload("SfuEndpoint")
    assert (publish["direction"], subscribe["direction"]) == ("publish", "subscribe")
    assert (publish["ip"], publish["nodeId"]) == ("127.0.0.1", "node-a")
    track = {"trackId": "cam", "kind": "video", "source": "camera", "mid": "0"}
    offer = {"targetUserId": "sfu", "transportId": publish["transportId"], "negotiationId": 4, "sdp": "v=0"}
    await a.send("SendOffer", {**offer, "tracks": [track]}, id="o1")
    answer = await a.expect("ReceiveAnswer")
    assert answer["replyTo"] == "o1"
    assert (answer["payload"]["sourceUserId"], answer["payload"]["negotiationId"]) == ("sfu", 4)
    published = (await b.payload("TrackPublished"))["track"]
    assert (published["trackId"], published["userId"]) == ("cam", ann.user_id)
    candidate = {"targetUserId": "sfu", "transportId": publish["transportId"], "candidate": None}
    await a.send("SendIceCandidate", candidate)
    await eventually(lambda: len(node.of(c.AddCandidate)) == 1)

    participant = ann.claims.participant_id
    await node.say(
        participant,
        c.Offer(participant_id=participant, transport_id=subscribe["transportId"], negotiation_id=9, sdp="v=0 s"),
    )
    assert (await a.payload("ReceiveOffer"))["negotiationId"] == 9
    back = {"targetUserId": "sfu", "transportId": subscribe["transportId"], "negotiationId": 9, "sdp": "v=0"}
    await a.send("SendAnswer", back)
    await eventually(lambda: [x.negotiation_id for x in node.of(c.Answer)] == [9])

    _, late = await world.enter(two)
    assert [t["trackId"] for t in late.joined["snapshot"]["tracks"]] == ["cam"]
    await a.send("SetReceive", {"tracks": [{"trackId": "x", "width": 320, "height": 180}]})
    await eventually(lambda: len(node.of(c.SelectTracks)) == 1)
    await node.say(
        participant,
        c.TrackRemoved(
            room_id=world.room, participant_id=participant, user_id=ann.user_id, track_id="cam", kind="video"
        ),
    )
    assert (await b.payload("TrackUnpublished"))["trackId"] == "cam"


async def test_what_the_node_says_of_speakers_quality_and_layers_is_passed_on(world: World) -> None:
    node = await world.sfu()
    process = await world.process()
    ann, a = await world.enter(process)
    await a.expect("SfuEndpoint")
    pid = ann.claims.participant_id
    level = c.Level(participant_id=pid, user_id=ann.user_id, level=0.5)
    await node.say(pid, c.SpeakersChanged(room_id=world.room, speakers=[level]))
    speakers = await a.expect("ActiveSpeakers")
    assert speakers["payload"]["speakers"] == [{"userId": ann.user_id, "level": 0.5}]
    assert "seq" not in speakers
    quality = c.ConnectionQuality(room_id=world.room, participant_id=pid, user_id=ann.user_id, quality="poor")
    await node.say(pid, quality)
    assert (await a.payload("QualityChanged"))["quality"] == "poor"
    await node.say(pid, c.ChangeSend(participant_id=pid, track_id="cam", layers={"h": False}))
    assert (await a.payload("SetSend"))["layers"] == {"h": False}
    paused = m.ReceivedTrack(track_id="cam", paused="bandwidth")
    await node.say(pid, c.ReceiveChanged(participant_id=pid, tracks=[paused]))
    assert (await a.payload("ReceiveChanged"))["tracks"] == [{"trackId": "cam", "paused": "bandwidth"}]


async def test_a_sessions_end_at_the_node_opens_another(world: World) -> None:
    node = await world.sfu()
    process = await world.process()
    ann, a = await world.enter(process)
    first = await a.payload("SfuEndpoint")
    await a.expect("SfuEndpoint")
    pid = ann.claims.participant_id
    await node.say(pid, c.SessionClosed(room_id=world.room, participant_id=pid, reason="failed"))
    second = await a.payload("SfuEndpoint")
    assert second["transportId"] != first["transportId"]


async def test_without_a_media_server_one_joins_is_told_and_gets_it_later(world: World) -> None:
    process = await world.process()
    _, a = await world.enter(process)
    error = await a.payload("Error")
    assert (error["code"], error["retryable"]) == ("sfu-unavailable", True)
    await world.sfu()
    await a.expect("SfuEndpoint")


async def test_a_dead_node_is_replaced_and_clients_get_new_endpoints(world: World) -> None:
    first = await world.sfu("node-a")
    one, two = await world.process(), await world.process()
    clients = [(await world.enter(p))[1] for p in (one, two)]
    for client in clients:
        assert (await client.payload("SfuEndpoint"))["nodeId"] == "node-a"
        await client.expect("SfuEndpoint")
    second = await world.sfu("node-b", load=0.9)
    await first.die()
    for client in clients:
        assert (await client.payload("SfuEndpoint"))["nodeId"] == "node-b"
    assert len(second.sessions) == 2
    await eventually(lambda: all(set(p.worker._media._links) == {"node-b"} for p in (one, two)))
    view = await world.presence.view(world.room)
    assert view is not None
    assert view.sfu_node == "node-b"


async def test_a_lost_control_link_attaches_the_living_sessions_again(world: World) -> None:
    node = await world.sfu()
    process = await world.process()
    ann, a = await world.enter(process)
    await a.expect("SfuEndpoint")
    await a.expect("SfuEndpoint")
    await node.cut_links()
    await eventually(lambda: [x.participant_id for x in node.of(c.AttachSession)] == [ann.claims.participant_id])
    assert len(node.of(c.OpenSession)) == 1
    assert a.close_code is None


async def test_people_exchange_sdp_directly_on_one_process_and_across_two(world: World) -> None:
    one, two = await world.process(), await world.process()
    ann, a = await world.enter(one)
    bob, b = await world.enter(one)
    carol, d = await world.enter(two)
    for target, client in ((bob, b), (carol, d)):
        payload = {"targetUserId": target.user_id, "transportId": "p2p", "negotiationId": 1, "sdp": "v=0 direct"}
        await a.send("SendOffer", payload)
        offer = await client.expect("ReceiveOffer")
        assert (offer["payload"]["sourceUserId"], offer["payload"]["sdp"]) == (ann.user_id, "v=0 direct")
        assert "seq" not in offer
    candidate = {"candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0}
    await d.send("SendIceCandidate", {"targetUserId": ann.user_id, "transportId": "p2p", "candidate": candidate})
    received = await a.payload("IceCandidate")
    assert (received["sourceUserId"], received["candidate"]["candidate"]) == (carol.user_id, "candidate:1")
    assert "ReceiveOffer" not in a.types()
    await a.send("SendOffer", {"targetUserId": "nobody", "transportId": "p2p", "sdp": ""}, id="9")
    assert (await a.expect("Error"))["replyTo"] == "9"


async def test_the_host_mutes_changes_roles_and_removes(world: World) -> None:
    node = await world.sfu()
    one, two = await world.process(), await world.process()
    _, host = await world.enter(one, Role.HOST)
    bob, b = await world.enter(two)
    await b.expect("SfuEndpoint")
    await host.send("Moderate", {"action": "mute", "targetUserId": bob.user_id})
    assert (await b.payload("Moderated"))["action"] == "mute"
    assert await host.payload("StateChanged") == {"userId": bob.user_id, "isMuted": True}
    await eventually(lambda: any(x.muted for x in node.of(c.MuteTracks)))

    await host.send("Moderate", {"action": "role", "targetUserId": bob.user_id, "role": "viewer"})
    assert (await host.payload("StateChanged"))["role"] == "viewer"
    await eventually(lambda: [x.role for x in node.of(c.UpdateSession)] == ["viewer"])
    stay = await world.meetings.participant(world.room, bob.claims.participant_id)
    assert stay is not None
    assert stay.role is Role.VIEWER

    await host.send("Moderate", {"action": "remove", "targetUserId": bob.user_id})
    assert (await b.payload("Moderated", lambda p: p["action"] == "remove"))["byUserId"] == world.host
    assert await b.ends() == 4403
    assert (await host.payload("ParticipantLeft"))["reason"] == "removed"
    assert await world.presence.denied(world.room, ParticipantId(bob.claims.participant_id))
    await eventually(lambda: len(node.of(c.CloseSession)) == 1)
    again = await world.connect(two)
    await again.send("JoinRoom", {"roomId": world.room, "token": bob.token})
    assert (await again.payload("Error"))["code"] == "removed"
    assert await again.ends() == 4403


async def test_others_do_not_moderate_and_what_is_missing_is_said(world: World) -> None:
    process = await world.process()
    _, host = await world.enter(process, Role.HOST)
    bob, b = await world.enter(process)
    codes = []
    for client, type_, payload in (
        (b, "Moderate", {"action": "mute", "targetUserId": world.host}),
        (b, "StartRecording", {}),
        (host, "StartRecording", {}),
        (host, "StopRecording", {}),
        (host, "SetCaptionLanguage", {"language": "de"}),
        (host, "Moderate", {"action": "admit", "targetUserId": bob.user_id}),
        (host, "Moderate", {"action": "remove", "targetUserId": world.host}),
        (host, "Moderate", {"action": "mute", "targetUserId": "nobody"}),
    ):
        await client.send(type_, payload, id="x")
        codes.append((await client.payload("Error", lambda p: p["code"] != "sfu-unavailable"))["code"])
    assert codes == [
        "not-host", "not-host", "recorder-unavailable", "recorder-unavailable", "not-available", "not-available",
        "forbidden", "not-a-participant",
    ]  # fmt: skip


async def test_orders_of_the_api_reach_the_person_and_the_room(world: World) -> None:
    await world.sfu()
    one, two = await world.process(), await world.process()
    _, a = await world.enter(one)
    bob, b = await world.enter(two)
    order = f'{{"userId":"{bob.user_id}","grants":["recording"],"declined":["ai"]}}'
    await world.presence.publish(world.room, "user.grants", order, to=bob.user_id, origin="functions")
    assert await b.payload("StateChanged") == {"userId": bob.user_id, "grants": ["recording"]}
    await world.presence.publish(world.room, "user.muted", "not json", to=bob.user_id)
    await world.presence.publish(world.room, "room.ended", "{}", origin="functions")
    assert await a.ends() == 4410
    assert await b.ends() == 4410
    assert "StateChanged" not in a.types()
    await eventually(lambda: len(one.worker.rooms) == 0 and len(two.worker.rooms) == 0)


async def test_a_host_without_a_decision_is_asked_for_consent(world: World) -> None:
    world.room = type(world.room)(world.ids.new())
    await world.make_meeting(world.room, MeetingSettings(is_recording_enabled=True))
    process = await world.process()
    host = await world.person(Role.HOST, consent_pending=True)
    client = await world.join(process, host)
    asked = (await client.payload("ConsentRequested"))["consentRequired"]
    assert [need["type"] for need in asked] == ["recording"]


async def test_part_a_names_work_end_to_end(world: World) -> None:
    await world.sfu()
    process = await world.process()
    person = await world.person()
    client = await world.connect(process)
    await client.send("join_room", {"roomId": world.room, "token": person.token})
    await client.expect("room_joined")
    publish = await client.payload("sfu_endpoint")
    track = {"trackId": "mic", "kind": "audio", "source": "microphone"}
    await client.send("offer", {"targetUserId": "sfu", "sdp": "v=0", "tracks": [track]})
    assert (await client.payload("answer"))["transportId"] == publish["transportId"]
    assert (await client.payload("track_published"))["track"]["trackId"] == "mic"
    _, other = await world.enter(process)
    assert (await client.payload("participant_joined"))["displayName"] == "Guest"
    await other.send("KeepAlive", id="k")
    assert (await other.expect("KeepAliveAck"))["replyTo"] == "k"
