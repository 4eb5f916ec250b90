"""What strangers and broken clients send to the signaling worker: each gets a clear answer, nothing is left behind."""

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import aiohttp
import pytest

from conference.domain.ids import MeetingId
from conference.protocol import control as c
from conference.protocol.session import Limits
from tests.support.redis import RedisServer
from tests.support.signaling import QUICK, World, turn
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@pytest.fixture
async def world(redis_server: RedisServer) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as http:
        made = World(redis_server, http)
        await made.make_meeting()
        yield made
        await made.stop()


async def code_of(client: Any) -> str:
    return str((await client.payload("Error", lambda p: p["code"] != "sfu-unavailable"))["code"])


async def test_broken_frames_close_with_their_code_and_the_room_goes_on(world: World) -> None:
    process = await world.process()
    _, watcher = await world.enter(process)
    for data, code in (("{", 1007), (b"\x00\x01", 1003), ("x" * 300_000, 1009), ('{"type":', 1007)):
        _, client = await world.enter(process)
        if isinstance(data, bytes):
            await client.socket.send_bytes(data)
        else:
            await client.send_text(data)
        assert await client.ends() == code
    await eventually(lambda: watcher.types().count("ParticipantLeft") == 4)
    await eventually(lambda: process.worker.connections == 1)


async def test_wrong_messages_answer_errors_and_the_call_goes_on(world: World) -> None:
    await world.sfu()
    process = await world.process()
    person, client = await world.enter(process)
    publish = (await client.payload("SfuEndpoint"))["transportId"]
    await client.expect("SfuEndpoint")
    sfu = {"targetUserId": "sfu", "negotiationId": 1, "sdp": "v=0"}
    many = "v=0\r\n" + "m=video 9 X 96\r\n" * 10_000
    for text, code in (
        (json.dumps({"type": "Nonsense", "payload": {}}), "unknown-type"),
        (json.dumps({"type": "UpdateState", "payload": {"isTall": True}}), "invalid-message"),
        (json.dumps({"type": "UpdateState", "payload": {"isMuted": "yes"}}), "invalid-message"),
        (json.dumps({"type": "JoinRoom", "payload": {"roomId": world.room, "token": person.token}}), "already-joined"),
        (
            json.dumps(
                {
                    "type": "SendIceCandidate",
                    "payload": {"targetUserId": "sfu", "transportId": publish, "candidate": None},
                }
            ),
            "before-offer",
        ),
        (json.dumps({"type": "SendOffer", "payload": {**sfu, "transportId": "other"}}), "unknown-transport"),
        (json.dumps({"type": "SendOffer", "payload": {**sfu, "transportId": publish, "epoch": 7}}), "stale-epoch"),
        (
            json.dumps({"type": "SendOffer", "payload": {**sfu, "transportId": publish, "sdp": many}}),
            "too-many-sections",
        ),
        (
            json.dumps({"type": "SendOffer", "payload": {**sfu, "transportId": publish, "sdp": "x" * 200_001}}),
            "invalid-message",
        ),
    ):
        await client.send_text(text)
        assert await code_of(client) == code
    await client.send("SendOffer", {**sfu, "transportId": publish})
    await client.expect("ReceiveAnswer")


async def test_tokens_that_do_not_fit_are_refused_and_counted(world: World) -> None:
    process = await world.process()
    other = MeetingId(world.ids.new())
    person = await world.person()
    past = world.clock.now() - timedelta(minutes=10)
    late = await world.person(
        not_before=past.replace(microsecond=0), expires_at=past.replace(microsecond=0) + timedelta(minutes=5)
    )
    soon = world.clock.now().replace(microsecond=0) + timedelta(minutes=2)
    early = await world.person(not_before=soon, expires_at=soon + timedelta(minutes=5))
    for room, token in (
        (other, person.token),
        (world.room, late.token),
        (world.room, early.token),
        (world.room, "x.y.z"),
    ):
        client = await world.connect(process)
        await client.send("JoinRoom", {"roomId": room, "token": token})
        assert await code_of(client) == "token-refused"
        assert await client.ends() == 4401
    first = await world.join(process, person)
    replay = await world.connect(process)
    await replay.send("JoinRoom", {"roomId": world.room, "token": person.token})
    assert await replay.ends() == 4401
    assert first.close_code is None
    async with world.http.get(process.http_url + "/metrics") as answer:
        text = await answer.text()
    for reason in ("room", "expired", "nbf", "replayed"):
        assert f'parley_token_refusals_total{{reason="{reason}"}} 1.0' in text
    assert "parley_signaling_connections" in text
    assert "parley_redis_seconds_bucket" in text
    assert "process_resident_memory_bytes" in text


async def test_a_token_as_subprotocol_joins_and_is_never_echoed_or_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    process = await world.process()
    person = await world.person()
    client = await world.connect(process, protocols=("parley.v1", f"token.{person.token}"))
    assert client.socket.protocol == "parley.v1"
    await client.send("JoinRoom", {"roomId": world.room})
    await client.expect("RoomJoined")
    for protocols in ((f"token.{person.token}",), ("other",)):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.connect(process, protocols=protocols)
        assert refused.value.status == 400
    await client.send("Leave")
    await client.ends()
    signature = person.token.rsplit(".", 1)[1]
    assert signature not in caplog.text
    assert all(signature not in str(vars(record)) for record in caplog.records)


async def test_origins_and_addresses_are_judged_at_the_handshake(world: World) -> None:
    process = await world.process()
    await world.connect(process, headers={"Origin": "http://127.0.0.1:8080"})
    for headers, query, status in (
        ({"Origin": "http://evil.example"}, "", 403),
        ({"Origin": "null"}, "", 403),
        ({}, "?token=abc", 400),
        ({}, "?access_token=abc", 400),
    ):
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await world.http.ws_connect(process.url + query, protocols=("parley.v1",), headers=headers)
        assert refused.value.status == status
    async with world.http.get(process.http_url + "/v1/signal") as answer:
        assert answer.status == 400


