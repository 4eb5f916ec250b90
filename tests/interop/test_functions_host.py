"""The hosted Functions app as others meet it: over HTTP, on SQLite and Redis, with tokens of the local provider."""

import asyncio
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import azure.functions as func
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from conference.adapters.sql.migrate import migrate
from conference.settings import Settings
from local.functions_host.http import HttpSide
from local.functions_host.loading import HttpFunction
from local.identity.client import IdentityClient
from local.identity.wiring import build as build_identity
from tests.support.redis import RedisServer, _redis_process, redis_server  # noqa: F401  # fixtures
from tests.support.system import running
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop
ROOT = Path(__file__).resolve().parents[2]
LISTENING = re.compile(rb"Functions host is listening on (\S+)")


@dataclass
class Hosted:
    """The host's address, its process, and the way to tokens."""

    url: str
    process: asyncio.subprocess.Process
    http: aiohttp.ClientSession
    identity: IdentityClient
    settings: Settings

    async def person(self, name: str) -> "Person":
        tokens = await self.identity.sign_in(name)
        person = Person(self, tokens.id_token)
        person.id = (await person.call("GET", "/v1/users/me/profile"))[1]["id"]
        return person


@dataclass
class Person:
    hosted: Hosted
    token: str
    id: str = ""

    async def call(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {self.token}", **headers}
        async with self.hosted.http.request(method, self.hosted.url + path, json=body, headers=sent) as response:
            return response.status, await response.json(content_type=None)


@pytest.fixture
async def hosted(tmp_path: Path, redis_server: RedisServer) -> AsyncIterator[Hosted]:  # noqa: F811
    listener = socket.create_server(("127.0.0.1", 0))
    origin = f"http://localhost:{listener.getsockname()[1]}"
    tenant = Settings().identity_tenant
    settings = Settings(
        data_dir=tmp_path,
        public_url=origin,
        redis_url=redis_server.url,
        oidc_issuer=f"{origin}/identity/{tenant}/v2.0",
        oidc_discovery_url=f"{origin.replace('localhost', '127.0.0.1')}/identity/{tenant}/v2.0"
        "/.well-known/openid-configuration",
    )
    await migrate(settings.sql_url)
    identity = web.AppRunner(build_identity(settings).application())
    await identity.setup()
    await web.SockSite(identity, listener).start()
    process = await start_host(settings)
    try:
        assert process.stdout is not None
        match = LISTENING.match(await asyncio.wait_for(process.stdout.readline(), 20))
        assert match, "the host says where it listens"
        async with aiohttp.ClientSession() as http:
            client = IdentityClient(http, settings.oidc_issuer, origin + "/")
            yield Hosted(match[1].decode(), process, http, client, settings)
    finally:
        if process.returncode is None:
            process.terminate()
            await asyncio.wait_for(process.wait(), 15)
        await identity.cleanup()


async def start_host(settings: Settings, *more: str) -> asyncio.subprocess.Process:
    chosen = {"data_dir", "public_url", "redis_url", "oidc_issuer", "oidc_discovery_url"}
    variables = {f"PARLEY_{name.upper()}": str(getattr(settings, name)) for name in chosen}
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.functions_host", "--port", "0", *more),
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_the_whole_flow_from_sign_in_to_end(hosted: Hosted) -> None:
    ada, ben = await hosted.person("blair"), await hosted.person("casey")
    body = {"hostId": ada.id, "settings": {"isRecordingEnabled": True}, "password": "tea time"}
    status, meeting = await ada.call("POST", "/v1/meetings", body, **{"Idempotency-Key": "k"})
    assert status == 201
    assert (await ada.call("POST", "/v1/meetings", body, **{"Idempotency-Key": "k"}))[1]["id"] == meeting["id"]
    join = f"/v1/meetings/{meeting['id']}/join"
    wish = {"userId": ben.id, "password": "tea time"}
    status, refused = await ben.call("POST", join, wish)
    assert (status, refused["type"]) == (403, "/docs/problems/consent-required")
    decision = {"meetingId": meeting["id"], "consentType": "recording", "status": "accepted"}
    status, consent = await ben.call("POST", "/v1/users/consent", decision, **{"Idempotency-Key": "c"})
    assert status == 201
    _, other = await ada.call("POST", "/v1/meetings", body)
    elsewhere = {**decision, "meetingId": other["id"]}
    status, conflict = await ben.call("POST", "/v1/users/consent", elsewhere, **{"Idempotency-Key": "c"})
    assert (status, conflict["type"]) == (422, "/docs/problems/idempotency-conflict")
    status, grant = await ben.call("POST", join, {**wish, "consentToken": consent["consentToken"]})
    assert (status, grant["grants"]) == (200, ["recording"])
    status, wrong = await ben.call("POST", join, {**wish, "password": "coffee"})
    assert (status, wrong["type"]) == (403, "/docs/problems/wrong-password")
    status, room = await ada.call("GET", f"/v1/rooms/{meeting['id']}")
    assert (room["status"], room["live"]["participantCount"]) == ("ACTIVE", 1)
    status, ended = await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end")
    assert (status, ended["status"]) == (200, "COMPLETED")


async def test_fifty_places_take_fifty_of_many_at_once(hosted: Hosted) -> None:
    ada = await hosted.person("blair")
    _, meeting = await ada.call("POST", "/v1/meetings", {"hostId": ada.id, "settings": {"maxParticipants": 5}})
    people = [await hosted.person(f"guest{number}@example.org") for number in range(12)]
    path = f"/v1/meetings/{meeting['id']}/join"
    answers = await asyncio.gather(*(person.call("POST", path, {"userId": person.id}) for person in people))
    assert sorted(status for status, _ in answers) == [200] * 5 + [409] * 7


async def test_events_go_through_timer_and_queue(hosted: Hosted) -> None:
    """The relay's timer moves RoomCreated into the queue, and the queue's function takes it: nothing is left."""
    ada = await hosted.person("blair")
    await ada.call("POST", "/v1/meetings", {"hostId": ada.id})

    def counts() -> tuple[int, int]:
        unpublished = "select count(*) from outbox_events where published_at is null"
        return _count(hosted.settings, unpublished), _count(hosted.settings, "select count(*) from queue_messages")

    await eventually(lambda: counts() == (0, 0), within_s=15)


def _count(settings: Settings, query: str) -> int:
    with closing(sqlite3.connect(settings.data_dir / "parley.db")) as connection:
        return int(connection.execute(query).fetchone()[0])


async def raw(hosted: Hosted, request: bytes) -> bytes:
    """Sends bytes as they are; gives the status line."""
    host, port = hosted.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.readline(), 10)
    finally:
        writer.close()
        await writer.wait_closed()


