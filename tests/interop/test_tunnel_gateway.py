"""The tunnel gateway with real signaling, a real SFU and aiortc: a call over each wire, and all that is refused."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any, Final

import aiohttp
import pytest

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.adapters.system import SystemIds
from conference.protocol.tunnel.frame import Frame, FrameType, encode
from media_workers.tunnel.admission import Admission
from media_workers.tunnel.metrics import Metrics
from media_workers.tunnel.wiring import frame_services
from media_workers.tunnel.worker import GATHER_S, Options, TunnelWorker
from tests.support.native_client import NativeParticipant
from tests.support.redis import RedisServer
from tests.support.sfu import Sfu, running_sfu
from tests.support.signaling import Person, Process, World
from tests.support.tunnel_client import SUBPROTOCOL, Kind, SignalingOverTunnel, TunnelClient, TunnelledParticipant
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

WIRES: Final[tuple[Kind, ...]] = ("websocket", "stream", "poll")


class Site:
    """The world with a gateway before it."""

    def __init__(self, world: World, process: Process, sfu: Sfu) -> None:
        self.world, self.process, self.sfu = world, process, sfu
        self.metrics = Metrics()
        self.worker: TunnelWorker | None = None
        self.url = ""

    async def start(self, **options: Any) -> None:
        world = self.world
        admission = Admission(world.tokens, world.presence, world.clock, self.metrics)
        self.worker = TunnelWorker(
            Options(self.process.url, **options), SystemIds(), self.metrics, frame_services(), admission
        )
        self.url = f"http://127.0.0.1:{await self.worker.start('127.0.0.1', 0)}"

    async def stop(self) -> None:
        if self.worker is not None:
            await self.worker.stop()

    @property
    def sessions(self) -> str:
        return f"{self.url}/v1/tunnel/sessions"

    async def made(self) -> dict[str, Any]:
        async with self.world.http.post(self.sessions) as answer:
            assert answer.status == 201
            return dict(await answer.json())

    async def joined(self, kind: Kind = "websocket") -> tuple[TunnelClient, SignalingOverTunnel]:
        """A tunnel client that has joined, without media."""
        person = await self.world.person()
        tunnel = TunnelClient(self.world.http, self.url)
        await tunnel.open(kind)
        signaling = SignalingOverTunnel(tunnel)
        await signaling.send("JoinRoom", {"roomId": self.world.room, "token": person.token})
        signaling.joined = await signaling.payload("RoomJoined")
        return tunnel, signaling


@pytest.fixture
async def site(redis_server: RedisServer) -> AsyncIterator[Site]:
    async with aiohttp.ClientSession() as http:
        world = World(redis_server, http)
        await world.make_meeting()
        redis = RedisClient(connect(redis_server.url))
        async with running_sfu(tokens=world.tokens, nodes=RedisMediaNodes(redis), drain_s=10.0) as sfu:
            made = Site(world, await world.process(), sfu)
            await made.start()
            yield made
            await made.stop()
            await world.stop()
        await redis.close()


def _tunnelled(site: Site, person: Person, kind: Kind, *, shade: int, text: bool = False) -> TunnelledParticipant:
    world = site.world
    return TunnelledParticipant(world.http, site.url, person.token, world.room, kind, shade=shade, text=text)


async def _see_each_other(ours: NativeParticipant, other: NativeParticipant, shades: tuple[int, int]) -> None:
    for one, peer, shade in ((ours, other, shades[1]), (other, ours, shades[0])):
        seen = await one.receives(peer.user_id, "camera", frames=10)
        assert seen.shade is not None
        assert abs(seen.shade - shade) < 25
        await one.receives(peer.user_id, "microphone", frames=10)


@pytest.mark.parametrize(("kind", "text"), [*((kind, False) for kind in WIRES), ("stream", True), ("poll", True)])
async def test_a_call_through_the_tunnel_and_nothing_else(site: Site, kind: Kind, text: bool) -> None:
    world = site.world
    ordinary = NativeParticipant(
        world.http, {"signalingUrl": site.process.url, "token": (await world.person()).token}, world.room, shade=190
    )
    async with ordinary, _tunnelled(site, await world.person(), kind, shade=60, text=text) as tunnelled:
        await _see_each_other(tunnelled, ordinary, (60, 190))
    await eventually(lambda: site.metrics.registry.get_sample_value("parley_tunnel_sessions") == 0)


async def test_the_wire_changes_in_mid_call_and_nobody_leaves(site: Site) -> None:
    world = site.world
    ordinary = NativeParticipant(
        world.http, {"signalingUrl": site.process.url, "token": (await world.person()).token}, world.room, shade=190
    )
    async with ordinary, _tunnelled(site, await world.person(), "websocket", shade=60) as tunnelled:
        await _see_each_other(tunnelled, ordinary, (60, 190))
        for kind in ("stream", "poll", "websocket"):
            await tunnelled.tunnel.change(kind)
            for one, peer in ((ordinary, tunnelled), (tunnelled, ordinary)):
                now = (await one.receives(peer.user_id, "camera", frames=1)).frames
                await one.receives(peer.user_id, "camera", frames=now + 15)
            await tunnelled.send("KeepAlive")
            await tunnelled.payload("KeepAliveAck")
        assert "ParticipantLeft" not in ordinary.signaling.types()


async def test_signaling_goes_on_in_order_over_changing_wires(site: Site) -> None:
    tunnel, signaling = await site.joined()
    other = await site.world.join(site.process, await site.world.person())
    for number in range(60):
        if number % 10 == 5:
            await tunnel.change(WIRES[number // 10 % 3])
        await signaling.send("SendMessage", {"text": f"{number}", "messageId": f"m{number}"})
    heard = [await other.payload("MessageReceived") for _ in range(60)]
    assert [message["text"] for message in heard] == [str(number) for number in range(60)]
    back = [await signaling.payload("MessageReceived") for _ in range(60)]
    assert [message["text"] for message in back] == [str(number) for number in range(60)]
    await signaling.close()


async def test_a_late_poll_of_a_former_wire_takes_nothing_back(site: Site) -> None:
    await site.stop()
    await site.start(poll_s=0.2)
    made = await site.made()
    poll = f"{site.sessions}/{made['sessionId']}/poll"
    proof = {"Authorization": f"Bearer {made['resumeSecret']}"}

    async def answered(wire: str, **headers: str) -> tuple[int, str | None]:
        async with site.world.http.get(poll, headers={**proof, "Parley-Wire": wire, **headers}) as answer:
            return answer.status, answer.headers.get("Parley-Batch")

    assert await answered("first") == (200, "0")
    assert await answered("second") == (200, "0")
    async with site.world.http.get(poll, headers={**proof, "Parley-Wire": "first"}) as late:
        assert (late.status, (await late.json())["code"]) == (409, "replaced")
    assert await answered("second") == (200, "1")
    assert await answered("first", **{"Parley-Attach": "1"}) == (200, "0")  # whoever asks for it plainly


async def test_answers_to_polls_gather_what_comes_within_some_time(site: Site) -> None:
    made = await site.made()
    url, loop = f"{site.sessions}/{made['sessionId']}", asyncio.get_running_loop()
    proof = {"Authorization": f"Bearer {made['resumeSecret']}", "Parley-Wire": "one"}
    acknowledged, times, most = 0, [loop.time()], 0

    async def ask() -> None:
        for number in range(6):
            signal = encode(Frame(FrameType.SIGNAL, 0, b'{"type":"KeepAlive","payload":{}}', number))
            headers = {**proof, "Parley-Batch": str(number)}
            async with site.world.http.post(f"{url}/frames", data=signal, headers=headers):
                await asyncio.sleep(0.01)

    asking = asyncio.create_task(ask())
    while acknowledged < 6:
        async with site.world.http.get(f"{url}/poll", headers=proof) as answer:
            count = (await answer.read()).count(b"KeepAliveAck")
        times.append(loop.time())
        acknowledged, most = acknowledged + count, max(most, count)
    await asking
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert min(gaps[1:]) > 0.8 * GATHER_S  # the first poll is answered at once
    assert most > 1


# --- what is refused -------------------------------------------------------------------------------------------------
async def test_no_target_but_a_media_node_of_the_session_is_reached(site: Site) -> None:
    tunnel, signaling = await site.joined()
    endpoint = await signaling.payload("SfuEndpoint")
    for ip, port in (
        ("127.0.0.1", 6379),
        (endpoint["ip"], endpoint["port"] + 1),
        ("8.8.8.8", 53),
        ("::1", endpoint["port"]),
        ("169.254.169.254", 80),
        ("localhost", endpoint["port"]),
    ):
        assert (await tunnel.path(ip, port))[1] == "not-a-media-node", (ip, port)
    assert (await tunnel.path(endpoint["ip"], endpoint["port"]))[1] == ""
    assert (await tunnel.path(f"::ffff:{endpoint['ip']}", endpoint["port"]))[1] == ""  # the same node
    for _ in range(2):
        await tunnel.path(endpoint["ip"], endpoint["port"])
    assert (await tunnel.path(endpoint["ip"], endpoint["port"]))[1] == "too-many-paths"
    await signaling.close()


async def test_nothing_but_stream_0_before_the_join(site: Site) -> None:
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open("websocket")
    assert (await tunnel.path("127.0.0.1", 9))[1] == "not-joined"
    await tunnel.close()


@pytest.mark.parametrize("kind", WIRES)
async def test_a_refused_join_is_told_before_the_session_ends(site: Site, kind: Kind) -> None:
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open(kind)
    signaling = SignalingOverTunnel(tunnel)
    await signaling.send("JoinRoom", {"roomId": site.world.room, "token": "none.of.ours"})
    assert (await signaling.payload("Error"))["code"] == "token-refused"
    if kind == "websocket":
        async with asyncio.timeout(5):
            await tunnel.closed.wait()
        assert tunnel.code == 4401
    await signaling.close()


async def test_a_wrong_secret_and_an_unknown_session(site: Site) -> None:
    made = await site.made()
    http = site.world.http
    right = {"Authorization": f"Bearer {made['resumeSecret']}"}
    for path, headers, status, code in (
        (f"{made['sessionId']}/poll", {"Authorization": "Bearer wrong"}, 401, "wrong-secret"),
        (f"{made['sessionId']}/stream", {}, 401, "wrong-secret"),
        ("unknown/poll", right, 404, "no-such-session"),
    ):
        async with http.get(f"{site.sessions}/{path}", headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (status, code)
            assert answer.content_type == "application/problem+json"
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=(SUBPROTOCOL, "secret.wrong"))
    assert refused.value.status == 401
    async with http.delete(f"{site.sessions}/{made['sessionId']}", headers=right) as answer:
        assert answer.status == 204
    async with http.get(f"{site.sessions}/{made['sessionId']}/poll", headers=right) as answer:
        assert answer.status == 404


@pytest.mark.parametrize(
    "data",
    [
        b"rubbish that is no frame",
        encode(Frame(FrameType.AUDIO, 1, b"sound")),
        encode(Frame(FrameType.DATAGRAM, 7, b"to nowhere")),
        encode(Frame(FrameType.ACK, 0, sequence=900)),
        encode(Frame(FrameType.SIGNAL, 0, b"{}"))[:-1],
    ],
)
async def test_what_is_no_frame_of_the_session_ends_the_wire_and_the_third_time_the_session(
    site: Site, data: bytes
) -> None:
    made = await site.made()
    protocols = (SUBPROTOCOL, f"secret.{made['resumeSecret']}")
    for _ in range(3):
        async with site.world.http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=protocols) as socket:
            assert socket.protocol == SUBPROTOCOL
            await socket.send_bytes(data)
            async with asyncio.timeout(5):
                async for _ in socket:
                    pass
            assert socket.close_code == 1007
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await site.world.http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=protocols)


async def test_a_control_message_that_cannot_be_read_ends_the_wire(site: Site) -> None:
    made = await site.made()
    protocols = (SUBPROTOCOL, f"secret.{made['resumeSecret']}")
    async with site.world.http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=protocols) as socket:
        await socket.send_bytes(encode(Frame(FrameType.CONTROL, 0, b"{}")))
        async with asyncio.timeout(5):
            async for _ in socket:
                pass
        assert socket.close_code == 1007


async def test_batches_are_taken_once_and_in_order_and_must_be_numbered(site: Site) -> None:
    made = await site.made()
    http = site.world.http
    headers = {"Authorization": f"Bearer {made['resumeSecret']}", "Parley-Wire": "one"}
    signals = [encode(Frame(FrameType.SIGNAL, 0, b'{"type":"KeepAlive","payload":{}}', number)) for number in range(4)]

    async def post(number: str, body: bytes, **more: str) -> int:
        url = f"{site.sessions}/{made['sessionId']}/frames"
        async with http.post(url, data=body, headers={**headers, "Parley-Batch": number, **more}) as answer:
            return answer.status

    assert await asyncio.gather(*(post(str(number), signals[number]) for number in (2, 1, 0))) == [204, 204, 204]
    assert await post("1", signals[1]) == 204  # once more
    assert await post("x", signals[3]) == 400
    assert await post("3", b"not base64!", **{"Content-Type": "text/plain"}) == 400
    assert await post("3", bytes(600_000)) == 413
    assert await post("4", signals[3]) == 204  # number 3 was never taken, and is not waited for without end
    acknowledged = 0
    async with asyncio.timeout(5):
        while acknowledged < 4:
            async with http.get(f"{site.sessions}/{made['sessionId']}/poll", headers=headers) as answer:
                assert answer.headers["Cache-Control"] == "no-store, no-transform"
                body = await answer.read()
                acknowledged = body.count(b"KeepAliveAck") + acknowledged


async def test_too_many_sessions_of_one_address_and_in_all(site: Site) -> None:
    await site.stop()
    await site.start(sessions=3, sessions_of_one=2)
    http = site.world.http

    async def create(address: str) -> int:
        async with http.post(site.sessions, headers={"X-Forwarded-For": address}) as answer:
            return answer.status

    assert [await create(address) for address in ("a", "a", "a", "b", "b")] == [201, 201, 429, 201, 429]


async def test_an_origin_that_is_not_ours_and_a_mode_that_is_not_known(site: Site) -> None:
    http = site.world.http
    async with http.post(site.sessions, headers={"Origin": "https://evil.example"}) as answer:
        assert answer.status == 403
        assert (await answer.json())["code"] == "forbidden"
    for body in (b"[]", b"{", b'{"mode": "everything"}', b'{"more": 1}'):
        async with http.post(site.sessions, data=body) as answer:
            assert answer.status == 400


async def test_removal_ends_the_session_with_signalings_own_code(site: Site) -> None:
    tunnel, signaling = await site.joined()
    await site.world.presence.publish(
        site.world.room,
        "room.ended",
        "{}",
    )
    async with asyncio.timeout(10):
        await tunnel.closed.wait()
    assert tunnel.code == 4410
    await signaling.close()


async def test_a_reader_that_is_slow_loses_frames_by_age_with_bounded_memory(site: Site) -> None:
    tunnel, signaling = await site.joined()
    worker = site.worker
    assert worker is not None
    session = worker._sessions[tunnel.id]
    wire = session._wire
    assert wire is not None
    for task in tunnel._wire:
        task.cancel()  # nobody reads any more
    session.detach(wire)
    for _ in range(3_000):
        session._datagram(1, bytes(1_200))
        await asyncio.sleep(0)
    assert session.tunnel.queue.bytes <= 2_097_152
    assert session.paths.down.refused + sum(session.tunnel.queue.dropped.values()) > 0
    with contextlib.suppress(aiohttp.ClientError):
        await signaling.close()


async def test_signaling_that_is_away_is_said(site: Site) -> None:
    await site.process.stop()
    site.world.processes.clear()
    async with site.world.http.post(site.sessions) as answer:
        assert answer.status == 503
        assert (await answer.json())["code"] == "unavailable"
    assert site.metrics.registry.get_sample_value("parley_tunnel_sessions") == 0