async def test_a_non_ascii_subprotocol_header_aborts_nothing(world: World) -> None:
    process = await world.process()
    for value in (b"parley.v1, token.\xff\xfe", "parley.v1, tök".encode(), b"\x80" * 100, b"a" * 20_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
        key = base64.b64encode(b"0" * 16)
        writer.write(
            b"GET /v1/signal HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + key + b"\r\n"
            b"Sec-WebSocket-Protocol: " + value + b"\r\n\r\n"
        )
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readline()
        writer.close()
    await world.enter(process)


async def test_compression_is_not_negotiated(world: World) -> None:
    process = await world.process()
    socket = await world.http.ws_connect(process.url, protocols=("parley.v1",), compress=15)
    assert socket.compress == 0
    await socket.close()


async def test_who_does_not_join_floods_or_falls_silent_is_closed(world: World) -> None:
    limits = Limits(join_s=0.3, ping_s=0.1, silence_s=0.4, messages_per_s=5, burst=10)
    process = await world.process(replace(QUICK, limits=limits))
    idle = await world.connect(process)
    assert await idle.ends() == 4408
    _, flood = await world.enter(process)
    for _ in range(40):
        if not flood.socket.closed:
            await flood.send("KeepAlive")
    assert await flood.ends() == 4429
    person = await world.person()
    mute = await world.http.ws_connect(process.url, protocols=("parley.v1",), autoping=False)
    await mute.send_str(json.dumps({"type": "JoinRoom", "payload": {"roomId": world.room, "token": person.token}}))
    async with asyncio.timeout(10):
        while True:  # it reads, and answers no ping
            message = await mute.receive()
            if message.type is aiohttp.WSMsgType.CLOSE:
                break
    assert message.data == 4408


async def test_a_client_that_stops_reading_is_cut_off_and_its_memory_freed(world: World) -> None:
    process = await world.process(
        replace(QUICK, send_buffer_bytes=64 * 1024, limits=Limits(messages_per_s=10_000, burst=10_000))
    )
    _, talker = await world.enter(process)
    _, stuck = await world.enter(process)
    stuck.reading.clear()
    stuck.socket._response.connection.transport.pause_reading()  # type: ignore[union-attr]
    text = "x" * 4_000
    number = 0
    async with asyncio.timeout(30):
        while process.worker.connections == 2:
            number += 1
            await talker.send("SendMessage", {"text": text, "messageId": str(number)})
            if number % 50 == 0:
                await talker.expect("MessageReceived", lambda p, last=str(number): p["messageId"] == last)  # type: ignore[misc]
    await talker.send("KeepAlive")
    await talker.expect("KeepAliveAck")
    async with world.http.get(process.http_url + "/metrics") as answer:
        assert 'parley_signaling_dropped_total{queue="connection"} 1.0' in await answer.text()
    stuck.reading.set()


async def test_turn_credentials_are_pushed_before_they_expire(world: World) -> None:
    process = await world.process(replace(QUICK, ice_push_s=0.1), ice_servers=turn())
    person, client = await world.enter(process)
    (server,) = (await client.payload("IceServers"))["iceServers"]
    assert server["urls"] == ["turn:127.0.0.1:3478"]
    assert server["username"].endswith(person.claims.participant_id)
    assert server["credential"]


async def test_stats_and_traces_are_taken_and_bounded(world: World) -> None:
    process = await world.process()
    _, client = await world.enter(process)
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    span = {"name": "join", "spanId": "c" * 16, "startMs": 1.0, "endMs": 2.0}
    await client.send("ReportTrace", {"spans": [span]}, traceparent=trace)
    await client.send("Stats", {"report": {"rtt": 1}})
    await client.send("ReportTrace", {"spans": [{**span, "name": "bad\nname"}]})
    assert await code_of(client) == "invalid-message"
    await client.send("ReportTrace", {"spans": [span] * 33})
    assert await code_of(client) == "invalid-message"
    async with world.http.get(process.http_url + "/metrics") as answer:
        assert "parley_signaling_stats_reports_total 1.0" in await answer.text()
    for path in ("/health", "/ready"):
        async with world.http.get(process.http_url + path) as answer:
            assert answer.status == 200


async def test_a_flood_of_large_wishes_ends_that_connection_alone(world: World) -> None:
    node = await world.sfu()
    process = await world.process(replace(QUICK, limits=Limits()))
    _, hostile = await world.enter(process)
    _, other = await world.enter(process)
    await hostile.expect("SfuEndpoint")
    tracks = [{"trackId": f"{number:060}"} for number in range(2_000)]
    for _ in range(20):
        if not hostile.socket.closed:
            with contextlib.suppress(ConnectionError):
                await hostile.send("SetReceive", {"tracks": tracks})
    assert await hostile.ends() == 4429
    assert len(node.of(c.SelectTracks)) <= 200 // 35
    await other.send("KeepAlive")
    await other.expect("KeepAliveAck")


async def test_connections_without_a_join_are_few_of_one_address(world: World) -> None:
    process = await world.process(replace(QUICK, strangers_of_one=3))
    for _ in range(5):
        await world.enter(process)  # who has joined is a stranger no more
    idle = [await world.connect(process) for _ in range(3)]
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await world.connect(process)
    assert refused.value.status == 429
    await world.connect(process, headers={"X-Forwarded-For": "203.0.113.9"})
    await idle[0].close()
    await eventually(lambda: process.worker.connections == 8)
    await world.enter(process)
