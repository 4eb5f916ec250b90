"""Addresses that a relay must not reach, in every notation that stands for them."""

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.addresses import is_loopback, is_special, parse_address, unmapped

pytestmark = pytest.mark.unit

INSIDE = ("127.0.0.1", "10.0.0.8", "172.20.1.1", "192.168.1.1", "169.254.169.254", "100.64.0.9", "168.63.129.16")


def forms(text: str) -> list[str]:
    """Every IPv6 form that may be translated to the IPv4 address."""
    packed = IPv4Address(text).packed
    high, low = packed[:2].hex(), packed[2:].hex()
    inverted = bytes(255 - byte for byte in packed)
    return [
        f"::ffff:{text}",
        f"::ffff:{high}:{low}",
        f"::{text}",
        f"64:ff9b::{text}",
        f"64:ff9b:1::{text}",
        f"2002:{high}:{low}::1",
        f"2001:0:{high}:{low}::1",
        f"2001:0:4136:e378:8000:63bf:{inverted[:2].hex()}:{inverted[2:].hex()}",
    ]


@pytest.mark.parametrize("text", [*INSIDE, *(form for inside in INSIDE for form in forms(inside))])
def test_what_is_inside_is_special_in_every_notation(text: str) -> None:
    assert is_special(parse_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "0.0.0.0", "255.255.255.255", "224.0.0.1", "240.0.0.1", "198.18.0.1", "192.0.2.1", "203.0.113.9", "::", "::1",
        "fe80::1", "fe80::1%eth0", "fc00::1", "ff02::1", "2001:db8::1", "fec0::1", "100::1", "::ffff:0:0",
    ],
)  # fmt: skip
def test_other_special_ranges(text: str) -> None:
    assert is_special(parse_address(text))


@pytest.mark.parametrize("text", ["1.1.1.1", "8.8.8.8", "52.113.194.132", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_hosts_of_the_internet_are_not(text: str) -> None:
    assert not is_special(parse_address(text))


def test_a_mapped_address_is_the_one_that_is_routed() -> None:
    assert unmapped(IPv6Address("::ffff:8.8.8.8")) == IPv4Address("8.8.8.8")
    assert unmapped(IPv6Address("2001:db8::1")) == IPv6Address("2001:db8::1")


@given(st.ip_addresses(v=4))
def test_no_notation_makes_a_special_address_ordinary(address: IPv4Address) -> None:
    if is_special(address):
        assert all(is_special(parse_address(form)) for form in forms(str(address)))


@given(st.sampled_from(["10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "169.254.0.0/16"]), st.data())
def test_whole_private_networks_are_special(network: str, data: st.DataObject) -> None:
    assert is_special(data.draw(st.ip_addresses(network=ip_network(network))))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_this_machine_is_loopback_by_its_three_names(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [None, "", "127.0.0.2", "127.1", "127.0.0.1.", "2130706433", "0.0.0.0", "::", "[::1]", "::ffff:127.0.0.1", "::1%lo",
     "0:0:0:0:0:0:0:1", "localhost.", "a.localhost", "localhost.test", "127.0.0.1.test", "10.0.0.8"],
)  # fmt: skip
def test_no_other_notation_is_loopback(host: str | None) -> None:
    assert not is_loopback(host)


@given(st.text())
def test_what_is_loopback_is_one_of_the_three(host: str) -> None:
    assert is_loopback(host) == (host in ("localhost", "127.0.0.1", "::1"))
