"""The Python client with real signaling, SFU, gateway and TURN: which way it finds, and that the call goes on."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import aiohttp
import pytest
from aiortc.mediastreams import AudioStreamTrack
from parley_client import Call, Client, JoinRefused, LastGood, NoWay, ReceivedTrack, Unreachable

from conference.adapters.system import SystemIds
from conference.adapters.turn import TurnIceServers
from conference.domain.addresses import parse_address
from conference.domain.ids import ParticipantId, Secret
from local.runner.machine import free_turn_port
from local.turn.core import TurnCore
from local.turn.nonces import Nonces
from local.turn.peers import PeerRules, Ports
from local.turn.server import Addresses, TurnServer
from media_workers.tunnel import ends
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.worker import Options, TunnelWorker
from tests.support.native_client import NativeParticipant
from tests.support.redis import RedisServer
from tests.support.sfu import Colour, Received
from tests.support.site import Site, running_site
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

SHADE, OTHER = 60, 190
HOST = "127.0.0.1"


class Room:
    """A site, somebody ordinary in the room, and calls of the client under test."""

    def __init__(self, site: Site, gateway: TunnelWorker, stack: AsyncExitStack) -> None:
        self.site, self.gateway, self.stack = site, gateway, stack
        self.memory = LastGood()
        self.other: NativeParticipant
        self.user_id = str(uuid.uuid4())
        self.received: dict[str, Received] = {}

    async def fill(self) -> None:
        world = self.site.world
        grant = {"signalingUrl": self.site.process.url, "token": (await world.person()).token}
        self.other = NativeParticipant(world.http, grant, world.room, shade=OTHER)
        await self.stack.enter_async_context(self.other)

    async def client(self) -> Client:
        site = self.site
        http = await self.stack.enter_async_context(aiohttp.ClientSession())
        client = Client(
            http,
            site.front.url,
            self.user_id,
            tunnel_url=site.gate.url,
            memory=self.memory,
            limits_s={"udp": 2.0},
        )
        return await self.stack.enter_async_context(client)

    async def join(self, **options: object) -> Call:
        client = await self.client()
        publish = [AudioStreamTrack(), Colour(SHADE, width=320, height=180)]
        call = await client.join(self.site.world.room, publish=publish, **options)  # type: ignore[arg-type]
        call.on_track(self._arrived)
        return call

    def _arrived(self, track: ReceivedTrack) -> None:
        self.received[track.source] = Received(track.track)

    async def see_each_other(self, call: Call) -> None:
        seen = await self.other.receives(call.user_id, "camera", frames=10)
        assert seen.shade is not None
        assert abs(seen.shade - SHADE) < 25
        for source in ("camera", "microphone"):
            await eventually(lambda source=source: source in self.received and self.received[source].frames >= 10)  # type: ignore[misc]
        shade = self.received["camera"].shade
        assert shade is not None
        assert abs(shade - OTHER) < 25

    async def goes_on(self, call: Call, frames: int = 15) -> None:
        """From now on pictures come both ways, over the connections of now."""
        there = self.other.received
        theirs = [track for track in self.other.tracks.values() if track.user_id == call.user_id]
        (mine,) = (track.track_id for track in theirs if track.kind == "video")
        begun = (self.received["camera"], there[mine])
        counts = [received.frames for received in begun]

        def moved() -> bool:
            now = (self.received["camera"], there[mine])
            former = [count if one is was else 0 for one, was, count in zip(now, begun, counts, strict=True)]
            return all(one.frames >= count + frames for one, count in zip(now, former, strict=True))

        await eventually(moved, within_s=30)

    async def stop(self) -> None:
        for received in self.received.values():
            await received.stop()


@pytest.fixture
async def room(redis_server: RedisServer) -> AsyncIterator[Room]:
    gateways: list[TunnelWorker] = []

    @asynccontextmanager
    async def gateway(signaling_url: str) -> AsyncIterator[int]:
        gateways.append(TunnelWorker(Options(signaling_url), SystemIds(), Metrics()))
        yield await gateways[0].start(HOST, 0)
        await gateways[0].stop()

    async with running_site(redis_server, gateway) as site, AsyncExitStack() as stack:
        made = Room(site, gateways[0], stack)
        await made.fill()
        yield made
        await made.stop()


async def test_where_udp_works_the_call_goes_by_udp(room: Room) -> None:
    call = await room.join()
    assert call.way == "udp"
    await room.see_each_other(call)
    assert set(call.participants) == {room.other.user_id, call.user_id}
    said: list[str] = []
    call.on_chat(lambda message: said.append(message["text"]))
    await call.send_chat("hello")
    assert (await room.other.payload("MessageReceived"))["text"] == "hello"
    await room.other.send("SendMessage", {"text": "and back", "messageId": "1"})
    await eventually(lambda: said == ["hello", "and back"])
    await call.leave()
    assert (await room.other.payload("ParticipantLeft"))["reason"] == "left"


async def test_where_udp_is_blocked_the_client_climbs_down_by_itself_and_remembers_it(room: Room) -> None:
    room.site.front.udp_blocked = True
    call = await room.join()
    assert call.way == "websocket"
    assert room.site.front.joins == 2, "one for UDP, one for the tunnel: TURN is not offered"
    await room.see_each_other(call)
    assert "ParticipantLeft" not in room.other.signaling.types()
    await call.leave()
    again = await room.join()
    assert again.way == "websocket"
    assert room.site.front.joins == 3, "the last good way came first"


async def test_where_no_websocket_passes_either_it_is_http_streaming(room: Room) -> None:
    room.site.front.udp_blocked = True
    room.site.gate.upgrades = False
    call = await room.join()
    assert call.way == "stream"
    await room.see_each_other(call)


async def test_long_poll_is_the_last_rung(room: Room) -> None:
    call = await room.join(ways=["poll"])
    assert call.way == "poll"
    await room.see_each_other(call)


async def test_a_websocket_that_the_server_closes_in_mid_call_is_followed_by_another(room: Room) -> None:
    call = await room.join(ways=["websocket", "stream", "poll"])
    await room.see_each_other(call)
    (session,) = room.gateway._sessions.values()
    wire = session._wire
    assert wire is not None
    wire.end = ends.DRAINING
    wire.replaced.set()
    await eventually(lambda: session._wire is not None and session._wire is not wire)
    await room.goes_on(call)
    await call.send_chat("still here")
    assert (await room.other.payload("MessageReceived"))["text"] == "still here"
    assert (call.way, call.climbs, room.site.front.joins) == ("websocket", 1, 1)


async def test_a_wire_that_dies_for_good_is_followed_by_the_next_kind_in_the_same_session(room: Room) -> None:
    call = await room.join(ways=["websocket", "stream", "poll"])
    await room.see_each_other(call)
    ways: list[str] = []
    call.on_way(ways.append)
    room.site.gate.upgrades = False
    room.site.gate.cut()
    await eventually(lambda: ways == ["stream"], within_s=20)
    await room.goes_on(call)
    assert (call.climbs, room.site.front.joins) == (1, 1)
    assert "ParticipantLeft" not in room.other.signaling.types()
    assert room.memory.get(room.site.front.url) == "stream"


async def test_a_broken_signaling_connection_is_resumed_and_media_goes_on(room: Room) -> None:
    call = await room.join(ways=["udp"])
    await room.see_each_other(call)
    resumed: list[object] = []
    call.on_message("Resumed", resumed.append)
    await room.site.front.break_signaling()
    await eventually(lambda: bool(resumed))
    await room.goes_on(call)
    await call.send_chat("again")
    assert (await room.other.payload("MessageReceived"))["text"] == "again"
    assert call.climbs == 1


async def test_after_a_change_of_network_the_ladder_is_climbed_from_the_top(room: Room) -> None:
    room.site.front.udp_blocked = True
    call = await room.join()
    await room.see_each_other(call)
    room.site.front.udp_blocked = False
    await call.network_changed()
    assert call.way == "udp"
    await room.goes_on(call)
    assert "ParticipantLeft" not in room.other.signaling.types()


async def test_media_that_dies_is_followed_by_a_climb(room: Room) -> None:
    call = await room.join()
    await room.see_each_other(call)
    room.site.front.udp_blocked = True
    link = call._link
    assert link is not None
    await link.media._current[0][1].close()  # as when consent to send is lost (RFC 7675)
    await eventually(lambda: call.way == "websocket", within_s=20)
    await room.goes_on(call)


async def test_without_any_way_each_reason_is_told_and_the_seat_is_given_up(room: Room) -> None:
    room.site.front.udp_blocked = True
    with pytest.raises(NoWay) as failed:
        await room.join(ways=["udp", "turn-tls"])
    assert failed.value.failures == (
        ("udp", "not connected within 2 s (connecting media)"),
        ("turn-tls", "the server offers no such TURN address"),
    )
    assert (await room.other.payload("ParticipantLeft"))["userId"] == room.user_id


async def test_refusals_and_an_api_that_is_away_are_told_at_once(room: Room) -> None:
    room.site.front.refuses = 409
    with pytest.raises(JoinRefused, match="room-full: The room is full") as refused:
        await room.join()
    assert refused.value.status == 409
    room.site.front.refuses = 503
    with pytest.raises(Unreachable):
        await room.join()


async def test_whoever_joins_from_elsewhere_ends_the_call(room: Room) -> None:
    call = await room.join(ways=["udp"])
    elsewhere = await (await room.client()).join(room.site.world.room, ways=["websocket"])
    async with asyncio.timeout(10):
        assert await call.wait_ended() == "replaced"
    third = await (await room.client()).join(room.site.world.room, ways=["udp"])
    async with asyncio.timeout(10):
        assert await elsewhere.wait_ended() == "replaced"
    assert not third.ended.is_set()


@pytest.mark.parametrize("way", ["turn-udp", "turn-tcp"])
async def test_where_only_turn_passes_media_is_relayed(room: Room, way: str) -> None:
    (media,) = room.site.sfu.engine.ports
    ice = TurnIceServers(["turn:x"], Secret("shared"))
    rules = PeerRules(parse_address(HOST), Ports(40_000, 41_000), ((parse_address(HOST), Ports(media, media)),))
    server = TurnServer(
        lambda open_relay: TurnCore(
            realm="parley", rules=rules, passwords=ice.credentials, open_relay=open_relay, nonces=Nonces(b"key")
        ),
        relay_host=HOST,
        ports=Ports(40_000, 41_000),
        date=lambda: datetime.now(UTC),
        chance=random.Random(1),
    )
    port = free_turn_port(HOST, 0)
    await server.start(Addresses(HOST, port))
    room.stack.push_async_callback(server.stop)
    (known,) = ice.for_participant(ParticipantId("ann"), datetime.now(UTC))
    assert known.credential is not None
    urls = [f"turn:{HOST}:{port}?transport=udp", f"turn:{HOST}:{port}?transport=tcp"]
    room.site.front.ice_servers = [{"urls": urls, "username": known.username, "credential": known.credential.reveal()}]
    call = await room.join(ways=["turn-tls", way])
    assert call.way == way
    await room.see_each_other(call)
    assert server.core.counts.egress_bytes > 3_000, "of what others send, by relay"
