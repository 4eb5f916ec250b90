"""What the gateway does with too much, too late and out of order: each end has its code, and memory stays bounded."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType, decode_all, encode
from tests.interop.test_tunnel_gateway import Site, site  # noqa: F401  # fixture
from tests.interop.test_tunnel_tokens import _minted
from tests.support.tunnel_client import SUBPROTOCOL, SignalingOverTunnel, TunnelClient
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]

MIB = 1_048_576


class Node(asyncio.DatagramProtocol):
    """A UDP socket that stands for a media node: tokens name it."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.peer: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.address = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.peer = addr
        self.heard.append(data)


@asynccontextmanager
async def session_with_a_node(site: Site) -> AsyncIterator[tuple[Node, dict[str, Any], dict[str, str]]]:  # noqa: F811
    """The node, what the gateway answered, and the proof for further requests. A path leads to it on stream 1."""
    loop = asyncio.get_running_loop()
    transport, node = await loop.create_datagram_endpoint(Node, local_addr=("127.0.0.1", 0))
    token = await _minted(site, nodes=(node.address,))
    async with site.world.http.post(site.sessions, json={"token": token}) as answer:
        made = await answer.json()
    proof = {"Authorization": f"Bearer {made['resumeSecret']}"}
    try:
        yield node, made, proof
    finally:
        async with site.world.http.delete(f"{site.sessions}/{made['sessionId']}", headers=proof):
            transport.close()


async def _socket(site: Site, made: dict[str, Any]) -> aiohttp.ClientWebSocketResponse:  # noqa: F811
    protocols = (SUBPROTOCOL, f"secret.{made['resumeSecret']}")
    url = f"{site.sessions}/{made['sessionId']}/ws"
    return await site.world.http.ws_connect(url, protocols=protocols)


async def _open_path(socket: aiohttp.ClientWebSocketResponse, node: Node) -> None:
    asked = c.OpenPath(stream=1, ip=node.address[0], port=node.address[1])
    await socket.send_bytes(encode(Frame(FrameType.CONTROL, 0, c.encode(asked))))
    async with asyncio.timeout(5):
        while True:
            frames = decode_all(await socket.receive_bytes())
            if any(b"PathOpened" in frame.payload for frame in frames):
                return


async def _code(socket: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(5):
        while not socket.closed:
            await socket.receive()
    return socket.close_code


async def test_a_join_token_is_taken_once_on_whichever_session(site: Site) -> None:  # noqa: F811
    person = await site.world.person()
    first, signaling = TunnelClient(site.world.http, site.url), None
    await first.open("websocket")
    signaling = SignalingOverTunnel(first)
    join = {"roomId": site.world.room, "token": person.token}
    await signaling.send("JoinRoom", join)
    await signaling.payload("RoomJoined")
    second = TunnelClient(site.world.http, site.url)
    await second.open("websocket")
    again = SignalingOverTunnel(second)
    await again.send("JoinRoom", join)
    assert (await again.payload("Error"))["code"] == "token-refused"
    async with asyncio.timeout(5):
        await second.closed.wait()
    assert second.code == 4401
    assert not first.closed.is_set()
    for one in (signaling, again):
        await one.close()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (encode(Frame(FrameType.DATAGRAM, 1, bytes(1_500)))[:9] + (1_501).to_bytes(3, "big") + bytes(1_501), 1007),
        (encode(Frame(FrameType.SIGNAL, 0))[:9] + (262_145).to_bytes(3, "big") + bytes(262_145), 1007),
        (encode(Frame(FrameType.CONTROL, 0, bytes(16_385), 1)), 1007),
        (bytes(524_289), 1009),
        (encode(Frame(FrameType.CONTROL, 0, b"{}", 600)), 1013),
    ],
    ids=["datagram", "frame", "control message", "batch", "far ahead"],
)
async def test_what_is_oversize_or_far_out_of_order_ends_the_wire(site: Site, data: bytes, code: int) -> None:  # noqa: F811
    async with session_with_a_node(site) as (node, made, _):
        socket = await _socket(site, made)
        await _open_path(socket, node)
        await socket.send_bytes(data)
        assert await _code(socket) == code
        assert not node.heard


