"""What the settings of media providers build, and what they are refused for."""

import base64

import pytest
from azure.core.credentials_async import AsyncTokenCredential
from pydantic import SecretStr

from conference.adapters.acs.wiring import build
from conference.adapters.azure.credentials import Credentials
from conference.adapters.livekit import LiveKitRooms
from conference.domain.ids import Secret
from conference.settings import Settings

pytestmark = pytest.mark.unit
CLOUD = "https://parley.communication.azure.com"
KEY = SecretStr(base64.b64encode(b"sixteen bytes or more").decode())


async def test_the_cloud_is_signed_in_to_with_the_processs_credential() -> None:
    credentials, asked = Credentials(managed=True), []

    def token(endpoint: str) -> AsyncTokenCredential:
        asked.append(endpoint)
        return credentials.token(endpoint)

    acs = build(Settings(acs_endpoint=CLOUD + "/", email_sender="parley@example.com", acs_token_minutes=90), token)
    assert asked == [CLOUD]
    assert acs.email is not None
    assert acs.rooms.token_life.total_seconds() == 5_400
    for close in (*acs.closers, credentials.aclose):
        await close()


async def test_a_local_server_is_signed_in_to_with_its_key_and_mails_nobody_without_a_sender() -> None:
    def token(endpoint: str) -> AsyncTokenCredential:
        raise AssertionError("no credential is asked for")

    acs = build(Settings(acs_endpoint="http://127.0.0.1:7010", acs_access_key=KEY), token)
    assert acs.email is None
    for close in acs.closers:
        await close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(acs_endpoint=CLOUD, acs_access_key=KEY), "PARLEY_ACS_ACCESS_KEY is accepted for emulators only"),
        (Settings(acs_endpoint="http://parley.communication.azure.com"), "PARLEY_ACS_ENDPOINT has to be an https"),
        (Settings(acs_endpoint="endpoint=https://a.example/;accesskey=abc"), "PARLEY_ACS_ENDPOINT"),
    ],
)
def test_keys_and_plain_http_are_for_this_machine(settings: Settings, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build(settings, Credentials(managed=True).token)


@pytest.mark.parametrize(
    "url", ["livekit.example.com", "ftp://livekit.example.com", "ws://livekit.example.com", "wss://"]
)
def test_an_address_of_livekit_is_wss_or_https(url: str) -> None:
    with pytest.raises(ValueError, match="PARLEY_LIVEKIT_URL"):
        LiveKitRooms(url, "key", Secret("secret"))


@pytest.mark.parametrize("url", ["wss://livekit.example.com", "http://127.0.0.1:7880", "ws://localhost:7880"])
def test_on_this_machine_it_may_be_plain(url: str) -> None:
    assert LiveKitRooms(url, "key", Secret("secret")).clients_url == url.replace("http", "ws")
