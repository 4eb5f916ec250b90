"""The edge's rules without a socket: routes, header passage, files, certificates."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from multidict import CIMultiDict, CIMultiDictProxy

from local.edge import headers, routes
from local.edge.certificates import LEAF_LIFE, Certificates
from local.edge.files import Files

pytestmark = pytest.mark.unit

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "upstream"),
    [
        ("/v1/signal", "signaling"),
        ("/v1/signals", "functions"),
        ("/v1/meetings/1/join", "functions"),
        ("/.well-known/jwks.json", "functions"),
        ("/docs", "functions"),
        ("/docs/swagger-ui.css", "functions"),
        ("/config.json", "functions"),
        ("/health", "functions"),
        ("/identity/t/oauth2/v2.0/token", "identity"),
        ("/", None),
        ("/m/abc", None),
        ("/v1", None),
        ("/docsx", None),
        ("/ui/main.js", None),
    ],
)
def test_a_path_goes_to_its_process(path: str, upstream: str | None) -> None:
    route = routes.find(path)
    assert (route.upstream if route else None) == upstream


@pytest.mark.parametrize(
    "target",
    [
        "/v1/../identity/x",
        "/v1/%2e%2E/x",
        "/a/./b",
        "/v1/a%2fb",
        "/v1/a%5Cb",
        "/v1/%00",
        "/v1//x",
        "//evil.example/",
        "/a\\b",
        "/a b",
        "/ä",
        "http://127.0.0.1/v1/x",
        "*",
        "",
        "/a#b",
    ],
)
def test_a_target_with_two_readings_is_refused(target: str) -> None:
    assert not routes.is_unambiguous(target)


@pytest.mark.parametrize("target", ["/", "/m/x", "/v1/meetings?cursor=a%2Fb&x=../..", "/a..b/...", "/%C3%A4"])
def test_an_ordinary_target_is_taken(target: str) -> None:
    assert routes.is_unambiguous(target)


def test_what_a_client_says_about_itself_is_replaced() -> None:
    sent = CIMultiDictProxy(
        CIMultiDict(
            [
                ("Host", "meet.example.org"),
                ("X-Forwarded-For", "6.6.6.6"),
                ("X-Forwarded-Proto", "gopher"),
                ("X-Forwarded-Prefix", "/x"),
                ("Forwarded", "for=6.6.6.6"),
                ("X-MS-CLIENT-PRINCIPAL-ID", "admin"),
                ("traceparent", "00-1-2-01"),
                ("Connection", "keep-alive, X-Secret"),
                ("X-Secret", "1"),
                ("TE", "trailers"),
                ("Accept", "a"),
                ("Accept", "b"),
            ]
        )
    )
    passed = headers.for_upstream(sent, client="127.0.0.9", scheme="https")
    assert sorted(passed.items()) == [
        ("Accept", "a"),
        ("Accept", "b"),
        ("X-Forwarded-For", "127.0.0.9"),
        ("X-Forwarded-Host", "meet.example.org"),
        ("X-Forwarded-Proto", "https"),
        ("traceparent", "00-1-2-01"),
    ]


def test_hop_by_hop_headers_of_an_answer_end_at_the_edge() -> None:
    answer = CIMultiDict(
        [("Transfer-Encoding", "chunked"), ("Server", "x"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    )
    passed = headers.for_client(answer)
    assert passed.getall("Set-Cookie") == ["a=1", "b=2"]
    assert passed["Server"] == "Parley"
    assert "Transfer-Encoding" not in passed


def test_the_page_may_call_its_origin_its_issuer_and_nobody_else() -> None:
    policy = headers.of_page("https://meet.example.org", ("https://login.example.net/tenant/v2.0", ""))[
        "Content-Security-Policy"
    ]
    assert (
        "connect-src 'self' https://login.example.net https://meet.example.org "
        "wss://login.example.net wss://meet.example.org;" in policy
    )
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


@pytest.fixture
def web(tmp_path: Path) -> Path:
    folder = tmp_path / "web"
    (folder / "ui").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>" + "x" * 500)
    (folder / "ui" / "a.js").write_text("export {}")
    (folder / "jsconfig.json").write_text("{}")
    (folder / "tests").mkdir()
    (folder / "tests" / "a.test.js").write_text("export {}")
    (folder / ".hidden.js").write_text("secret")
    (tmp_path / "outside.js").write_text("secret")
    (folder / "link.js").symlink_to(tmp_path / "outside.js")
    return folder


def test_the_page_is_served_for_its_own_addresses(web: Path) -> None:
    files = Files(web)
    page = files.find("/")
    assert page is not None
    assert page.media_type == "text/html; charset=utf-8"
    assert files.find("/m/room-1") == files.find("/index.html") == page
    assert 0 < len(page.packed) < len(page.content)
    script = files.find("/ui/a.js")
    assert script is not None
    assert script.media_type == "text/javascript; charset=utf-8"


@pytest.mark.parametrize(
    "path",
    [
        "/none.js",
        "/ui",
        "/ui/",
        "/jsconfig.json",
        "/tests/a.test.js",
        "/.hidden.js",
        "/link.js",
        "/../outside.js",
        "/ui/\x00.js",
        "/M/x",
    ],
)
def test_what_is_no_file_of_the_page_is_not_found(web: Path, path: str) -> None:
    assert Files(web).find(path) is None


def test_a_changed_file_has_a_new_etag(web: Path) -> None:
    files = Files(web)
    before = files.find("/ui/a.js")
    (web / "ui" / "a.js").write_text("export const changed = 1;")
    after = files.find("/ui/a.js")
    assert before is not None
    assert after is not None
    assert before.etag(packed=False) != after.etag(packed=False)


def test_certificates_are_kept_until_they_near_their_end_or_the_names_change(tmp_path: Path) -> None:
    files = Certificates(tmp_path / "tls")
    files.ensure(["127.0.0.1", "localhost"], NOW)
    authority, first = files.ca_file.read_bytes(), files.chain_file.read_bytes()
    files.ensure(["127.0.0.1", "localhost"], NOW + timedelta(days=1))
    assert files.chain_file.read_bytes() == first
    files.ensure(["127.0.0.1", "localhost", "meet.example.org"], NOW)
    second = files.chain_file.read_bytes()
    assert second != first
    files.ensure(["127.0.0.1", "localhost", "meet.example.org"], NOW + LEAF_LIFE - timedelta(days=1))
    assert files.chain_file.read_bytes() not in (first, second)
    assert files.ca_file.read_bytes() == authority
    assert files.key_file.stat().st_mode & 0o077 == 0


def test_the_server_speaks_tls_1_2_or_later(tmp_path: Path) -> None:
    files = Certificates(tmp_path)
    files.ensure(["localhost"], datetime.now(UTC))
    assert files.server_context().minimum_version is ssl.TLSVersion.TLSv1_2
