"""The API in front of an identity provider that fails: a clear answer in bounded time, and old keys go on.

The provider is the local one with its fault switches on, over a real socket; the API is the real one on memory stores.
"""

import asyncio
import shutil
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from conference.adapters.entra import EntraCallerVerifier
from conference.adapters.http_json import HttpJson
from conference.adapters.memory.clock import ManualClock
from conference.domain.claims import Caller
from conference.domain.records import AuditAction
from conference.settings import Settings
from local.identity.client import IdentityClient, SignInFailed, Tokens
from local.identity.keys import KeySet
from local.identity.wiring import build
from tests.support.api import Api, api_with

pytestmark = pytest.mark.interop

FLOOR_S = 30
PROFILE = "/v1/users/me/profile"


class Stage:
    """The provider, and the API that trusts it. The API's clock is the test's."""

    api: Api

    def __init__(self, port: int, tenant: str, http: aiohttp.ClientSession, runner: web.AppRunner) -> None:
        self.port, self.http, self.runner = port, http, runner
        self.root = f"http://127.0.0.1:{port}/identity/{tenant}"
        self.clock = ManualClock(datetime.fromtimestamp(time.time(), UTC))
        self.trust()

    @property
    def issuers(self) -> dict[str, str]:
        return {"v2": f"{self.root}/v2.0", "v1": f"{self.root}/", "b2c": f"{self.root}/v2.0/"}

    def trust(self, form: str = "v2", **options: Any) -> None:
        """A fresh process of the API, which knows no key yet."""
        discovery = {"b2c": f"{self.root}/b2c_1_signin/v2.0/.well-known/openid-configuration"}.get(form, "")
        self.verifier = EntraCallerVerifier(
            issuer=self.issuers[form],
            audiences=frozenset({"parley-web"}),
            fetch_json=HttpJson(timeout_s=options.pop("timeout_s", 5.0)),
            discovery_url=discovery,
            **options,
        )

    async def verify(self, token: str, now: datetime) -> Caller:
        """Port `CallerVerifier`."""
        return await self.verifier.verify(token, now)

    async def fault(self, **faults: Any) -> None:
        headers = {"Authorization": aiohttp.encode_basic_auth("parley-cli", "secret")}
        async with self.http.put(f"{self.root}/admin/faults", json=faults, headers=headers) as answer:
            assert answer.status == 204, await answer.text()

    async def rotate(self) -> None:
        """Twice: the next key is published in advance, so only the one after it is new to a cache."""
        headers = {"Authorization": aiohttp.encode_basic_auth("parley-cli", "secret")}
        for _ in range(2):
            async with self.http.post(f"{self.root}/admin/rotate", headers=headers) as answer:
                assert answer.status == 200

    async def sign_in(self, who: str = "alex") -> Tokens:
        return await IdentityClient(self.http, self.issuers["v2"], f"http://127.0.0.1:{self.port}/").sign_in(who)

    async def ask(self, token: str) -> httpx.Response:
        return await self.api.client.get(PROFILE, headers={"Authorization": f"Bearer {token}"})

    async def status(self, token: str) -> int:
        return (await self.ask(token)).status_code


