"""Sending webhooks to real receivers on loopback that do what receivers should not."""

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conference.adapters.key_ring import FileKeyRing
from conference.adapters.memory import memory_stores
from conference.adapters.memory.clock import SequenceIds
from conference.adapters.system import SystemClock
from conference.adapters.webhook_http import HttpWebhookSender
from conference.adapters.webhook_secrets import SealedWebhookSecrets
from conference.domain.ids import Secret
from conference.domain.webhooks import AttemptOutcome, SealedSecret, WebhookEndpoint
from conference.ports.webhooks import WebhookAnswer
from functions.events import relay
from functions.services import Services
from functions.webhooks.delivery import deliver
from tests.support.forge import ec_key
from tests.support.meetings import a_consent, a_meeting, user
from tests.support.webhooks import an_endpoint

pytestmark = pytest.mark.interop
HEADERS = {"Content-Type": "application/json", "Parley-Event-Id": "e", "Parley-Signature": "t=1,v1=a"}
BODY = b'{"id": "e"}'
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _sender(**fields: Any) -> HttpWebhookSender:
    return HttpWebhookSender(**{"loopback": True, "timeout_s": 2.0, **fields})


class Receiver:
    """An aiohttp application that notes what it is sent."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.app = web.Application()
        self.app.add_routes([web.post("/{name}", self._take)])
        self.hanging = asyncio.Event()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.path_qs, dict(request.headers), await request.read()))
        match request.match_info["name"]:
            case "redirect":
                return web.Response(status=307, headers={"Location": "/ok"})
            case "hang":
                await self.hanging.wait()
            case "huge":
                return await self._huge(request)
            case "cookie":
                return web.Response(headers={"Set-Cookie": "a=b"})
            case name if name.isdigit():
                return web.Response(status=int(name))
        return web.Response(text="thanks")

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:  # until the sender has had enough
            await response.write(b" " * 65536)


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def origin(receiver: Receiver) -> AsyncIterator[str]:
    async with TestServer(receiver.app, host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")
        receiver.hanging.set()


@pytest.fixture
async def tls_origin(receiver: Receiver, tmp_path: Path) -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_certificate(tmp_path, "hooks.example.com"))
    server = TestServer(receiver.app, host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    yield f"127.0.0.1:{server.port}"
    await server.close()


def _certificate(folder: Path, *names: str) -> Path:
    """A certificate of these names that vouches for itself, with its key, in one file `ca.pem`."""
    key, subject = ec_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "receiver")])
    now = datetime.now(UTC)
    known = [*(x509.DNSName(name) for name in names), x509.IPAddress(ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(known), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / "ca.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file


@asynccontextmanager
async def _serving(serve: Serve) -> AsyncIterator[str]:
    """The address of a server that speaks as it likes."""
    handlers: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/raw"
        await asyncio.gather(*handlers)


def _saying(content: bytes) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(content)
        await writer.drain()

    return serve


async def test_a_delivery_arrives_as_it_was_given(receiver: Receiver, origin: str) -> None:
    assert await _sender().send(f"{origin}/ok?x=%20y", BODY, HEADERS) == WebhookAnswer(200)
    ((path, headers, body),) = receiver.requests
    assert (path, body) == ("/ok?x=%20y", BODY)
    assert HEADERS.items() <= headers.items()
    assert headers["Host"] == origin.removeprefix("http://")
    assert "Cookie" not in headers
    assert headers["Accept-Encoding"] == "identity"


async def test_nothing_is_remembered_of_a_receiver(receiver: Receiver, origin: str) -> None:
    sender = _sender()
    for _ in range(2):
        assert await sender.send(f"{origin}/cookie", BODY, HEADERS) == WebhookAnswer(200)
    assert all("Cookie" not in headers for _, headers, _ in receiver.requests)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 410, 429, 500, 503])
async def test_the_status_is_the_answer(receiver: Receiver, origin: str, status: int) -> None:
    answer = await _sender().send(f"{origin}/{status}", BODY, HEADERS)
    assert (answer.status, answer.error, answer.is_success) == (status, None, status < 300)


async def test_a_redirect_is_not_followed(receiver: Receiver, origin: str) -> None:
    answer = await _sender().send(f"{origin}/redirect", BODY, HEADERS)
    assert (answer.status, answer.is_success) == (307, False)
    assert [path for path, _, _ in receiver.requests] == ["/redirect"]


async def test_a_receiver_that_hangs_is_given_up_in_time(receiver: Receiver, origin: str) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    assert await _sender(timeout_s=0.5).send(f"{origin}/hang", BODY, HEADERS) == WebhookAnswer(None, "timeout")
    assert loop.time() - began < 5


async def test_an_answer_without_end_is_not_read(receiver: Receiver, origin: str) -> None:
    assert await _sender().send(f"{origin}/huge", BODY, HEADERS) == WebhookAnswer(200)


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"", WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 200", WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 200 OK\r\nContent-Le", WebhookAnswer(None, "closed")),
        (b"SSH-2.0-OpenSSH_9.9\r\n", WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 99999 Far\r\n\r\n", WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n", WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 3, WebhookAnswer(None, "closed")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", WebhookAnswer(200)),  # it said that it has it
    ],
)
async def test_whoever_closes_half_way_or_speaks_no_http(content: bytes, answer: WebhookAnswer) -> None:
    async with _serving(_saying(content)) as url:
        assert await _sender().send(url, BODY, HEADERS) == answer


async def test_informational_answers_without_end_are_a_time_out() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:  # until the sender has had enough
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with _serving(serve) as url:
        assert await _sender(timeout_s=0.5).send(url, BODY, HEADERS) == WebhookAnswer(None, "timeout")


async def test_nobody_listening_is_said_so(unused_tcp_port: int) -> None:
    answer = await _sender().send(f"http://127.0.0.1:{unused_tcp_port}/", BODY, HEADERS)
    assert answer == WebhookAnswer(None, "connect-failed")


async def test_a_certificate_of_a_stranger_is_refused(receiver: Receiver, tls_origin: str) -> None:
    assert await _sender().send(f"https://{tls_origin}/ok", BODY, HEADERS) == WebhookAnswer(None, "tls-failed")
    assert receiver.requests == []


async def test_plain_http_behind_an_https_address_is_no_tls(receiver: Receiver, origin: str) -> None:
    answer = await _sender().send(origin.replace("http:", "https:") + "/ok", BODY, HEADERS)
    assert answer == WebhookAnswer(None, "tls-failed")


async def test_the_certificate_is_checked_against_the_name_and_not_the_address(
    receiver: Receiver, tls_origin: str, tmp_path: Path
) -> None:
    port = tls_origin.rpartition(":")[2]

    async def here(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    sender = _sender(ca_file=tmp_path / "ca.pem", resolve=here)
    assert await sender.send(f"https://hooks.example.com:{port}/ok", BODY, HEADERS) == WebhookAnswer(200)
    assert receiver.requests[0][1]["Host"] == f"hooks.example.com:{port}"
    assert await sender.send(f"https://127.0.0.1:{port}/ok", BODY, HEADERS) == WebhookAnswer(200)
    other = await sender.send(f"https://other.example.com:{port}/ok", BODY, HEADERS)
    assert other == WebhookAnswer(None, "tls-failed")
    assert len(receiver.requests) == 2


async def test_the_next_address_of_a_name_is_tried_where_one_does_not_answer(
    receiver: Receiver, tls_origin: str, tmp_path: Path
) -> None:
    async def two(host: str, port: int) -> Sequence[str]:
        return ["::1", "127.0.0.1"]

    sender = _sender(ca_file=tmp_path / "ca.pem", resolve=two)
    url = f"https://hooks.example.com:{tls_origin.rpartition(':')[2]}/ok"
    assert await sender.send(url, BODY, HEADERS) == WebhookAnswer(200)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["168.63.129.16"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%eth0"],
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["64:ff9b::a00:1"],
    ],
)
async def test_a_name_that_leads_inside_is_never_connected_to(addresses: list[str]) -> None:
    async def inside(host: str, port: int) -> Sequence[str]:
        return addresses

    sender = HttpWebhookSender(resolve=inside)  # as in production
    answer = await sender.send("https://hooks.example.com/", BODY, HEADERS)
    assert answer == WebhookAnswer(None, "address-refused")


async def test_a_name_is_resolved_once_so_that_a_second_answer_changes_nothing(
    receiver: Receiver, tls_origin: str, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def rebinding(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    sender = _sender(ca_file=tmp_path / "ca.pem", resolve=rebinding)
    url = f"https://hooks.example.com:{tls_origin.rpartition(':')[2]}/ok"
    assert await sender.send(url, BODY, HEADERS) == WebhookAnswer(200)
    assert asked == ["hooks.example.com"]
    assert await sender.send(url, BODY, HEADERS) == WebhookAnswer(None, "address-refused")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/", "https://127.0.0.1/", "https://localhost/", "http://example.com/"]
)
async def test_an_address_that_was_stored_before_the_rules_is_refused(url: str) -> None:
    assert await HttpWebhookSender().send(url, BODY, HEADERS) == WebhookAnswer(None, "address-refused")


@pytest.mark.parametrize("failure", [OSError("no such name"), UnicodeError("label too long")])
async def test_a_name_that_nobody_knows_is_said_so(failure: Exception) -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise failure

    answer = await _sender(resolve=unknown).send("https://hooks.example.com/", BODY, HEADERS)
    assert answer == WebhookAnswer(None, "name-unresolved")


async def test_a_resolver_that_hangs_is_a_time_out() -> None:
    async def hangs(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    answer = await _sender(resolve=hangs, timeout_s=0.2).send("https://hooks.example.com/", BODY, HEADERS)
    assert answer == WebhookAnswer(None, "timeout")


async def test_the_systems_resolver_finds_this_machine(receiver: Receiver, origin: str) -> None:
    sender = _sender()
    answer = await sender.send(origin.replace("127.0.0.1", "localhost") + "/ok", BODY, HEADERS)
    assert answer == WebhookAnswer(200)
    await sender.close()


# --- the whole, with the real secrets ---


async def test_events_reach_a_receiver_that_verifies_them(receiver: Receiver, origin: str, tmp_path: Path) -> None:
    clock, ids = SystemClock(), SequenceIds()
    stores = memory_stores(ids)
    secrets = SealedWebhookSecrets(FileKeyRing(tmp_path / "ring"))
    secret = secrets.new()
    endpoint = an_endpoint(clock.now(), url=f"{origin}/ok")
    sealed = SealedSecret("r", await secrets.seal(secret, endpoint.id), clock.now())
    endpoint = WebhookEndpoint(endpoint.id, endpoint.tenant_id, endpoint.url, (), "", (sealed,), created_at=clock.now())
    await stores.webhooks.create(endpoint, fingerprint="", most=1)
    room = a_meeting(clock.now())
    await stores.meetings.create(room)
    for number in range(3):
        await stores.meetings.record_consent(a_consent(room, user(number), clock.now(), number))
    used: dict[str, Any] = {name: getattr(stores, name) for name in ("outbox", "queue", "meetings", "webhooks")}
    services: Services = _Used(clock=clock, ids=ids, webhook_sender=_sender(), webhook_secrets=secrets, **used)  # type: ignore[assignment]
    await relay(services)
    assert await deliver(services) == 4
    assert [_verified(secret, headers, body) for _, headers, body in receiver.requests] == [1, 2, 3, 4]
    page = await stores.webhooks.attempts(endpoint.id, cursor=None, limit=9)
    assert {(attempt.outcome, attempt.status) for attempt in page.items} == {(AttemptOutcome.DELIVERED, 200)}


class _Used:
    """What the relay and the delivery use of the services."""

    def __init__(self, **ports: Any) -> None:
        vars(self).update(ports)


def _verified(secret: Secret, headers: dict[str, str], body: bytes) -> int:
    parts = dict(part.split("=", 1) for part in headers["Parley-Signature"].split(","))
    signed = hmac.digest(secret.reveal().encode(), parts["t"].encode() + b"." + body, hashlib.sha256)
    assert parts["v1"] == signed.hex()
    number = body.decode().partition('"seq":')[2].partition(",")[0]
    return int(number)
