"""The runner's decisions without a process: what was asked for, addresses, variables, the plan, error lines."""

from pathlib import Path

import pytest

from local.runner.child import MAX_LOG, Log, problem_in
from local.runner.machine import NotPossible, lock
from local.runner.specs import Ports, Site, environment, processes, turn_urls
from local.runner.wiring import Wish, site_of, wish

pytestmark = pytest.mark.unit

PORTS = Ports(redis=1, functions=2, identity=3, signaling=4, sfu=5, media=6, tunnel=7)
SITE = Site("127.0.0.1", 8080, False, "http://127.0.0.1:8080", "http://127.0.0.1:8080")
TENANT = "5f0c1d9e-6b3a-4c58-9a47-2e8d7b1f4a60"


def asked(host: str = "127.0.0.1", *, tls: bool = False) -> Wish:
    return Wish(host, 8080, tls, Path("/data"), "")


def test_nothing_asked_is_port_8080_of_loopback_without_tls() -> None:
    assert wish({}) == Wish("127.0.0.1", 8080, False, Path(".data").absolute(), "")


def test_the_short_names_win_over_the_settings() -> None:
    given = {
        "PORT": "9",
        "PARLEY_PORT": "10",
        "HOST": "0.0.0.0",
        "TLS": "1",
        "DATA_DIR": "/d",
        "PUBLIC_IP": "192.0.2.7",
    }
    assert wish(given) == Wish("0.0.0.0", 9, True, Path("/d"), "192.0.2.7")


@pytest.mark.parametrize(
    ("given", "named"), [({"PORT": "x"}, "PORT=x"), ({"PORT": "70000"}, "PORT=70000"), ({"TLS": "maybe"}, "TLS=maybe")]
)
def test_a_wrong_variable_is_named(given: dict[str, str], named: str) -> None:
    with pytest.raises(NotPossible, match=named):
        wish(given)


@pytest.mark.parametrize(
    ("host", "tls", "public", "loopback"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("localhost", True, "https://127.0.0.1:8080", "https://127.0.0.1:8080"),
        ("::1", False, "http://[::1]:8080", "http://[::1]:8080"),
        ("0.0.0.0", True, "https://192.0.2.5:8080", "https://127.0.0.1:8080"),
        ("192.0.2.5", False, "http://192.0.2.5:8080", "http://192.0.2.5:8080"),
    ],
)
def test_the_addresses_follow_the_host(host: str, tls: bool, public: str, loopback: str) -> None:
    site = site_of(asked(host, tls=tls), 8080, "192.0.2.5")
    assert (site.public_url, site.loopback_url) == (public, loopback)


@pytest.mark.parametrize(("port", "tls"), [(443, True), (80, False)])
def test_the_origin_names_no_port_that_browsers_leave_out(port: int, tls: bool) -> None:
    site = site_of(asked("192.0.2.5", tls=tls), port, "")
    assert site.public_url == f"http{'s' if tls else ''}://192.0.2.5"
    assert site_of(asked("192.0.2.5", tls=not tls), port, "").public_url.endswith(f":{port}")


def test_a_machine_without_a_network_is_known_by_loopback() -> None:
    assert site_of(asked("0.0.0.0"), 8080, "").public_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("public_ip", "turn_host", "told"),
    [("", "", "192.0.2.5"), ("198.51.100.9", "", "198.51.100.9"), ("198.51.100.9", "192.0.2.6", "192.0.2.6")],
)
def test_clients_are_told_the_turn_host_that_was_given_by_hand_before_any_other(
    public_ip: str, turn_host: str, told: str
) -> None:
    wanted = Wish("192.0.2.5", 443, True, Path("/data"), public_ip, turn_host)
    ports = Ports(redis=1, functions=2, identity=3, signaling=4, sfu=5, media=6, tunnel=7, turn=8, turn_tls=443)
    assert turn_urls(site_of(wanted, 443, ""), ports).split(",") == [
        f"turn:{told}:8?transport=udp",
        f"turn:{told}:8?transport=tcp",
        f"turns:{told}:443?transport=tcp",
    ]


def test_each_process_finds_the_others() -> None:
    variables = environment(SITE, PORTS, Path("/data"), {}, TENANT)
    assert variables["PARLEY_REDIS_URL"] == "redis://127.0.0.1:1/0"
    assert variables["PARLEY_OIDC_ISSUER"] == f"http://127.0.0.1:8080/identity/{TENANT}/v2.0"
    assert variables["PARLEY_OIDC_DISCOVERY_URL"].startswith("http://127.0.0.1:3/")
    assert variables["PARLEY_SFU_MEDIA_PORT"] == "6"


def test_what_the_person_has_set_is_kept_and_not_started_twice() -> None:
    given = {"PARLEY_REDIS_URL": "redis://r:6379/0", "PARLEY_OIDC_ISSUER": "https://login.example.net/t/v2.0"}
    variables = environment(SITE, PORTS, Path("/data"), given, TENANT)
    names = {spec.name for spec in processes(SITE, PORTS, variables, (), given)}
    assert variables["PARLEY_REDIS_URL"] == "redis://r:6379/0"
    assert "PARLEY_OIDC_DISCOVERY_URL" not in variables
    assert names == {"migrate", "edge", "sfu", "functions", "signaling", "tunnel"}


def test_every_process_waits_only_for_processes_that_are_started() -> None:
    for given in ({}, {"PARLEY_REDIS_URL": "redis://r"}):
        specs = processes(SITE, PORTS, {}, ("redis",), given)
        names = {spec.name for spec in specs}
        assert all(set(spec.after) <= names for spec in specs)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"level": "ERROR", "message": "lost"}\n', "lost"),
        ('{"level": "INFO", "message": "ERROR"}\n', ""),
        ("{broken\n", ""),
        ("ERROR local.edge it broke\n", "ERROR local.edge it broke"),
        ("Traceback (most recent call last):\n", "Traceback (most recent call last):"),
        ("all is well\n", ""),
        ("\n", ""),
    ],
)
def test_an_error_line_is_told_from_the_others(line: str, problem: str) -> None:
    assert problem_in(line) == problem


def test_a_log_that_has_grown_too_large_starts_anew_with_one_predecessor(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "x.log"
    log = Log(file)
    log.write("x" * (MAX_LOG + 1))
    log.write("new\n")
    log.close()
    assert file.read_text() == "new\n"
    assert (tmp_path / "logs" / "x.log.1").stat().st_size == MAX_LOG + 1


def test_a_data_folder_has_one_runner(tmp_path: Path) -> None:
    held = lock(tmp_path / "data")
    with pytest.raises(NotPossible, match="already runs"):
        lock(tmp_path / "data")
    held.close()
    lock(tmp_path / "data").close()
