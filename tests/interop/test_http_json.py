"""Reading JSON from a real server that does what a server should not."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from conference.adapters.http_json import MAX_BYTES, HttpJson
from conference.domain.errors import Unavailable
from tests.support.forge import ec_key

pytestmark = pytest.mark.interop


async def _good(_: web.Request) -> web.Response:
    return web.json_response({"keys": []})


async def _redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/good"})


async def _failing(_: web.Request) -> web.Response:
    return web.json_response({"keys": []}, status=500)


async def _html(_: web.Request) -> web.Response:
    return web.Response(text="<p>hello")


async def _doubled(_: web.Request) -> web.Response:
    return web.Response(text='{"keys": [], "keys": []}')


async def _compressed(_: web.Request) -> web.Response:
    return web.Response(body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})


async def _endless(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" " * 65536)


async def _dripping(request: web.Request) -> web.StreamResponse:
    """A byte from time to time: no single read takes long, the whole never ends."""
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


def _application() -> web.Application:
    app = web.Application()
    handlers = (_good, _redirect, _failing, _html, _doubled, _compressed, _endless, _dripping)
    app.add_routes(web.get(f"/{handler.__name__[1:]}", handler) for handler in handlers)
    return app


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    async with TestServer(_application(), host="127.0.0.1") as server:
        yield str(server.make_url("")).rstrip("/")


@pytest.fixture
async def tls_origin(tmp_path: Path) -> AsyncIterator[str]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(_certificate(tmp_path))
    server = TestServer(_application(), host="127.0.0.1", scheme="https")
    await server.start_server(ssl=context)
    yield f"https://127.0.0.1:{server.port}"
    await server.close()


def _certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that vouches for itself, with its key, in one file `ca.pem`."""
    key, name = ec_key(), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    file = folder / "ca.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return file


async def test_a_document_is_read(origin: str) -> None:
    assert await HttpJson()(f"{origin}/good") == {"keys": []}


@pytest.mark.parametrize("path", ["redirect", "failing", "html", "doubled", "compressed", "missing"])
async def test_anything_but_plain_json_is_unavailable(origin: str, path: str) -> None:
    with pytest.raises(Unavailable):
        await HttpJson()(f"{origin}/{path}")


async def test_a_document_over_the_limit_is_not_read_to_its_end(origin: str) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await HttpJson()(f"{origin}/endless")
    assert "too large" in str(unavailable.value.__cause__)
    assert MAX_BYTES == 256 * 1024


async def test_one_timeout_counts_for_the_whole(origin: str) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await HttpJson(timeout_s=0.3)(f"{origin}/dripping")
    assert isinstance(unavailable.value.__cause__, TimeoutError)


async def test_nobody_listening_is_unavailable_and_may_be_tried_again(unused_tcp_port: int) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await HttpJson()(f"http://127.0.0.1:{unused_tcp_port}/")
    assert unavailable.value.retryable


@pytest.mark.parametrize(
    "url",
    ["http://issuer.test/keys", "http://127.0.0.1.issuer.test/", "http://[::ffff:10.0.0.1]/", "file:///etc/passwd",
     "ftp://127.0.0.1/", "//issuer.test", "", "http://[", "http://10.0.0.1/"],
)  # fmt: skip
async def test_without_https_only_loopback_is_asked(url: str) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await HttpJson()(url)
    assert not unavailable.value.retryable


async def test_a_certificate_of_a_stranger_is_refused(tls_origin: str) -> None:
    with pytest.raises(Unavailable) as unavailable:
        await HttpJson()(f"{tls_origin}/good")
    assert "CERTIFICATE_VERIFY_FAILED" in str(unavailable.value.__cause__)


async def test_the_extra_authority_is_trusted(tls_origin: str, tmp_path: Path) -> None:
    assert await HttpJson(ca_file=tmp_path / "ca.pem")(f"{tls_origin}/good") == {"keys": []}
