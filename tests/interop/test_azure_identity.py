"""The managed identity as App Service offers it: an endpoint of the machine that gives tokens, here the test's own."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web

from conference.adapters.azure.credentials import Credentials, EmulatorCredential
from conference.adapters.blob import BlobMediaFiles
from conference.adapters.blob.client import Container
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from local.azurite.server import Azurite
from tests.support.azurite import fresh_name

pytestmark = pytest.mark.interop
CLOUD = "https://parley.blob.core.windows.net"
QUICK = Retries(attempts=3, attempt_s=5.0, total_s=16.0, base_s=0.01, wait_s=0.05)


class Endpoint:
    """Notes what it is asked. `life_s` is how long its tokens are good for; `status` what it answers."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.life_s, self.status = 3_600, 200

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append({**request.query, "header": request.headers.get("X-IDENTITY-HEADER", "")})
        if self.status != 200:
            return web.json_response({"message": "no such identity"}, status=self.status)
        resource = request.query["resource"]
        token = (await EmulatorCredential().get_token(resource)).token
        ends = str(int(time.time()) + self.life_s)
        body = {"access_token": token, "expires_on": ends, "resource": resource, "token_type": "Bearer"}
        return web.json_response(body)


@pytest.fixture
async def endpoint(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    found = Endpoint()
    app = web.Application()
    app.router.add_get("/msi/token", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "of this machine")
    yield found
    await runner.cleanup()


@asynccontextmanager
async def _files(server: Azurite) -> AsyncIterator[BlobMediaFiles]:
    """Azurite in the cloud's place, under the credential that the cloud would be given."""
    assert server.certificate is not None
    trusted = str(server.certificate.ca_file)
    async with (
        aclosing(Credentials(managed=True, client_id="an-identity")) as credentials,
        aclosing(
            Container(
                server.blob_endpoint,
                fresh_name(),
                credentials.token(CLOUD),
                retries=QUICK,
                connection_verify=trusted,
            )
        ) as container,
    ):
        yield BlobMediaFiles(container)


async def test_storage_is_reached_with_the_managed_identitys_token(secure_azurite: Azurite, endpoint: Endpoint) -> None:
    async with _files(secure_azurite) as files:
        assert await files.put("a", b"media")
        assert await files.read("a") == b"media"
    (asked,) = endpoint.asked  # one token for both calls
    assert asked["resource"] == "https://storage.azure.com"
    assert (asked["client_id"], asked["header"]) == ("an-identity", "of this machine")


async def test_a_token_that_has_ended_is_replaced_before_it_is_used(
    secure_azurite: Azurite, endpoint: Endpoint
) -> None:
    endpoint.life_s = 0
    async with _files(secure_azurite) as files:
        assert await files.put("a", b"media")
        assert await files.put("b", b"media")
    assert len(endpoint.asked) >= 2


async def test_an_identity_that_is_not_assigned_is_a_sign_in_that_failed(
    secure_azurite: Azurite, endpoint: Endpoint
) -> None:
    endpoint.status = 400
    async with _files(secure_azurite) as files:
        with pytest.raises(Unavailable, match="the sign-in to Azure is unavailable"):
            await files.put("a", b"media")
