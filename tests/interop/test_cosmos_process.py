"""The Cosmos DB server as a process, its containers made by the program that makes them, and the deployables' own
wirings."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydantic import SecretStr

from conference.adapters.stores import CosmosAccount, open_stores
from conference.adapters.system import SystemClock, SystemIds
from conference.domain.errors import Unavailable
from conference.ports.meetings import Joined, MeetingStore
from conference.settings import Settings
from functions.wiring import build
from media_workers.signaling.wiring import build as build_signaling
from tests.support.meetings import HOST, a_join, a_meeting, user
from tests.support.ports import free_port
from tests.support.waiting import eventually, is_ready

pytestmark = pytest.mark.interop


@dataclass(frozen=True)
class Place:
    settings: Settings
    environment: dict[str, str]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    """A server that has made its key, and settings that lead to it; no containers yet."""
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PARLEY_")},
        "PARLEY_DATA_DIR": str(tmp_path),
        "PARLEY_COSMOS_PORT": str(port),
        "PARLEY_COSMOS_ENDPOINT": f"http://127.0.0.1:{port}",
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "local.cosmos", env=environment)
    try:
        await eventually(lambda: is_ready(f"http://127.0.0.1:{port}"), within_s=60.0)
        key = (tmp_path / "cosmos" / "key").read_text()
        environment["PARLEY_COSMOS_KEY"] = key
        chosen = Settings(
            data_dir=tmp_path,
            cosmos_endpoint=f"http://127.0.0.1:{port}",
            cosmos_key=SecretStr(key),
            oidc_issuer="http://127.0.0.1/identity",
        )
        yield Place(chosen, environment)
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 20)


def _provision(place: Place) -> None:
    command = [sys.executable, "-m", "conference.adapters.cosmos.provision"]
    subprocess.run(command, check=True, env=place.environment, timeout=60)


async def test_functions_and_signaling_share_what_is_stored(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    wiring = await build(place.settings)
    now = SystemClock().now()
    meeting = a_meeting(now)
    with pytest.raises(Unavailable, match="lacks its containers"):
        await wiring.services.meetings.create(meeting)
    for _ in range(2):  # repeatable
        await asyncio.to_thread(_provision, place)
    assert await wiring.services.meetings.create(meeting) == meeting
    joined = await wiring.services.meetings.join(a_join(meeting, user(1), now))
    assert isinstance(joined, Joined)
    assert [event.seq for event in await wiring.services.outbox.events(meeting.id)] == [1, 2]

    monkeypatch.setattr("media_workers.signaling.wiring.SignalingWorker", lambda services: services)
    signaling = build_signaling(place.settings)
    store: MeetingStore = signaling.worker.meetings  # type: ignore[attr-defined]
    until = joined.participant.lease_until
    stay = await store.mark_joined(meeting.id, joined.participant.id, now=now, lease_until=until)
    assert stay is not None
    assert stay.joined_at == now
    page = await wiring.services.meetings.of_host(HOST, start=None, end=None, cursor=None, limit=10)
    assert [listed.id for listed in page.items] == [meeting.id]
    await signaling.close()
    await wiring.close()


async def test_a_real_account_needs_a_credential(tmp_path: Path) -> None:
    account = CosmosAccount("https://parley.documents.azure.com", "parley")
    with pytest.raises(ValueError, match="credential"):
        open_stores(SystemIds(), sql_url=f"sqlite:///{tmp_path / 'queue.db'}", cosmos=account)
