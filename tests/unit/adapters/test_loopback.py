"""Plain text and emulators' keys go to this machine only: each place that asks takes the same hosts for it."""

from pathlib import Path

import pytest
from azure.core.credentials_async import AsyncTokenCredential

from conference.adapters.azure.credentials import EmulatorCredential, is_emulator
from conference.adapters.cosmos import CosmosDatabase
from conference.adapters.http_json import HttpJson
from conference.adapters.livekit import LiveKitRooms
from conference.adapters.redis.client import connect
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret
from conference.settings import Settings
from local.identity.clients import Clients

pytestmark = pytest.mark.unit

KEY = Secret("a key of an emulator, or of a server")
HERE = pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]"])
ELSEWHERE = pytest.mark.parametrize(
    "host",
    ["127.0.0.2", "127.1", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:2]", "localhost.", "a.localhost", "127.0.0.1.test",
     "10.0.0.8"],
)  # fmt: skip


def credential() -> AsyncTokenCredential:
    return EmulatorCredential()


@HERE
async def test_what_is_for_this_machine_only_is_taken_here(host: str, tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path, cosmos_endpoint=f"http://{host}:8081", cosmos_key="key").cosmos_key is not None
    CosmosDatabase(f"http://{host}:8081", "parley", key=KEY)
    assert is_emulator(f"http://{host}:10000")
    await connect(f"redis://me@{host}:6379", credential=credential()).aclose()
    LiveKitRooms(f"ws://{host}:7880", "key", KEY)
    clients = Clients("web", "secret", "http://meet.test:8080")
    assert clients.allows_origin(f"http://{host}:8080")


@ELSEWHERE
async def test_what_is_for_this_machine_only_is_refused_elsewhere(host: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cosmos_key is for an emulator"):
        Settings(data_dir=tmp_path, cosmos_endpoint=f"http://{host}:8081", cosmos_key="key")
    with pytest.raises(ValueError, match="key is for an emulator"):
        CosmosDatabase(f"http://{host}:8081", "parley", key=KEY)
    assert not is_emulator(f"http://{host}:10000")
    with pytest.raises(ValueError, match="by TLS only"):
        connect(f"redis://me@{host}:6379", credential=credential())
    with pytest.raises(ValueError, match="for this machine only"):
        LiveKitRooms(f"ws://{host}:7880", "key", KEY)
    with pytest.raises(Unavailable, match="without https") as unavailable:
        await HttpJson()(f"http://{host}:8080/keys")
    assert not unavailable.value.retryable
    clients = Clients("web", "secret", "http://meet.test:8080")
    assert not clients.allows_origin(f"http://{host}:8080")
