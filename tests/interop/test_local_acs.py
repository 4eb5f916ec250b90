"""`python -m local.acs` as a process, met by the SDKs: keys, versions, faults, what it refuses."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from azure.communication.identity import CommunicationUserIdentifier
from azure.communication.identity.aio import CommunicationIdentityClient
from azure.communication.rooms import RoomParticipant
from azure.communication.rooms.aio import RoomsClient
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError

from tests.support.ports import free_port
from tests.support.waiting import eventually, is_ready

pytestmark = pytest.mark.interop
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Site:
    origin: str
    key: str
    http: aiohttp.ClientSession
    rooms: RoomsClient
    identities: CommunicationIdentityClient

    async def order(self, fault: dict[str, Any], key: str | None = None) -> int:
        headers = {"Authorization": f"Key {self.key if key is None else key}"}
        async with self.http.post(f"{self.origin}/faults", json=fault, headers=headers) as response:
            return response.status


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.acs", "--port", str(port)),
        cwd=ROOT,
        env={**os.environ, "PARLEY_DATA_DIR": str(tmp_path)},
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        async with aiohttp.ClientSession() as http:
            await eventually(lambda: is_ready(origin), within_s=30)
            key = (tmp_path / "acs" / "access_key").read_text()
            credential = AzureKeyCredential(key)
            async with (
                RoomsClient(origin, credential, retry_total=0) as rooms,
                CommunicationIdentityClient(origin, credential, retry_total=0) as identities,
            ):
                yield Site(origin, key, http, rooms, identities)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 15)


async def status_of(call: Any) -> int | None:
    with pytest.raises(HttpResponseError) as refused:
        await call
    return refused.value.status_code


async def test_the_sdks_find_the_service_that_they_know(site: Site) -> None:
    user, token = await site.identities.create_user_and_token(["voip"], token_expires_in=timedelta(hours=2))
    assert token.token
    identity = user.properties["id"]
    room = await site.rooms.create_room(participants=[RoomParticipant({"rawId": identity, "role": "Presenter"})])
    found = await site.rooms.get_room(room.id)
    opens, closes = (datetime.fromisoformat(str(at)) for at in (found.valid_from, found.valid_until))
    assert closes - opens == timedelta(days=180)
    roster = [
        (entry.communication_identifier.raw_id, entry.role) async for entry in site.rooms.list_participants(room.id)
    ]
    assert roster == [(identity, "Presenter")]
    assert [found.id async for found in site.rooms.list_rooms()] == [room.id]
    await site.rooms.delete_room(room.id)
    assert await status_of(site.rooms.get_room(room.id)) == 404


async def test_what_breaks_a_rule_is_refused(site: Site) -> None:
    user = await site.identities.create_user()
    now = datetime.now(UTC)
    for window in ((now, now), (now, now + timedelta(days=181)), (now - timedelta(days=2), now - timedelta(days=1))):
        assert await status_of(site.rooms.create_room(valid_from=window[0], valid_until=window[1])) == 400
    stranger = RoomParticipant({"rawId": "8:acs:nobody", "role": "Attendee"})
    assert await status_of(site.rooms.create_room(participants=[stranger])) == 400
    assert await status_of(site.identities.get_token(user, ["teleport"])) == 400
    assert await status_of(site.identities.get_token(CommunicationUserIdentifier("8:acs:nobody"), ["voip"])) == 404
    old = CommunicationIdentityClient(site.origin, AzureKeyCredential(site.key), api_version="2022-06-01")
    async with old:
        assert await status_of(old.create_user()) == 400
    for body in (b"[]", b"nonsense", b"\xff"):
        url = f"{site.origin}/rooms?api-version=2025-03-13"
        async with site.http.post(url, data=body) as unsigned:
            assert unsigned.status == 401


async def test_faults_are_ordered_with_the_key_and_taken_back(site: Site) -> None:
    assert await site.order({"kind": "busy"}, key="another") == 401
    for wrong in ({"kind": "flood"}, {"kind": "busy", "colour": "red"}, {"times": 3}):
        assert await site.order(wrong) == 400
    assert await site.order({"kind": "busy", "times": 2, "path": "/identities"}) == 204
    assert await status_of(site.identities.create_user()) == 429
    await site.rooms.create_room()
    assert await site.order({}) == 204
    await site.identities.create_user()