ABUSES = (
    (b"GET /v1/meetings", b"Authorization: Bearer \xc3\xa4\xff", b"401"),
    (b"GET /v1/meetings", b"Authorization: Bearer a\r\nAuthorization: Bearer b", b"401"),
    (b"GET /v1/meetings", b"Authorization: Bearer " + b"a" * 9_000, b"400"),
    (b"GET /health", b"X-Forwarded-Port: none", b"200"),
    (b"GET /health", b"X-Forwarded-Port: " + b"9" * 5_000, b"200"),
    (b"GET /health", b"traceparent: 00-zz-zz-zz", b"200"),
    (b"GET /v1/meetings/%ff", b"Accept: */*", b"404"),
    (b"GET /v1/meetings/%00", b"Accept: */*", b"401"),
    (b"GET /../../etc/passwd", b"Accept: */*", b"404"),
    (b"GET /docs/static/..%2f..%2frouter.py", b"Accept: */*", b"404"),
    (b"HEAD /health", b"Accept: */*", b"200"),
    (b"TRACE /v1/meetings", b"Accept: */*", b"405"),
    (b"BREW /v1/meetings", b"Accept: */*", b"400"),
    (b"POST /v1/meetings", b"Content-Length: 99999999", b"413"),
    (b"POST /v1/meetings", b"Content-Length: -5", b"400"),
)


async def test_abused_headers_and_paths_get_a_plain_answer(hosted: Hosted) -> None:
    for request_line, headers, status in ABUSES:
        answer = await raw(hosted, request_line + b" HTTP/1.1\r\nHost: a b[c\r\n" + headers + b"\r\n\r\n")
        assert answer.split()[1:2] == [status], (request_line, headers[:40], answer)
    async with hosted.http.get(hosted.url + "/health") as response:
        assert response.status == 200


