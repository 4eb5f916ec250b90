"""Another stack in the same room: an aiortc client and Chromium see and hear each other through the whole system; over
UDP, and over each wire of the HTTP tunnel, through the edge.
"""

from typing import cast

import aiohttp
import pytest

from tests.e2e.conftest import Arrive
from tests.support.caller import call_as
from tests.support.media import GREEN, RED
from tests.support.native_client import NativeParticipant
from tests.support.system import System
from tests.support.tunnel_client import Kind, TunnelledParticipant
from tests.support.visitor import wait_for

pytestmark = pytest.mark.e2e

SHADE = 200  # luma of the native client's picture


@pytest.mark.parametrize("way", ["udp", "websocket", "stream", "poll"])
async def test_an_aiortc_client_and_chromium_meet_both_ways(arrive: Arrive, system: System, way: str) -> None:
    blair = await arrive(GREEN)
    async with aiohttp.ClientSession() as http:
        alex = await call_as(http, system.url, RED)
        room_id = await alex.make_meeting({})
        status, grant = await alex.post(f"/v1/rooms/{room_id}/join", {"userId": alex.user_id})
        assert status == 200
        if way == "udp":
            client = NativeParticipant(http, grant, room_id, shade=SHADE)
        else:
            client = TunnelledParticipant(http, system.url, grant["token"], room_id, cast(Kind, way), shade=SHADE)
        async with client as native:
            await blair.open_meeting(room_id)
            await blair.join(consent=None)

            picture = await native.receives(blair.user_id, "camera")
            assert picture.shade is not None
            assert 80 < picture.shade < 180, "the green of the other's camera"
            await native.receives(blair.user_id, "microphone")

            async def grey() -> bool:
                seen = await blair.look_at(native.user_id)
                return seen is not None and seen["rate"] >= 10 and all(abs(c - SHADE) < 30 for c in seen["colour"])

            await wait_for(grey, "Chromium shows the native client's picture")
