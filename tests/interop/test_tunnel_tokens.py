"""Media by the tunnel for whoever is connected to signaling already: the token, what it opens, and all it does not."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.domain.claims import TunnelClaims
from conference.domain.ids import NodeId, ParticipantId
from conference.protocol.tunnel import control as c
from conference.protocol.tunnel.frame import Frame, FrameType, encode
from tests.interop.test_tunnel_gateway import WIRES, Site, _see_each_other, site  # noqa: F401  # fixture
from tests.support.native_client import NativeParticipant
from tests.support.redis import RedisServer
from tests.support.sfu import running_sfu
from tests.support.signaling import TUNNEL_URL
from tests.support.signaling_client import SignalingClient
from tests.support.tunnel_client import SUBPROTOCOL, Kind, TokenParticipant, TunnelClient
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(90)]


async def _grant(site: Site) -> dict[str, Any]:  # noqa: F811
    return {"signalingUrl": site.process.url, "token": (await site.world.person()).token}


async def _connected(site: Site) -> SignalingClient:  # noqa: F811
    """Joined by a WebSocket, and on a media node."""
    client = await site.world.join(site.process, await site.world.person())
    await client.payload("SfuEndpoint")
    return client


async def _token(client: SignalingClient) -> str:
    await client.send("RequestTunnel")
    return str((await client.payload("TunnelToken"))["token"])


async def _refusal(site: Site, token: str, mode: str = "datagrams") -> tuple[int, str]:  # noqa: F811
    async with site.world.http.post(site.sessions, json={"mode": mode, "token": token}) as answer:
        assert answer.content_type == "application/problem+json", await answer.text()
        return answer.status, (await answer.json())["code"]


def _causes(site: Site) -> dict[str, float]:  # noqa: F811
    samples = next(iter(site.metrics.token_refusals.collect())).samples
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}


def _nodes(client: SignalingClient) -> list[str]:
    return [m["payload"]["nodeId"] for m in client.messages if m["type"] == "SfuEndpoint"]


def _all_connected(person: NativeParticipant) -> bool:
    """By the latest transports."""
    return {person.link.media.state(connection) for connection in (0, 1)} == {"connected"}


async def _minted(site: Site, *, age_s: int = 0, **changed: Any) -> str:  # noqa: F811
    """A token such as signaling makes, `age_s` ago."""
    now = site.world.clock.now() - timedelta(seconds=age_s)
    made = TunnelClaims(
        ParticipantId(str(uuid.uuid4())),
        site.world.room,
        (("127.0.0.1", 9),),
        str(uuid.uuid4()),
        now + timedelta(seconds=60),
    )
    return await site.world.tokens.mint_tunnel(replace(made, **changed), now)


# --- what it opens ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", WIRES)
async def test_signaling_by_a_websocket_and_media_by_the_tunnel(site: Site, kind: Kind) -> None:  # noqa: F811
    world = site.world
    ordinary = NativeParticipant(world.http, await _grant(site), world.room, shade=190)
    mixed = TokenParticipant(world.http, site.url, await _grant(site), world.room, kind, shade=60)
    async with ordinary, mixed:
        await _see_each_other(mixed, ordinary, (60, 190))
        assert site.metrics.registry.get_sample_value("parley_tunnel_sessions") == 1
        assert mixed.tunnel.messages.empty()  # nothing of signaling came this way
    await eventually(lambda: site.metrics.registry.get_sample_value("parley_tunnel_sessions") == 0)


async def test_the_token_says_where_and_until_when_in_the_dialect_that_is_spoken(site: Site) -> None:  # noqa: F811
    client = await _connected(site)
    await client.send("RequestTunnel", {}, id="7")
    answer = await client.expect("TunnelToken")
    assert answer["replyTo"] == "7"
    assert answer["payload"]["url"] == TUNNEL_URL
    claims = await site.world.tokens.verify_tunnel(answer["payload"]["token"], site.world.clock.now())
    assert claims.participant_id == client.joined["participantId"]
    assert claims.room_id == site.world.room
    other = await site.world.connect(site.process)
    await other.send("join_room", {"roomId": site.world.room, "token": (await site.world.person()).token})
    await other.payload("sfu_endpoint")
    await other.send("request_tunnel")
    assert (await other.payload("tunnel_token"))["token"]


async def test_a_room_that_moves_to_another_node_is_followed_with_another_token(
    site: Site,  # noqa: F811
    redis_server: RedisServer,
) -> None:
    world = site.world
    redis = RedisClient(connect(redis_server.url))
    ordinary = NativeParticipant(world.http, await _grant(site), world.room, shade=190)
    mixed = TokenParticipant(world.http, site.url, await _grant(site), world.room, "websocket", shade=60)
    async with ordinary, mixed:
        await _see_each_other(mixed, ordinary, (60, 190))
        session = mixed.tunnel.id
        async with running_sfu(tokens=world.tokens, nodes=RedisMediaNodes(redis), node_id="second") as second:
            await second.worker._announce()
            draining = asyncio.create_task(site.sfu.worker.drain())
            await eventually(lambda: "second" in _nodes(mixed.signaling), within_s=20)
            await eventually(lambda: _all_connected(mixed) and _all_connected(ordinary), within_s=20)
            await draining
            for one, peer in ((mixed, ordinary), (ordinary, mixed)):
                now = (await one.receives(peer.user_id, "camera", frames=1)).frames
                await one.receives(peer.user_id, "camera", frames=now + 15)
            assert (mixed.tunnel.id, mixed.tunnel.closed.is_set()) == (session, False)
            assert mixed.signaling.types().count("TunnelToken") == 2
            for one in (mixed, ordinary):
                await one.link.close()
    await redis.close()


async def test_a_second_session_of_a_participant_ends_the_first(site: Site) -> None:  # noqa: F811
    client = await _connected(site)
    first, second = TunnelClient(site.world.http, site.url), TunnelClient(site.world.http, site.url)
    await first.open("websocket", await _token(client))
    await second.open("websocket", await _token(client))
    await first.closed.wait()
    assert first.code == 4404  # the wire ended with 4409, and there is no session to come back to
    assert not second.closed.is_set()
    assert site.metrics.registry.get_sample_value("parley_tunnel_ends_total", {"code": "superseded"}) == 1
    for one in (first, second):
        await one.close()


# --- what is refused -------------------------------------------------------------------------------------------------
async def test_a_token_is_taken_once(site: Site) -> None:  # noqa: F811
    client = await _connected(site)
    token = await _token(client)
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open("poll", token)
    assert await _refusal(site, token) == (401, "token-refused")
    assert _causes(site) == {"replayed": 1}
    await tunnel.close()
    assert await _refusal(site, token) == (401, "token-refused")  # its session has ended


async def test_a_token_that_has_expired_is_of_another_kind_or_of_nobody_we_know(site: Site) -> None:  # noqa: F811
    tokens, now = site.world.tokens, site.world.clock.now()
    expired = await _minted(site, age_s=61)
    join = (await site.world.person()).token
    service = await tokens.mint_service(subject="signaling", audience="tunnel", now=now)
    for token in (expired, join, service, "none.of.ours", "x"):
        assert await _refusal(site, token) == (401, "token-refused"), token[:20]
    assert _causes(site) == {"expired": 1, "typ": 2, "malformed": 2}
    async with site.world.http.post(site.sessions, json={"token": ""}) as answer:
        assert answer.status == 400


async def test_whoever_was_removed_gets_no_session(site: Site) -> None:  # noqa: F811
    removed = ParticipantId(str(uuid.uuid4()))
    token = await _minted(site, participant_id=removed)
    await site.world.presence.deny(site.world.room, removed, ttl_s=60)
    assert await _refusal(site, token) == (403, "removed")


async def test_frames_are_joined_on_stream_0(site: Site) -> None:  # noqa: F811
    token = await _token(await _connected(site))
    assert await _refusal(site, token, "frames") == (422, "not-available")
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open("websocket", token)  # it was not used up
    await tunnel.close()


async def test_a_token_reaches_its_own_nodes_and_no_other(site: Site, redis_server: RedisServer) -> None:  # noqa: F811
    client = await _connected(site)
    redis = RedisClient(connect(redis_server.url))
    async with running_sfu(
        tokens=site.world.tokens, nodes=RedisMediaNodes(redis), node_id="of-another-room"
    ) as foreign:
        tunnel = TunnelClient(site.world.http, site.url)
        await tunnel.open("websocket", await _token(client))
        for target in (("127.0.0.1", foreign.worker.media_port), ("127.0.0.1", 6379), ("169.254.169.254", 80)):
            assert (await tunnel.path(*target))[1] == "not-a-media-node"
        own = next(m["payload"] for m in client.messages if m["type"] == "SfuEndpoint")
        assert (await tunnel.path(own["ip"], own["port"]))[1] == ""
        await tunnel.close()
    await redis.close()


async def _asks(tunnel: TunnelClient, token: str) -> str:
    """The refusal of another token in mid-session."""
    told: list[str] = []
    former = tunnel._control

    def hear(message: c.ControlMessage) -> None:
        if isinstance(message, c.AuthorisationRefused):
            told.append(message.code)
        former(message)

    tunnel._control = hear  # type: ignore[method-assign]
    tunnel.control(c.Authorise(token=token))
    await eventually(lambda: bool(told))
    tunnel._control = former  # type: ignore[method-assign]
    return told[0]


async def test_a_session_takes_further_tokens_of_its_own_participant_and_room_only(site: Site) -> None:  # noqa: F811
    client, other = await _connected(site), await _connected(site)
    used = await _token(client)
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open("websocket", used)
    theirs = await _token(other)
    elsewhere = await _minted(site, participant_id=client.joined["participantId"], room_id=str(uuid.uuid4()))
    assert await _asks(tunnel, theirs) == "other-participant"
    assert await _asks(tunnel, elsewhere) == "other-participant"
    assert await _asks(tunnel, used) == "token-refused"
    assert await _asks(tunnel, "none.of.ours") == "token-refused"
    assert (await tunnel.path("127.0.0.1", 9))[1] == "not-a-media-node"
    await tunnel.authorise(await _minted(site, participant_id=client.joined["participantId"]))
    assert (await tunnel.path("127.0.0.1", 9))[1] == ""
    theirs_still = TunnelClient(site.world.http, site.url)
    await theirs_still.open("websocket", theirs)  # a refused stranger's token is not used up
    for one in (tunnel, theirs_still):
        await one.close()


@pytest.mark.parametrize(
    "data",
    [
        encode(Frame(FrameType.SIGNAL, 0, b'{"type":"JoinRoom","payload":{}}')),
        encode(Frame(FrameType.CONTROL, 0, b'{"type":"Muted","stream":1,"muted":true}')),
    ],
)
async def test_a_session_by_token_has_no_signaling_and_no_frames(site: Site, data: bytes) -> None:  # noqa: F811
    token = await _token(await _connected(site))
    async with site.world.http.post(site.sessions, json={"token": token}) as answer:
        made = await answer.json()
    protocols = (SUBPROTOCOL, f"secret.{made['resumeSecret']}")
    async with site.world.http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=protocols) as socket:
        await socket.send_bytes(data)
        async with asyncio.timeout(5):
            async for _ in socket:
                pass
        assert socket.close_code == 1007


async def test_a_joined_session_takes_no_token(site: Site) -> None:  # noqa: F811
    made = await site.made()
    protocols = (SUBPROTOCOL, f"secret.{made['resumeSecret']}")
    async with site.world.http.ws_connect(f"{site.sessions}/{made['sessionId']}/ws", protocols=protocols) as socket:
        await socket.send_bytes(encode(Frame(FrameType.CONTROL, 0, c.encode(c.Authorise(token="any")))))
        async with asyncio.timeout(5):
            async for _ in socket:
                pass
        assert socket.close_code == 1007


async def test_a_session_whose_nodes_do_not_answer_any_more_ends(
    site: Site,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("media_workers.tunnel.session.NO_MEDIA_S", 1.5)
    tunnel = TunnelClient(site.world.http, site.url)
    await tunnel.open("websocket", await _token(await _connected(site)))
    async with asyncio.timeout(10):
        await tunnel.closed.wait()
    assert (tunnel.code, tunnel.why) == (4408, "no-media")
    await tunnel.close()


async def test_on_no_media_server_there_is_no_token(site: Site) -> None:  # noqa: F811
    await site.world.media_nodes.withdraw(NodeId("sfu-test"))
    client = await site.world.join(site.process, await site.world.person())
    await client.send("RequestTunnel")
    refused = await client.payload("Error", lambda payload: "SfuEndpoint" in payload["message"])
    assert (refused["code"], refused["retryable"]) == ("sfu-unavailable", True)


async def test_a_directory_that_is_away_is_said(site: Site, redis_server: RedisServer) -> None:  # noqa: F811
    token = await _token(await _connected(site))
    with redis_server.paused():
        assert await _refusal(site, token) == (503, "unavailable")
