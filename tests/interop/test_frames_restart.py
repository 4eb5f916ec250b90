"""The gateway's own way to the SFU is cut, forgets it, or leads to another node, and media comes back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from conference.adapters.redis.client import RedisClient, connect
from conference.adapters.redis.nodes import RedisMediaNodes
from conference.protocol.tunnel import control as c
from tests.interop.test_frames_sfu import decodes, frames, sfu_of
from tests.interop.test_tunnel_frames import _browser, _decodes, _ordinary
from tests.interop.test_tunnel_gateway import Site, site  # noqa: F401  # fixture
from tests.support.engine import ENGINES, EngineFactory
from tests.support.frame_client import FrameClient, TunnelledBrowser
from tests.support.native_client import NativeParticipant
from tests.support.redis import RedisServer
from tests.support.sfu import Sfu, running_sfu
from tests.support.udp_relay import UdpRelay
from tests.support.waiting import eventually

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]


@dataclass
class Call:
    """A browser in frames whose gateway reaches the SFU by `way`, and another one whose gateway reaches it directly."""

    sfu: Sfu
    way: UdpRelay
    client: FrameClient
    other: FrameClient

    def states(self, direction: str) -> list[str]:
        return [one.state for one in self.client.of(c.MediaState) if one.direction == direction]

    def ufrags(self) -> tuple[str, str]:
        """Of the SFU, on publish and subscribe."""
        core: Any = self.sfu.worker._core
        session = core.sessions["frames"]
        return session.publish.ice_ufrag, session.subscribe.ice_ufrag

    async def goes_on(self) -> None:
        for one, name in ((self.other, "frames"), (self.client, "other")):
            for kind in ("video", "audio"):
                found = one.track(f"{name}-{kind}")
                assert found
                await decodes(one, f"{name}-{kind}", found.decoded + 10, within_s=60)

    async def silent(self) -> None:
        await eventually(
            lambda: all(self.states(direction)[-1] == "connecting" for direction in ("publish", "subscribe")),
            within_s=60,
        )


@asynccontextmanager
async def call_over_a_relay(make: Callable[[], EngineFactory]) -> AsyncIterator[Call]:
    async with (
        sfu_of(make()) as (sfu, link),
        UdpRelay(("127.0.0.1", sfu.worker.media_port)) as way,
        frames(link, "other") as other,
        frames(link) as client,
    ):
        hear = client.peer.signal_from_server

        def by_the_relay(envelope: dict[str, Any]) -> bool:
            payload = envelope["payload"]
            if "sdp" in payload:
                direct, relayed = (f"127.0.0.1 {port} typ" for port in (sfu.worker.media_port, way.port))
                assert direct in payload["sdp"]
                envelope = {**envelope, "payload": {**payload, "sdp": payload["sdp"].replace(direct, relayed)}}
            return hear(envelope)

        client.peer.signal_from_server = by_the_relay  # type: ignore[method-assign]
        for one in (client, other):
            one.publish(60, is_small=True)
        for one, name in ((client, "other"), (other, "frames")):
            for kind in ("video", "audio"):
                await decodes(one, f"{name}-{kind}", within_s=60)
        yield Call(sfu, way, client, other)


@pytest.mark.parametrize("make", ENGINES)
async def test_a_path_that_is_cut_for_twelve_seconds_is_restarted_and_media_goes_on(
    make: Callable[[], EngineFactory],
) -> None:
    async with call_over_a_relay(make) as call:
        before = call.ufrags()
        call.way.is_cut = True
        await call.silent()
        # The first restart is of publish alone. With the second one the SFU misses us on subscribe as well, and offers.
        await eventually(lambda: all(a != b for a, b in zip(call.ufrags(), before, strict=True)), within_s=30)
        call.way.is_cut = False
        await call.goes_on()
        for direction in ("publish", "subscribe"):
            states = call.states(direction)
            assert states.count("connected") >= 2
            assert "failed" not in states
        assert not call.client.errors
        assert len(call.client.arrived) == 2, "no track had to be opened again"


async def test_a_way_that_has_forgotten_the_gateway_is_taken_by_another_socket() -> None:
    async with call_over_a_relay(ENGINES[0]) as call:
        assert call.way.flows == 2
        call.way.forget_flows()
        await call.silent()
        await call.goes_on()
        assert call.way.flows >= 4
        assert "failed" not in call.states("publish") + call.states("subscribe")


# --- another node, with real signaling -------------------------------------------------------------------------------
async def _both_go_on(browser: TunnelledBrowser, other: NativeParticipant) -> None:
    def newest() -> Any:
        ids = [one.track_id for one in other.tracks.values() if one.user_id == browser.joined["userId"]]
        return next(other.received[track_id] for track_id in ids if track_id.endswith("-video"))

    begun = {id(newest()): newest().frames}
    await eventually(lambda: newest().frames >= begun.get(id(newest()), 0) + 10, within_s=60)
    await _decodes_anew(browser, "video")
    await _decodes_anew(browser, "audio")


async def _decodes_anew(browser: TunnelledBrowser, kind: str) -> None:
    """On the stream that was opened last for that kind."""

    def latest() -> Any:
        return [one for one in browser.arrived.values() if one.opened.kind == kind][-1]

    begun = {id(latest()): latest().decoded}
    await eventually(lambda: latest().decoded >= begun.get(id(latest()), 0) + 10, within_s=60)


@pytest.mark.parametrize("is_drained", [True, False])
async def test_a_room_that_moves_to_another_node_or_loses_its_own_goes_on(
    site: Site,  # noqa: F811
    redis_server: RedisServer,
    is_drained: bool,
) -> None:
    redis = RedisClient(connect(redis_server.url))
    async with await _ordinary(site) as other:
        browser = await _browser(site, "websocket", site.world.http)
        try:
            await _decodes(browser, "video")
            await other.receives(browser.joined["userId"], "camera", frames=10)
            async with running_sfu(tokens=site.world.tokens, nodes=RedisMediaNodes(redis), node_id="second") as second:
                await second.worker._announce()
                if is_drained:
                    await site.sfu.worker.drain()
                else:
                    await site.sfu.worker.stop()
                core: Any = second.worker._core
                await eventually(lambda: len(core.sessions) == 2, within_s=60)
                await _both_go_on(browser, other)
                states = [(one.direction, one.state) for one in browser.of(c.MediaState)]
                for direction in ("publish", "subscribe"):
                    assert states.count((direction, "connected")) >= 2
                assert [state for state in states if state[1] == "failed"] == [] or not is_drained, states
                await asyncio.gather(browser.close(), other.link.close())
        finally:
            await browser.close()
    await redis.close()
