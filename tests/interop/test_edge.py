"""The edge over real sockets, with a small process behind it: streams, sockets, limits, and what it hides."""

import asyncio
import gzip
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from yarl import URL

from conference.settings import Settings
from local.edge.certificates import Certificates
from local.edge.files import Files
from local.edge.server import Edge, Limits
from local.edge.wiring import running
from tests.support.ports import free_port

pytestmark = pytest.mark.interop

DEADLINE_S = 10


class Behind:
    """What stands behind the edge: it notes requests and does what a test tells it by the path."""

    def __init__(self) -> None:
        self.next_chunk = asyncio.Event()
        self.cut_off = asyncio.Event()
        self.seen: list[web.Request] = []
        self.received = bytearray()
        self.close_codes: list[int | None] = []
        self.pings: list[bytes] = []

    def application(self) -> web.Application:
        app = web.Application(client_max_size=10 * 1024 * 1024)
        app.router.add_get("/v1/stream", self.stream)
        app.router.add_post("/v1/upload", self.upload)
        app.router.add_get("/v1/broken", self.broken)
        app.router.add_get("/v1/signal", self.signal)
        app.router.add_route("*", "/{rest:.*}", self.echo)
        return app

    async def echo(self, request: web.Request) -> web.Response:
        self.seen.append(request)
        body = {"path": request.raw_path, "headers": dict(request.headers), "size": len(await request.read())}
        answer = web.json_response(body, status=201, headers={"X-Kept": "yes"})
        answer.set_cookie("a", "1")
        answer.set_cookie("b", "2")
        return answer

    async def stream(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for number in range(3):
            await answer.write(b"chunk %d" % number)
            await self.next_chunk.wait()
            self.next_chunk.clear()
        return answer

    async def upload(self, request: web.Request) -> web.Response:
        try:
            async for chunk in request.content.iter_any():
                self.received += chunk
                self.next_chunk.set()
        except ConnectionError:
            self.cut_off.set()
        return web.Response(text=str(len(self.received)))

    async def broken(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return answer

    async def signal(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(request)
        if request.query.get("refuse"):
            return web.json_response({"type": "token-refused"}, status=401)
        ws = web.WebSocketResponse(protocols=["parley.v1"], autoping=False, compress=False)
        await ws.prepare(request)
        async for message in ws:
            if message.type == WSMsgType.PING:
                self.pings.append(message.data)
                await ws.pong(message.data)
            elif message.data == "close":
                await ws.close(code=4409, message=b"another window")
            elif message.data == "die":
                assert request.transport is not None
                request.transport.abort()
            elif message.type == WSMsgType.TEXT:
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        self.close_codes.append(ws.close_code)
        return ws


@dataclass
class Rig:
    """A running edge. `url` is its origin; `behind` the process behind it, `dead` a port where nobody listens."""

    url: str
    port: int
    behind: Behind
    http: aiohttp.ClientSession


async def _serve(stack: AsyncExitStack, app: web.Application) -> int:
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return int(runner.addresses[0][1])


def _web_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Parley</title>" + " " * 300)
    (folder / "main.js").write_text("export {};")
    return folder


@pytest.fixture(autouse=True)
def _logs_are_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A logging configuration made by another test switches off the loggers that are there."""
    for name in ("local.edge", "local.edge.server"):
        monkeypatch.setattr(logging.getLogger(name), "disabled", False)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    behind = Behind()
    async with AsyncExitStack() as stack:
        port = await _serve(stack, behind.application())
        settings = Settings(
            data_dir=tmp_path,
            host="127.0.0.1",
            port=0,
            web_dir=_web_folder(tmp_path),
            functions_port=port,
            signaling_port=port,
            identity_port=free_port(),
        )
        edge_port = await stack.enter_async_context(running(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        yield Rig(f"http://127.0.0.1:{edge_port}", edge_port, behind, http)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for happens in aiohttp, which has no event for it
            await asyncio.sleep(0.005)


async def _raw(rig: Rig, request: bytes) -> bytes:
    """The whole answer to bytes sent as they are."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(request)
    async with asyncio.timeout(DEADLINE_S):
        answer = await reader.read()
    writer.close()
    return answer


async def test_an_answer_is_streamed_while_it_is_made(rig: Rig) -> None:
    async with rig.http.get(f"{rig.url}/v1/stream") as response:
        for number in range(3):
            async with asyncio.timeout(DEADLINE_S):
                assert await response.content.readany() == b"chunk %d" % number
            rig.behind.next_chunk.set()


async def test_a_body_is_streamed_while_it_is_sent(rig: Rig) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"first"
        async with asyncio.timeout(DEADLINE_S):
            await rig.behind.next_chunk.wait()
        assert bytes(rig.behind.received) == b"first"
        yield b"second"

    async with rig.http.post(f"{rig.url}/v1/upload", data=body()) as response:
        assert await response.text() == "11"


async def test_status_headers_cookies_path_and_query_pass_unchanged(rig: Rig) -> None:
    target = "/v1/meetings?cursor=a%2Fb&from=2026-01-01T00%3A00"
    headers = {"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "X-Forwarded-For": "6.6.6.6"}
    async with rig.http.post(URL(rig.url + target, encoded=True), data=b"x" * 1000, headers=headers) as response:
        seen = await response.json()
        assert (response.status, response.headers["X-Kept"]) == (201, "yes")
        assert len(response.headers.getall("Set-Cookie")) == 2
    assert (seen["path"], seen["size"]) == (target, 1000)
    assert seen["headers"]["traceparent"] == headers["traceparent"]
    assert seen["headers"]["X-Forwarded-For"] == "127.0.0.1"
    assert seen["headers"]["X-Forwarded-Host"] == f"127.0.0.1:{rig.port}"
    assert seen["headers"]["X-Forwarded-Proto"] == "http"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_refused(rig: Rig, chunked: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(600):
            yield b"x" * 1024

    async with rig.http.post(f"{rig.url}/v1/meetings", data=body() if chunked else b"x" * 600 * 1024) as response:
        assert response.status == 413
        assert (await response.json())["type"] == "/problems/body-too-large"


async def test_a_compressed_body_is_not_unpacked_on_the_way(rig: Rig) -> None:
    body = gzip.compress(b"x" * 1000)
    async with rig.http.post(f"{rig.url}/v1/x", data=body, headers={"Content-Encoding": "gzip"}) as response:
        assert (response.status, (await response.json())["size"]) == (201, 1000)
    assert rig.behind.seen[0].headers["Content-Length"] == str(len(body))


async def test_a_client_that_expects_100_continue_is_told_to_go_on(rig: Rig) -> None:
    head = b"POST /v1/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    answer = await _raw(rig, head + b"ok")
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201")


async def test_half_an_answer_is_never_taken_for_the_whole(rig: Rig) -> None:
    async with rig.http.get(f"{rig.url}/v1/broken") as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_process_that_is_down_is_a_502_problem(rig: Rig) -> None:
    async with rig.http.get(f"{rig.url}/identity/x") as response:
        problem = await response.json(content_type="application/problem+json")
        assert (response.status, problem["type"]) == (502, "/problems/upstream-unavailable")
        assert response.headers["Retry-After"] == "1"


async def test_the_page_has_strict_headers_and_is_revalidated(rig: Rig) -> None:
    async with rig.http.get(f"{rig.url}/m/some-room") as response:
        assert response.content_type == "text/html"
        assert "<title>Parley</title>" in await response.text()
        etag = response.headers["ETag"]
        assert "camera=(self)" in response.headers["Permissions-Policy"]
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert f"ws://127.0.0.1:{8080}" in response.headers["Content-Security-Policy"]
    async with rig.http.get(f"{rig.url}/", headers={"If-None-Match": etag}) as response:
        assert response.status == 304
    async with rig.http.head(f"{rig.url}/main.js") as response:
        assert (response.status, response.content_type) == (200, "text/javascript")
    async with rig.http.post(f"{rig.url}/main.js") as response:
        assert response.status == 405


@pytest.mark.parametrize(
    "target", ["/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/v1/../x"]
)
async def test_a_path_never_leaves_the_web_folder(rig: Rig, target: str) -> None:
    answer = await _raw(rig, f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 400")
    assert not rig.behind.seen


async def test_a_websocket_passes_with_its_subprotocol_pings_and_both_kinds_of_frames(rig: Rig) -> None:
    protocols = ("parley.v1", "token.secret")
    async with rig.http.ws_connect(f"{rig.url}/v1/signal", protocols=protocols, autoping=False) as ws:
        assert ws.protocol == "parley.v1"
        await ws.send_str("ä" * 60_000)
        assert await ws.receive_str(timeout=DEADLINE_S) == "ä" * 60_000
        await ws.send_bytes(b"\x00\x01")
        assert await ws.receive_bytes(timeout=DEADLINE_S) == b"\x00\x01"
        await ws.ping(b"beat")
        answer = await ws.receive(timeout=DEADLINE_S)
        assert (answer.type, answer.data) == (WSMsgType.PONG, b"beat")
    request = rig.behind.seen[0]
    assert rig.behind.pings == [b"beat"]
    assert request.headers["Sec-WebSocket-Protocol"].replace(" ", "") == "parley.v1,token.secret"
    assert request.headers["X-Forwarded-For"] == "127.0.0.1"


async def test_a_subprotocol_that_is_not_ascii_does_no_harm(rig: Rig) -> None:
    head = (
        b"GET /v1/signal HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: parley.v1, \xff\xc3\xa4\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(head)
    async with asyncio.timeout(DEADLINE_S):
        assert (await reader.readline()).split()[1] in (b"101", b"400")
    writer.close()
    async with rig.http.get(f"{rig.url}/") as response:
        assert response.status == 200


async def test_close_codes_pass_both_ways(rig: Rig) -> None:
    async with rig.http.ws_connect(f"{rig.url}/v1/signal") as ws:
        await ws.send_str("close")
        message = await ws.receive(timeout=DEADLINE_S)
        assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4409, "another window")
    async with rig.http.ws_connect(f"{rig.url}/v1/signal") as ws:
        await ws.close(code=4001)
    await _until(lambda: 4001 in rig.behind.close_codes)


async def test_a_worker_that_dies_ends_the_socket_and_a_client_that_dies_ends_the_workers(rig: Rig) -> None:
    async with rig.http.ws_connect(f"{rig.url}/v1/signal") as ws:
        await ws.send_str("die")
        message = await ws.receive(timeout=DEADLINE_S)
        assert message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR)
    before = len(rig.behind.close_codes)
    async with rig.http.ws_connect(f"{rig.url}/v1/signal") as ws:
        connection = ws.get_extra_info("socket")
        connection.shutdown(socket.SHUT_RDWR)
        await _until(lambda: len(rig.behind.close_codes) > before)


async def test_a_refused_handshake_keeps_its_status_and_body(rig: Rig) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await rig.http.ws_connect(f"{rig.url}/v1/signal?refuse=1")
    assert caught.value.status == 401


async def test_a_large_transfer_through_a_websocket_is_complete_and_in_order(rig: Rig) -> None:
    async with rig.http.ws_connect(f"{rig.url}/v1/signal", max_msg_size=0) as ws:

        async def send() -> None:
            for number in range(64):
                await ws.send_bytes(bytes([number]) * 128 * 1024)

        sending = asyncio.create_task(send())
        for number in range(64):
            assert await ws.receive_bytes(timeout=DEADLINE_S) == bytes([number]) * 128 * 1024
        await sending


async def test_a_signaling_worker_that_is_down_closes_the_socket_with_try_again_later(tmp_path: Path) -> None:
    dead = free_port()
    settings = Settings(data_dir=tmp_path, port=0, web_dir=_web_folder(tmp_path), signaling_port=dead)
    async with running(settings) as port, aiohttp.ClientSession() as http:
        address = f"http://127.0.0.1:{port}/v1/signal"
        async with http.ws_connect(address, protocols=("parley.v1", "token.secret")) as ws:
            assert ws.protocol == "parley.v1"
            message = await ws.receive(timeout=DEADLINE_S)
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1013)


async def test_an_upgrade_elsewhere_is_an_ordinary_request(rig: Rig) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await rig.http.ws_connect(f"{rig.url}/v1/other")
    assert caught.value.status == 201
    assert "Upgrade" not in rig.behind.seen[0].headers


async def test_logs_hold_no_query_and_no_subprotocol(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with rig.http.get(f"{rig.url}/identity/x?code=secret-code") as response:
            assert response.status == 502
        async with rig.http.ws_connect(f"{rig.url}/v1/signal", protocols=("parley.v1", "token.secret-token")):
            pass
    assert "GET /identity/x answered 502" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Content-Length: +3\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Host: other\r\n",
        b"X-Name : 1\r\n",
        b"X-Long: " + b"x" * 20_000 + b"\r\n",
    ],
)
async def test_a_request_with_two_readings_is_refused_and_not_quoted_in_the_log(
    rig: Rig, head: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    request = b"POST /v1/x?code=secret HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + head + b"\r\n0\r\n\r\nabc"
    assert (await _raw(rig, request)).split(b" ")[1] == b"400"
    assert not rig.behind.seen
    assert caplog.text == ""


async def test_a_client_that_leaves_in_the_middle_of_its_body_ends_the_request_behind(rig: Rig) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(b"POST /v1/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    async with asyncio.timeout(DEADLINE_S):
        await rig.behind.next_chunk.wait()
        writer.transport.abort()
        await rig.behind.cut_off.wait()


async def test_a_client_that_never_finishes_its_head_is_cut_off(tmp_path: Path) -> None:
    async with aiohttp.ClientSession() as http:
        edge = Edge({}, Files(_web_folder(tmp_path)), {}, http, limits=Limits(connections=1, head_s=0.1))
        runner = web.ServerRunner(edge.server())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        port = runner.addresses[0][1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ")
        second, other = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(ConnectionError):
                await _read_to_the_end(second)  # one connection is allowed
            with pytest.raises(ConnectionError):
                await _read_to_the_end(reader)
        writer.close()
        other.close()
        await runner.cleanup()


async def _read_to_the_end(reader: asyncio.StreamReader) -> None:
    if not await reader.read():
        raise ConnectionResetError


async def test_with_tls_the_page_and_the_socket_verify_against_the_authority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.edge.wiring.certificate_names", lambda *_: ["localhost", "127.0.0.1"])
    behind = Behind()
    async with AsyncExitStack() as stack:
        port = await _serve(stack, behind.application())
        settings = Settings(data_dir=tmp_path, port=0, tls=True, web_dir=_web_folder(tmp_path), signaling_port=port)
        edge_port = await stack.enter_async_context(running(settings))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        trust = ssl.create_default_context(cafile=str(Certificates(tmp_path / "tls").ca_file))
        for name in ("localhost", "127.0.0.1"):
            async with http.get(f"https://{name}:{edge_port}/", ssl=trust) as response:
                assert response.status == 200
        async with http.ws_connect(f"https://localhost:{edge_port}/v1/signal", ssl=trust) as ws:
            await ws.send_str("hello")
            assert await ws.receive_str(timeout=DEADLINE_S) == "hello"
    assert behind.seen[0].headers["X-Forwarded-Proto"] == "https"