async def test_a_body_that_trickles_in_holds_no_connection() -> None:
    async def handler(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse("done")

    side = HttpSide(HttpFunction("http", handler, "req", frozenset({"POST"})), body_s=0.2)
    url = await side.start("127.0.0.1", 0)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"POST /v1/meetings HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        writer.close()
        await writer.wait_closed()
    finally:
        await side.stop()


async def test_a_large_body_is_refused_by_app_and_host_alike(hosted: Hosted) -> None:
    ada = await hosted.person("blair")
    for size in (256 * 1024, 2 * 1024 * 1024):
        body = io.BytesIO(b'{"hostId": "' + b"x" * size + b'"}')
        headers = {"Authorization": f"Bearer {ada.token}", "Content-Type": "application/json"}
        async with hosted.http.post(hosted.url + "/v1/meetings", data=body, headers=headers) as response:
            problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (413, "/docs/problems/body-too-large")


async def test_the_api_serves_on_while_redis_is_away(hosted: Hosted, redis_server: RedisServer) -> None:  # noqa: F811
    ada = await hosted.person("blair")
    redis_server.kill()
    _, meeting = await ada.call("POST", "/v1/meetings", {"hostId": ada.id})
    status, _ = await ada.call("POST", f"/v1/meetings/{meeting['id']}/join", {"userId": ada.id})
    assert status == 200
    status, ready = await ada.call("GET", "/ready")
    assert (status, ready["directory"]) == (200, "unavailable")
    assert (await ada.call("PUT", f"/v1/meetings/{meeting['id']}/end"))[0] == 200


async def test_a_webhook_hears_of_a_meeting_from_the_timers(hosted: Hosted) -> None:
    received: list[tuple[bool, dict[str, Any]]] = []
    secrets: list[str] = []

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        times, given = (part.partition("=")[2] for part in request.headers["Parley-Signature"].split(","))
        expected = hmac.digest(secrets[0].encode(), times.encode() + b"." + body, hashlib.sha256).hex()
        received.append((given == expected, json.loads(body)))
        return web.Response(status=503 if len(received) == 1 else 204)

    app = web.Application()
    app.add_routes([web.post("/hook", take)])
    async with TestServer(app, host="127.0.0.1") as receiver:
        alex = await hosted.person("alex")
        wish = {"url": str(receiver.make_url("/hook")), "events": ["RoomCreated", "MeetingEnded"]}
        status, webhook = await alex.call("POST", "/v1/webhooks", wish)
        assert status == 201
        secrets.append(webhook["secret"])
        _, meeting = await alex.call("POST", "/v1/meetings", {"hostId": alex.id})
        room = meeting["id"]
        await alex.call("PUT", f"/v1/meetings/{room}/end")
        await eventually(lambda: len(received) >= 3, within_s=40)
        told = [(genuine, event["type"], event["seq"], event["meetingId"]) for genuine, event in received]
        assert told == [(True, "RoomCreated", 1, room)] * 2 + [(True, "MeetingEnded", 2, room)]

        async def is_logged() -> bool:
            _, page = await alex.call("GET", f"/v1/webhooks/{webhook['id']}/deliveries")
            return [attempt["status"] for attempt in page["items"]] == [204, 204, 503]

        await eventually(is_logged)


async def test_the_host_stops_when_told_and_says_nothing_wrong(hosted: Hosted) -> None:
    await hosted.person("blair")
    hosted.process.send_signal(signal.SIGINT)
    assert await asyncio.wait_for(hosted.process.wait(), 15) == 0


async def test_a_port_that_is_taken_is_named(hosted: Hosted) -> None:
    port = hosted.url.rpartition(":")[2]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "local.functions_host", "--port", port),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}".encode() in errors
    assert b"Traceback" not in errors


def test_the_guide_runs_as_it_stands(tmp_path: Path) -> None:
    """Every bash block of docs/api.md, in order, against the whole system."""
    missing = [tool for tool in ("bash", "curl", "sed") if shutil.which(tool) is None]
    if missing and not os.environ.get("CI"):
        pytest.skip(f"not here: {missing}")
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/api.md").read_text(), re.DOTALL)
    shown = re.search(r'```json\n(\{"type":.*?)\n```', (ROOT / "docs/api.md").read_text(), re.DOTALL)
    assert shown
    with running(tmp_path) as system:
        done = subprocess.run(
            ["bash", "-c", "\n".join(blocks)],
            env={**os.environ, "ORIGIN": system.url},
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    assert f"{system.url.replace('http', 'ws', 1)}/v1/signal" in done.stdout
    assert '"status":"COMPLETED"' in done.stdout
    assert shown[1].rstrip("}") in done.stdout  # the problem, but for its trace
