"""STUN for an ICE-lite agent: checks that are good, forged, cut off or random."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import stun

pytestmark = pytest.mark.protocol

KEY = "p" * 24
REQUEST = stun.binding_request(b"t" * 12, "ours:theirs", KEY, priority=7, use_candidate=True)


def test_a_check_is_read_and_its_integrity_proved() -> None:
    message = stun.parse(REQUEST)
    assert (message.type, message.username, message.priority, message.use_candidate) == (1, "ours:theirs", 7, True)
    assert stun.has_integrity(message, KEY)
    assert not stun.has_integrity(message, "another key of the length")


def test_the_vector_of_rfc_5769_is_accepted() -> None:
    vector = bytes.fromhex(
        "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74"
        "002400046e0001ff80290008932ff9b151263b36000600096576746a3a68367659202020"
        "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf"
    )
    message = stun.parse(vector)
    assert message.username == "evtj:h6vY"
    assert message.ice_controlled
    assert stun.has_integrity(message, "VOkJxbRl1RmTxUk/WvJxBt")


def test_the_answer_carries_the_address_xored() -> None:
    answer = stun.binding_success(stun.parse(REQUEST), "192.0.2.1", 32853, KEY)
    # RFC 5769 2.2: 192.0.2.1:32853 under the magic cookie.
    assert bytes.fromhex("0020000800 01a147e112a643".replace(" ", "")) in answer
    assert stun.has_integrity(stun.parse(answer), KEY)
    assert stun.parse(answer).type == stun.BINDING_SUCCESS


def test_an_ipv6_address_and_a_mapped_one_are_written() -> None:
    request = stun.parse(REQUEST)
    assert b"\x00\x02" in stun.binding_success(request, "2001:db8::1", 9, KEY)
    mapped, plain = (stun.binding_success(request, host, 9, KEY) for host in ("::ffff:192.0.2.1", "192.0.2.1"))
    assert mapped == plain


def test_a_role_conflict_is_answered_with_487() -> None:
    answer = stun.role_conflict(stun.parse(REQUEST), KEY)
    assert b"\x04\x57Role Conflict" in answer
    assert stun.parse(answer).type == stun.BINDING_ERROR


@pytest.mark.parametrize(
    "data",
    [
        b"",
        REQUEST[:19],
        REQUEST[:-1],
        REQUEST + b"\0\0\0\0",
        b"\x40" + REQUEST[1:],
        REQUEST[:4] + b"\0\0\0\0" + REQUEST[8:],
        REQUEST[:-1] + bytes([REQUEST[-1] ^ 1]),
        REQUEST[:22] + b"\xff\xff" + REQUEST[24:],
        b"\0\1\0\x84" + REQUEST[4:20] + b"\0\x25\0\0" * 33,
        bytes(2_000),
    ],
)
def test_what_is_not_stun_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="bad-stun"):
        stun.parse(data)


def test_a_name_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(ProtocolError, match="bad-stun"):
        stun.parse(b"\0\1\0\x08" + REQUEST[4:20] + b"\0\x06\0\x02\xff\xfe\0\0")


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_or_refused(data: bytes) -> None:
    with suppress(ProtocolError):
        stun.has_integrity(stun.parse(data), KEY)


@given(st.lists(st.tuples(st.integers(0, len(REQUEST) - 1), st.integers(0, 255)), max_size=4))
def test_a_changed_check_never_keeps_its_integrity_unless_unchanged(changes: list[tuple[int, int]]) -> None:
    data = bytearray(REQUEST)
    for place, value in changes:
        data[place] = value
    with suppress(ProtocolError):
        message = stun.parse(bytes(data))
        assert not stun.has_integrity(message, KEY) or bytes(data[:-8]) == REQUEST[:-8]