async def test_a_post_that_is_oversize_is_told_so(site: Site) -> None:  # noqa: F811
    async with session_with_a_node(site) as (_, made, proof):
        headers = {**proof, "Parley-Wire": "one", "Parley-Batch": "0"}
        url = f"{site.sessions}/{made['sessionId']}/frames"
        async with site.world.http.post(url, data=bytes(524_289), headers=headers) as answer:
            assert (answer.status, (await answer.json())["code"]) == (413, "too-large")


async def test_media_that_is_repeated_or_overtaken_goes_nowhere(site: Site) -> None:  # noqa: F811
    async with session_with_a_node(site) as (node, made, _):
        socket = await _socket(site, made)
        await _open_path(socket, node)
        for sequence in (5, 5, 3, 6, 65_535, 7, 6):
            await socket.send_bytes(encode(Frame(FrameType.DATAGRAM, 1, bytes([sequence & 0xFF]), sequence)))
        await eventually(lambda: b"\x07" in node.heard)
        assert node.heard == [b"\x05", b"\x06", b"\x07"]
        await socket.close()


async def test_the_code_of_too_many_sessions(site: Site) -> None:  # noqa: F811
    await site.stop()
    await site.start(sessions_of_one=1)
    await site.made()
    async with site.world.http.post(site.sessions) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too-many")
    token = await _minted(site)
    async with site.world.http.post(site.sessions, json={"token": token}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (429, "too-many")
    await site.stop()
    await site.start()
    async with site.world.http.post(site.sessions, json={"token": token}) as answer:
        assert answer.status == 201  # what found no place was not used up


async def test_what_nobody_fetches_in_time_is_never_sent(site: Site) -> None:  # noqa: F811
    async with session_with_a_node(site) as (node, made, proof):
        socket = await _socket(site, made)
        await _open_path(socket, node)
        await socket.send_bytes(encode(Frame(FrameType.DATAGRAM, 1, b"here")))
        await eventually(lambda: node.peer is not None)
        await socket.close()
        assert site.worker
        session = site.worker._sessions[made["sessionId"]]
        await eventually(lambda: session._wire is None)
        for number in range(200):
            node.transport.sendto(b"old %d" % number, node.peer)
        await eventually(lambda: len(session.tunnel.queue) == 200)
        await asyncio.sleep(0.5)  # they grow older than 300 ms
        node.transport.sendto(b"new", node.peer)
        await eventually(lambda: session.tunnel.queue.dropped[FrameType.DATAGRAM] == 200)
        got: list[Frame] = []
        async with asyncio.timeout(5):
            while not any(frame.type is FrameType.DATAGRAM for frame in got):
                node.transport.sendto(b"new", node.peer)  # whatever the machine is busy with, one is young
                headers = {**proof, "Parley-Wire": "slow"}
                async with site.world.http.get(f"{site.sessions}/{made['sessionId']}/poll", headers=headers) as answer:
                    got += decode_all(await answer.read())
        media = [frame for frame in got if frame.type is FrameType.DATAGRAM]
        assert {frame.payload for frame in media} == {b"new"}
        assert media[0].sequence == 0  # no gap: nothing was lost on a wire
        dropped = site.metrics.registry.get_sample_value("parley_tunnel_dropped_total", {"type": "datagram"})
        assert dropped is not None
        assert dropped >= 200


async def test_a_websocket_that_nobody_reads_costs_bounded_memory(site: Site) -> None:  # noqa: F811
    async with session_with_a_node(site) as (node, made, _):
        socket = await _socket(site, made)
        await _open_path(socket, node)
        await socket.send_bytes(encode(Frame(FrameType.DATAGRAM, 1, b"here")))
        await eventually(lambda: node.peer is not None)
        assert site.worker
        session = site.worker._sessions[made["sessionId"]]
        connection = socket._response.connection
        assert connection
        assert connection.transport
        connection.transport.pause_reading()

        def waiting() -> int:
            return session.tunnel.queue.bytes

        most = 0
        for _ in range(400):
            for _ in range(20):
                node.transport.sendto(bytes(1_200), node.peer)
            await asyncio.sleep(0.005)
            most = max(most, waiting())
        dropped = session.tunnel.queue.dropped[FrameType.DATAGRAM] + session.paths.down.refused
        assert dropped > 1_000  # of 8,000; the kernel holds a few
        assert most <= 2 * MIB
        connection.transport.resume_reading()
        await socket.close()
