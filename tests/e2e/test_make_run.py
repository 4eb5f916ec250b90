"""What `make run` promises: ready soon, one origin for everything, a dead process comes back, nothing left behind."""

import json
import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import aiohttp
import pytest

from conference.domain.ids import TenantId
from conference.domain.policies import user_id_of
from local.identity.client import IdentityClient
from tests.support.system import ROOT, System, running

pytestmark = pytest.mark.e2e

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("run")) as started:
        yield started


def _get(url: str, context: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(url, timeout=DEADLINE_S, context=context) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def _children(system: System) -> dict[str, int]:
    """Process ids of the runner's children by the module or program that they run."""
    listed = Path(f"/proc/{system.process.pid}/task/{system.process.pid}/children").read_text()
    found = {}
    for pid in map(int, listed.split()):
        argv = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        found[argv[2] if argv[1] == "-m" else Path(argv[0]).name] = pid
    return found


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_everything_is_ready_within_15_seconds(system: System) -> None:
    assert system.seconds_to_ready <= 15
    assert set(_children(system)) >= {
        "local.edge",
        "local.functions_host",
        "local.identity",
        "media_workers.sfu",
        "media_workers.signaling",
    }


@pytest.mark.parametrize(
    "path",
    ["/", "/m/any", "/v1/health", "/health", "/ready", "/openapi.json", "/.well-known/jwks.json", "/config.json"],
)
def test_one_origin_answers_for_page_api_and_keys(system: System, path: str) -> None:
    assert _get(system.url + path)[0] == 200


def test_the_page_learns_an_issuer_at_the_same_origin(system: System) -> None:
    config = json.loads(_get(system.url + "/config.json")[1])
    discovery = json.loads(_get(config["issuer"] + "/.well-known/openid-configuration")[1])
    assert discovery["issuer"] == config["issuer"]
    assert discovery["token_endpoint"].startswith(system.url)
    assert config["signalingUrl"] == system.url.replace("http", "ws", 1) + "/v1/signal"


async def test_a_signed_in_person_creates_a_room_and_a_stranger_does_not(system: System) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(system.url + "/config.json") as response:
            issuer = (await response.json())["issuer"]
        tokens = await IdentityClient(http, issuer, system.url + "/").sign_in("blair")
        caller = user_id_of(TenantId(str(tokens.claims["tid"])), str(tokens.claims["oid"]))
        bearer = {"Authorization": f"Bearer {tokens.access_token}"}
        answers = []
        for host, headers in ((caller, {}), (str(UUID(int=1)), bearer), (caller, bearer)):
            async with http.post(f"{system.url}/v1/rooms", json={"hostId": host}, headers=headers) as response:
                answers.append(response.status)
    assert answers == [401, 403, 201]


async def test_signaling_is_reached_through_the_same_origin(system: System) -> None:
    async with aiohttp.ClientSession() as http:
        headers = {"Origin": system.url}
        async with http.ws_connect(system.url + "/v1/signal", protocols=("parley.v1",), headers=headers) as ws:
            assert ws.protocol == "parley.v1"
            await ws.send_str("{not json")
            message = await ws.receive(timeout=DEADLINE_S)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1007)


def test_a_process_that_dies_comes_back(system: System) -> None:
    before = _children(system)["local.identity"]
    os.kill(before, signal.SIGKILL)
    _until(lambda: any("identity" in line and "ready again" in line for line in system.lines), "identity came back")
    assert _children(system)["local.identity"] != before
    assert any("identity ended (signal SIGKILL)" in line for line in system.lines)


def test_with_tls_the_page_is_served_over_https_and_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path, {"TLS": "1"}) as secure:
        assert secure.url.startswith("https://127.0.0.1:")
        trust = ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.pem"))
        assert _get(secure.url + "/", trust)[0] == 200
        children = list(_children(secure).values())
    assert secure.process.returncode == 0
    assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]


def test_make_help_lists_the_commands() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in ("run", "test", "check", "bench"):
        assert f"make {command}" in told


def test_a_port_that_is_no_port_is_said_plainly(tmp_path: Path) -> None:
    environment = {**os.environ, "PORT": "http", "DATA_DIR": str(tmp_path / "data")}
    command = [sys.executable, "-m", "local.runner"]
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=DEADLINE_S)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout.startswith("Parley cannot start. PORT=http is no port.")
    assert not (tmp_path / "data").exists()