@pytest.fixture(scope="session")
def provider_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once: RSA keys take their time."""
    file = tmp_path_factory.mktemp("provider") / "keys.json"
    KeySet(file, rotate_every_s=24 * 3600, keep_s=3600).rotate(time.time())
    return file


@pytest.fixture
async def stage(tmp_path: Path, provider_keys: Path) -> AsyncIterator[Stage]:
    (tmp_path / "identity").mkdir()
    shutil.copy(provider_keys, tmp_path / "identity")
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    settings = Settings(
        data_dir=tmp_path,
        public_url=f"http://127.0.0.1:{port}",
        identity_client_secret=SecretStr("secret"),
        debug_hooks=True,
    )
    runner = web.AppRunner(build(settings).application(), shutdown_timeout=0.2)
    await runner.setup()
    await web.SockSite(runner, listener).start()
    async with aiohttp.ClientSession() as http:
        made = Stage(port, settings.identity_tenant, http, runner)
        async with api_with(made.clock, made) as made.api:
            yield made
    await runner.cleanup()


def reason(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, str(response.json()["type"]).rsplit("/", 1)[-1]


async def audited(stage: Stage) -> list[str]:
    found = await (await stage.api.services()).audit.find(action=AuditAction.TOKEN_REFUSED)
    return [str(event.detail["cause"]) for event in found]


@pytest.mark.parametrize("form", ["v2", "v1", "b2c"])
async def test_each_form_of_issuer_lets_the_same_person_in_and_no_other_forms_tokens(stage: Stage, form: str) -> None:
    usual = await stage.sign_in()
    known = (await stage.ask(usual.access_token)).json()["id"]
    stage.trust(form)
    await stage.fault(form=form)
    tokens = await stage.sign_in()
    for token in (tokens.id_token, tokens.access_token):
        answer = await stage.ask(token)
        assert answer.status_code == 200, answer.text
        assert answer.json()["id"] == known
    assert (await stage.status(usual.access_token) == 200) is (form == "v2")


async def test_after_a_rotation_new_tokens_are_taken_with_one_look_and_old_ones_still_count(stage: Stage) -> None:
    old = await stage.sign_in()
    assert await stage.status(old.access_token) == 200
    await stage.rotate()
    new = await stage.sign_in()
    stage.clock.advance(FLOOR_S)
    answers = await asyncio.gather(*(stage.status(token) for token in [new.access_token, old.access_token] * 5))
    assert answers == [200] * 10


async def test_a_rotation_within_the_floor_is_a_clear_refusal_that_ends_by_itself(stage: Stage) -> None:
    old = await stage.sign_in()
    await stage.ask(old.access_token)
    await stage.rotate()
    new = await stage.sign_in()
    assert reason(await stage.ask(new.access_token)) == (401, "token-refused")
    assert await audited(stage) == ["unknown-kid"]
    stage.clock.advance(FLOOR_S)
    assert await stage.status(new.access_token) == 200


@pytest.mark.parametrize("down", ["503", "reset", "refused"])
async def test_while_the_provider_is_down_known_keys_go_on_and_it_is_asked_at_the_floor_only(
    stage: Stage, down: str
) -> None:
    tokens = await stage.sign_in()
    await stage.ask(tokens.access_token)
    await (stage.runner.cleanup() if down == "refused" else stage.fault(down=down))
    stage.clock.advance(50 * 60)
    for _ in range(3):
        assert await stage.status(tokens.access_token) == 200


@pytest.mark.parametrize("down", ["503", "reset", "refused"])
async def test_a_process_that_has_no_key_yet_answers_503_and_not_that_the_token_is_wrong(
    stage: Stage, down: str
) -> None:
    tokens = await stage.sign_in()
    stage.trust()
    await (stage.runner.cleanup() if down == "refused" else stage.fault(down=down))
    answer = await stage.ask(tokens.access_token)
    assert reason(answer) == (503, "unavailable")
    assert float(answer.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in answer.text
    assert await audited(stage) == []
    if down != "refused":
        await stage.fault()
        stage.clock.advance(2)
        assert await stage.status(tokens.access_token) == 200


async def test_a_slow_provider_is_waited_for_within_bounds_and_only_by_who_needs_it(stage: Stage) -> None:
    tokens = await stage.sign_in()
    stage.trust(timeout_s=0.5)
    await stage.fault(slow_s=30)
    loop = asyncio.get_running_loop()
    started = loop.time()
    answers = await asyncio.gather(*(stage.ask(tokens.access_token) for _ in range(5)))
    assert {reason(answer) for answer in answers} == {(503, "unavailable")}
    assert loop.time() - started < 5

    await stage.fault()
    stage.clock.advance(2)
    assert await stage.status(tokens.access_token) == 200
    await stage.fault(slow_s=30)
    stage.clock.advance(60)
    started = loop.time()
    assert await stage.status(tokens.access_token) == 200  # a known key needs no look
    assert loop.time() - started < 0.4


async def test_a_discovery_document_of_another_issuer_is_as_good_as_none(stage: Stage) -> None:
    tokens = await stage.sign_in()
    await stage.ask(tokens.access_token)
    await stage.fault(discovery_issuer="https://issuer.test/")
    stage.clock.advance(50 * 60)
    assert await stage.status(tokens.access_token) == 200
    stage.trust()
    assert reason(await stage.ask(tokens.access_token)) == (503, "unavailable")


@pytest.mark.parametrize(
    ("faults", "cause"),
    [
        ({"claims": {"iss": "https://issuer.test/v2.0"}}, "iss"),
        ({"claims": {"aud": "another-api"}}, "aud"),
        ({"claims": {"tid": "0d0f7c3e-0f0e-4a9c-8f3e-2f5c0e6b7d11"}}, "tenant"),
        ({"claims": {"ver": "1.0"}}, "claims"),
        ({"claims": {"oid": None}}, "claims"),
        ({"claims": {"scp": None, "roles": []}}, "scope"),
        ({"shift_s": -3600 - 60}, "expired"),
        ({"shift_s": 60}, "nbf"),
    ],
)
async def test_a_wrong_token_is_refused_with_one_sentence_and_its_cause_is_audited(
    stage: Stage, faults: dict[str, Any], cause: str
) -> None:
    await stage.fault(**faults)
    tokens = await stage.sign_in("blair")
    answer = await stage.ask(tokens.access_token)
    assert reason(answer) == (401, "token-refused")
    assert answer.json()["title"] == "The sign-in has expired or is not valid here. Sign in again."
    assert await audited(stage) == [cause]


@pytest.mark.parametrize("shift_s", [-3600 + 5, -3600 - 25, 25])
async def test_clocks_that_differ_by_less_than_the_skew_stop_nobody(stage: Stage, shift_s: float) -> None:
    await stage.fault(shift_s=shift_s)
    assert await stage.status((await stage.sign_in()).access_token) == 200


async def test_groups_make_an_admin_and_an_overage_does_not(stage: Stage) -> None:
    group = "3f9f4f0e-7a50-4e5b-8a55-0d6f2c1b7e33"
    stage.trust(admin_groups=frozenset({group}))
    for claims, is_admin in (({"groups": [group]}, True), ({"_claim_names": {"groups": "src1"}}, False)):
        await stage.fault(claims=claims)
        tokens = await stage.sign_in("blair")
        assert (await stage.verify(tokens.access_token, stage.clock.now())).is_admin is is_admin


async def test_a_failing_provider_refuses_sign_in_with_an_error_and_recovers(stage: Stage) -> None:
    await stage.fault(down="503")
    with pytest.raises(SignInFailed):
        await stage.sign_in()
    await stage.fault()
    assert (await stage.sign_in()).access_token


async def test_faults_need_the_secret_and_a_body_that_can_be_read(stage: Stage) -> None:
    async with stage.http.put(f"{stage.root}/admin/faults", json={}) as answer:
        assert answer.status == 401
    headers = {"Authorization": aiohttp.encode_basic_auth("parley-cli", "secret")}
    async with stage.http.put(f"{stage.root}/admin/faults", json={"down": "maybe"}, headers=headers) as answer:
        assert answer.status == 400
        assert "down is one of" in (await answer.json())["error_description"]


@pytest.mark.parametrize(
    "options",
    [{}, {"debug_hooks": True, "environment": "production", "public_url": "https://parley.test"}],
)
async def test_without_debug_hooks_and_in_production_there_are_no_switches(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    settings = Settings(data_dir=tmp_path, identity_client_secret=SecretStr("secret"), **options)
    provider = build(settings)
    assert provider.switches is None
    paths = {resource.canonical for resource in provider.application().router.resources()}
    assert f"{provider.root}/admin/rotate" in paths
    assert not {path for path in paths if "faults" in path or "b2c" in path}
