"""Mesh and SFU over two signaling processes and one Redis: who is told what, and when media sessions exist."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, Final

import aiohttp
import pytest

from conference.domain.ids import MeetingId, UserId
from conference.domain.meetings import MeetingSettings, Role, TopologyMode
from conference.protocol import control as c
from conference.protocol.topology import Rules
from tests.support.fake_sfu import FakeSfu
from tests.support.redis import RedisServer
from tests.support.signaling import QUICK, Process, World
from tests.support.signaling_client import SignalingClient
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop

MESH: Final = {"mesh": True}
RULES: Final = Rules(limit=2, loss_s=0.3, calm_s=1.0, deadline_s=2.0)
OPTIONS: Final = replace(QUICK, topology=RULES)


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


class Peer:
    """Somebody who talks peer to peer, as far as signaling sees it."""

    def __init__(self, user_id: UserId, client: SignalingClient) -> None:
        self.user_id = user_id
        self.client = client
        self.epoch = int(client.joined["epoch"])

    async def ready(self, *others: "Peer") -> None:
        payload = {"epoch": self.epoch, "peers": [other.user_id for other in others]}
        await self.client.send("TopologyReady", payload)

    async def switched(self, to: str) -> dict[str, Any]:
        news = await self.client.payload("SwitchTopology", lambda payload: payload["to"] == to)
        self.epoch = news["epoch"]
        return news


async def enter(world: World, process: Process, role: Role = Role.ATTENDEE) -> Peer:
    person, client = await world.enter(process, role, capabilities=MESH)
    return Peer(person.user_id, client)


async def all_ready(*peers: Peer) -> None:
    for peer in peers:
        await peer.ready(*(other for other in peers if other is not peer))


def sessions(node: FakeSfu) -> int:
    return len(node.sessions)


async def test_two_are_a_mesh_without_a_media_session_and_the_third_moves_everybody(world: World) -> None:
    node = await world.sfu()
    one, two = await world.process(OPTIONS), await world.process(OPTIONS)
    ann, bob = await enter(world, one), await enter(world, two)
    assert [peer.client.joined["topology"] for peer in (ann, bob)] == ["mesh", "mesh"]
    await all_ready(ann, bob)
    assert await ann.client.payload("PeerReady", lambda p: p["userId"] == bob.user_id) == {
        "userId": bob.user_id,
        "epoch": 1,
        "peers": [ann.user_id],
    }
    assert node.sessions == {}
    cid = await enter(world, one)
    assert (cid.client.joined["topology"], cid.client.joined["epoch"]) == ("sfu", 2)
    for peer in (ann, bob):
        news = await peer.switched("sfu")
        assert (news["epoch"], news["reason"], news["deadlineMs"]) == (2, "size", 2_000)
    for peer in (ann, bob, cid):
        directions = {(await peer.client.payload("SfuEndpoint"))["direction"] for _ in range(2)}
        assert directions == {"publish", "subscribe"}
    assert sessions(node) == 3


async def test_sdp_goes_from_peer_to_peer_and_a_former_epoch_is_heard_until_it_is_over(world: World) -> None:
    await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    offer = {"targetUserId": bob.user_id, "transportId": "link", "negotiationId": 1, "sdp": "v=0", "epoch": 1}
    await ann.client.send("SendOffer", offer)
    assert (await bob.client.payload("ReceiveOffer"))["sourceUserId"] == ann.user_id
    await enter(world, process)
    await ann.switched("sfu")
    await ann.client.send("SendOffer", offer)
    assert (await bob.client.payload("ReceiveOffer"))["transportId"] == "link"
    await ann.client.send("SendOffer", {**offer, "epoch": 3})
    assert (await ann.client.payload("Error"))["code"] == "stale-epoch"


async def test_a_room_that_is_calm_goes_back_and_the_sessions_end_when_every_pair_is_ready(world: World) -> None:
    node = await world.sfu()
    one, two = await world.process(OPTIONS), await world.process(OPTIONS)
    ann, bob = await enter(world, one), await enter(world, two)
    await all_ready(ann, bob)
    cid = await enter(world, one)
    for peer in (ann, bob):
        await peer.switched("sfu")
    await eventually(lambda: sessions(node) == 3)
    await cid.client.send("Leave")
    for peer in (ann, bob):
        assert (await peer.switched("mesh"))["reason"] == "calm"
    await ann.ready(bob)
    await asyncio.sleep(0.3)  # nothing may happen while one end is not ready
    assert sessions(node) == 2
    await bob.ready(ann)
    await eventually(lambda: sessions(node) == 0)


async def test_losses_and_triggers_move_the_room(world: World) -> None:
    await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    await all_ready(ann, bob)
    report = {"peers": [{"userId": bob.user_id, "loss": 0.2, "rtt": 40.5}]}
    switched = asyncio.create_task(ann.switched("sfu"))
    while not switched.done():
        await ann.client.send("LinkReport", report)
        await asyncio.wait([switched], timeout=0.1)
    assert (await switched)["reason"] == "loss"
    await bob.switched("sfu")
    await bob.switched("mesh")
    assert (await ann.switched("mesh"))["epoch"] == 3
    await all_ready(ann, bob)
    await world.presence.set_trigger(world.room, "captions", True)
    assert (await bob.switched("sfu"))["reason"] == "captions"


async def test_a_pair_that_does_not_get_through_moves_the_room(world: World) -> None:
    await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    await ann.ready(bob)
    assert (await bob.switched("sfu"))["reason"] == "unreachable"


async def test_who_does_not_come_to_the_sfu_is_told_again(world: World) -> None:
    await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    await all_ready(ann, bob)
    cid = await enter(world, process)
    await ann.switched("sfu")
    await bob.switched("sfu")
    await ann.ready()
    await cid.ready()
    assert (await bob.switched("sfu"))["epoch"] == 2
    assert [message["type"] for message in ann.client.messages].count("SwitchTopology") == 1


async def test_who_is_told_again_hears_the_same_reason(world: World) -> None:
    await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    await all_ready(ann, bob)
    await world.presence.set_trigger(world.room, "captions", True)
    first = await bob.switched("sfu")
    assert (await bob.switched("sfu"), first["reason"]) == (first, "captions")


@pytest.mark.parametrize("mode", [TopologyMode.SFU, TopologyMode.AUTO])
async def test_a_client_that_cannot_and_a_setting_that_does_not_want_keep_the_sfu(
    world: World, mode: TopologyMode
) -> None:
    node = await world.sfu()
    room = world.room = MeetingId(str(uuid.uuid4()))
    await world.make_meeting(room, MeetingSettings(topology=mode))
    process = await world.process(OPTIONS)
    capabilities = MESH if mode is TopologyMode.SFU else {}
    _, client = await world.enter(process, capabilities=capabilities)
    assert client.joined["topology"] == "sfu"
    await eventually(lambda: sessions(node) == 1)


async def test_whoever_is_muted_is_muted_on_the_sfu_from_the_first_packet(world: World) -> None:
    node = await world.sfu()
    process = await world.process(OPTIONS)
    ann, bob = await enter(world, process), await enter(world, process)
    await all_ready(ann, bob)
    await ann.client.send("UpdateState", {"isMuted": True})
    await bob.client.payload("StateChanged", lambda p: p["userId"] == ann.user_id)
    await enter(world, process)
    participant = ann.client.joined["participantId"]

    def is_muted() -> bool:
        return any(
            isinstance(message, c.MuteTracks) and message.participant_id == participant and message.muted
            for message in node.received
        )

    await eventually(is_muted)


@pytest.mark.parametrize(("count", "topology"), [(5, "mesh"), (6, "sfu")])
async def test_five_are_a_mesh_and_six_are_not(world: World, count: int, topology: str) -> None:
    await world.sfu()
    processes = [await world.process(replace(OPTIONS, topology=Rules())) for _ in range(2)]
    peers = [await enter(world, processes[at % 2]) for at in range(count)]
    assert [peer.client.joined["topology"] for peer in peers[:5]] == ["mesh"] * 5
    assert peers[-1].client.joined["topology"] == topology
