"""Where webhooks may lead, and when they are tried again."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conference.domain.addresses import is_special
from conference.domain.records import EventType
from conference.domain.webhooks import (
    FIRST_RETRY_S,
    GIVE_UP_AFTER,
    LONGEST_RETRY_S,
    MAX_URL,
    SealedSecret,
    WebhookUrl,
    next_attempt,
    parse_url,
    retry_delay_s,
)
from tests.support.webhooks import an_endpoint
from tests.unit.domain.test_addresses import INSIDE, forms

pytestmark = pytest.mark.unit
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "parsed", "authority"),
    [
        ("https://hooks.example.com", WebhookUrl("https", "hooks.example.com", 443, "/"), "hooks.example.com"),
        ("HTTPS://Hooks.example.com:443/", WebhookUrl("https", "hooks.example.com", 443, "/"), "hooks.example.com"),
        ("https://a.b:8443/p/q?x=1&y", WebhookUrl("https", "a.b", 8443, "/p/q?x=1&y"), "a.b:8443"),
        ("https://xn--bcher-kva.example/?q", WebhookUrl("https", "xn--bcher-kva.example", 443, "/?q"),
         "xn--bcher-kva.example"),
        ("https://8.8.8.8/", WebhookUrl("https", "8.8.8.8", 443, "/"), "8.8.8.8"),
        ("https://[2606:4700::1111]:444/", WebhookUrl("https", "2606:4700::1111", 444, "/"), "[2606:4700::1111]:444"),
    ],
)  # fmt: skip
def test_an_address_is_taken_apart(text: str, parsed: WebhookUrl, authority: str) -> None:
    assert parse_url(text, loopback=False) == parsed
    assert parsed.authority == authority


@pytest.mark.parametrize(
    "text",
    [
        "", "https", "https:", "https://", "https:///path", "//hooks.example.com/", "http://hooks.example.com/",
        "ftp://hooks.example.com/", "file:///etc/passwd", "gopher://hooks.example.com/", "javascript:alert(1)",
        "https://user@hooks.example.com/", "https://user:pass@hooks.example.com/", "https://@hooks.example.com/",
        "https://hooks.example.com/#part", "https://hooks.example.com/#", "https://hooks.example.com:0/",
        "https://hooks.example.com:65536/", "https://hooks.example.com:x/", "https://hooks example.com/",
        "https://hooks.example.com/\r\nX: y", "https://hooks.example.com\\@inside/", "https://bücher.example/",
        "https://hooks.example.com/ä", "https://[::1", "https://[v1.x]/", "https://-a.example/", "https://a..example/",
        "https://a_%41.example/", "https://*.example.com/", "https://" + "a" * 64 + ".example/",
        "https://" + "a." * 127 + "example/", "https://hooks.example.com/" + "a" * MAX_URL,
        "https://[fe80::1%25eth0]/", "https://[2606:4700::1111%25eth0]/",
    ],
)  # fmt: skip
def test_what_is_no_address_of_a_webhook_is_refused(text: str) -> None:
    for loopback in (False, True):
        with pytest.raises(ValueError, match="The url"):
            parse_url(text, loopback=loopback)


@pytest.mark.parametrize(
    "host",
    [
        *(text if ip_address(text).version == 4 else f"[{text}]"
          for inside in INSIDE for text in (inside, *forms(inside))),
        "[::1]", "[::]", "[fc00::1]", "0.0.0.0", "localhost", "LOCALHOST", "localhost.", "a.localhost", "2130706433",
        "127.1", "0x7f000001", "0x7f.0.0.1", "017700000001", "127.0.0.1.", "example.127",
    ],
)  # fmt: skip
def test_no_notation_of_an_inside_host_is_taken(host: str) -> None:
    with pytest.raises(ValueError, match="public internet"):
        parse_url(f"https://{host}/", loopback=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "127.8.9.1"])
def test_this_machine_is_taken_with_and_without_tls_where_it_is_allowed(host: str) -> None:
    for scheme in ("http", "https"):
        assert parse_url(f"{scheme}://{host}:8080/x", loopback=True).scheme == scheme


@pytest.mark.parametrize("host", ["10.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "[fe80::1]"])
def test_other_inside_hosts_are_refused_on_one_machine_too(host: str) -> None:
    with pytest.raises(ValueError, match="public internet"):
        parse_url(f"https://{host}/", loopback=True)


@given(st.text() | st.text(alphabet="htps:/@#[]%.\\?0123456789abcdefx ").map(lambda text: "https://" + text))
@example("https://[::ffff:7f00:1]/")
@example("https://[::1]]")
def test_any_text_is_an_address_outside_or_a_value_error(text: str) -> None:
    with suppress(ValueError):
        parsed = parse_url(text, loopback=False)
        assert parsed.scheme == "https"
        assert 0 < parsed.port < 65536
        assert parsed.target.startswith("/")
        with suppress(ValueError):
            assert not is_special(ip_address(parsed.host))


def test_delays_double_from_seconds_to_an_hour_less_their_jitter() -> None:
    for attempts in range(1, 40):
        whole = min(FIRST_RETRY_S * 2 ** (attempts - 1), LONGEST_RETRY_S)
        delays = [retry_delay_s(attempts, f"seed-{number}") for number in range(200)]
        assert all(whole / 2 < delay <= whole for delay in delays)
        assert max(delays) - min(delays) > 0.4 * whole  # spread, so that rooms do not come back as one
        assert retry_delay_s(attempts, "seed-0") == delays[0]
    assert retry_delay_s(10**9, "s") <= LONGEST_RETRY_S


def test_an_event_is_tried_for_three_days_and_then_a_last_time() -> None:
    now, attempts, times = NOW, 1, []
    while (again := next_attempt(now, failing_since=NOW, attempts=attempts, seed="s")) is not None:
        assert again > now
        now, attempts = again, attempts + 1
        times.append(again - NOW)
    assert times[-1] == GIVE_UP_AFTER == timedelta(days=3)
    assert timedelta(seconds=2.5) <= times[0] <= timedelta(seconds=5)
    assert 80 <= len(times) <= 160
    assert sum(time <= timedelta(minutes=10) for time in times) >= 6
    assert next_attempt(NOW + timedelta(days=9), failing_since=NOW, attempts=3, seed="s") is None


def test_an_endpoint_wants_its_types_or_all() -> None:
    assert all(an_endpoint(NOW).wants(type) for type in EventType)
    one = an_endpoint(NOW, events=(EventType.MEETING_ENDED,))
    assert [type for type in EventType if one.wants(type)] == [EventType.MEETING_ENDED]


def test_a_former_secret_is_valid_until_its_time() -> None:
    newest, former = SealedSecret("2", "b", NOW), SealedSecret("1", "a", NOW, NOW + timedelta(hours=1))
    endpoint = an_endpoint(NOW, secrets=(newest, former))
    assert endpoint.valid_secrets(NOW + timedelta(minutes=59)) == (newest, former)
    assert endpoint.valid_secrets(NOW + timedelta(hours=1)) == (newest,)


def test_no_secret_or_address_is_in_a_repr() -> None:
    endpoint = an_endpoint(NOW, url="https://hooks.example.com/token-4711")
    assert "4711" not in repr(endpoint)
    assert "first" not in repr(endpoint) + repr(endpoint.secrets)
