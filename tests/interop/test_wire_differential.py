"""The native parsers against ours in Python and against aioice and aiortc: the same verdict and the same fields for
valid, mutated and random datagrams. Where another parser may differ, the difference is named with its reason."""

import struct
from typing import Any

import pytest
from aioice import stun as aioice_stun
from aiortc.rtp import RtpPacket as AiortcPacket
from hypothesis import given, settings
from hypothesis import strategies as st

from conference.domain.errors import ProtocolError
from conference.protocol import rtp, stun
from tests.support.engine import has_native

needs_native = pytest.mark.skipif(not has_native(), reason="the native module is not installed")
pytestmark = [pytest.mark.interop, needs_native]
if has_native():
    from parley_dataplane import _native

PASSWORD = "p" * 24
CASES = settings(max_examples=100, deadline=None)


@st.composite
def _rtp_packets(draw: st.DrawFn) -> bytes:
    elements = draw(st.dictionaries(st.integers(1, 20), st.binary(max_size=20), max_size=6))
    return rtp.build(
        rtp.RtpPacket(
            draw(st.integers(0, 127)),
            draw(st.integers(0, 0xFFFF)),
            draw(st.integers(0, 0xFFFFFFFF)),
            draw(st.integers(0, 0xFFFFFFFF)),
            draw(st.binary(max_size=60)),
            marker=draw(st.booleans()),
            extensions=elements,
            padding=draw(st.integers(0, 20)),
        )
    )


@st.composite
def _stun_requests(draw: st.DrawFn) -> bytes:
    return stun.binding_request(
        draw(st.binary(min_size=12, max_size=12)),
        draw(st.text(st.characters(exclude_categories=["Cs"]), max_size=30)),
        draw(st.sampled_from([PASSWORD, "another password"])),
        priority=draw(st.integers(0, 0xFFFFFFFF)),
        use_candidate=draw(st.booleans()),
    )


@st.composite
def _mutated(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    data = bytearray(draw(valid))
    for at, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
        data[at] = value
    return bytes(data[: draw(st.integers(0, len(data)))]) if draw(st.booleans()) else bytes(data)


def _any(valid: st.SearchStrategy[bytes], head: bytes) -> st.SearchStrategy[bytes]:
    return valid | _mutated(valid) | st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: head + tail)


RTP = _any(_rtp_packets(), b"\x90")
STUN = _any(_stun_requests(), b"\x00\x01")


def _native_rtp(data: bytes) -> tuple[Any, ...] | None:
    try:
        kind, marker, sequence, timestamp, ssrc, extensions, payload, padding = _native.parse_rtp(data)
    except ValueError:
        return None
    return kind, marker, sequence, timestamp, ssrc, dict(extensions), payload, padding


def _our_rtp(data: bytes) -> tuple[Any, ...] | None:
    try:
        p = rtp.parse(data)
    except ProtocolError:
        return None
    return p.payload_type, p.marker, p.sequence, p.timestamp, p.ssrc, p.extensions, p.payload, p.padding


def _native_stun(data: bytes) -> tuple[Any, ...] | None:
    try:
        return _native.parse_stun(data)
    except ValueError:
        return None


def _our_stun(data: bytes) -> tuple[Any, ...] | None:
    try:
        m = stun.parse(data)
    except ProtocolError:
        return None
    has = m.integrity_at is not None
    return m.type, m.transaction_id, m.username, m.priority, m.use_candidate, m.ice_controlled, has


@CASES
@given(RTP)
def test_both_our_rtp_parsers_say_the_same_of_any_bytes(data: bytes) -> None:
    native, ours = _native_rtp(data), _our_rtp(data)
    assert native == ours


@CASES
@given(_rtp_packets())
def test_aiortc_reads_the_fields_of_a_valid_rtp_packet_as_the_native_parser_does(data: bytes) -> None:
    native, theirs = _native_rtp(data), AiortcPacket.parse(data)
    assert native is not None
    kind, marker, sequence, timestamp, ssrc, _, payload, padding = native
    fields = theirs.payload_type, bool(theirs.marker), theirs.sequence_number, theirs.timestamp, theirs.ssrc
    assert fields == (kind, marker, sequence, timestamp, ssrc)
    assert (theirs.payload, theirs.padding_size) == (payload, padding)


@CASES
@given(STUN)
def test_both_our_stun_parsers_say_the_same_of_any_bytes(data: bytes) -> None:
    native, ours = _native_stun(data), _our_stun(data)
    assert native == ours
    if native is not None:
        assert _native.stun_has_integrity(data, PASSWORD) == stun.has_integrity(stun.parse(data), PASSWORD)


@CASES
@given(_stun_requests())
def test_aioice_reads_a_valid_check_and_its_integrity_as_the_native_parser_does(data: bytes) -> None:
    native, theirs = _native_stun(data), aioice_stun.parse_message(data)
    assert native is not None
    assert native[1:4] == (theirs.transaction_id, theirs.attributes["USERNAME"], theirs.attributes["PRIORITY"])
    assert native[4] == ("USE-CANDIDATE" in theirs.attributes)
    is_authentic = theirs.check_message_integrity(PASSWORD.encode())
    assert _native.stun_has_integrity(data, PASSWORD) == is_authentic


@CASES
@given(_stun_requests(), st.integers(0, 1_000), st.integers(1, 255))
def test_a_check_changed_up_to_its_integrity_is_authentic_to_neither(data: bytes, at: int, change: int) -> None:
    mutated = bytearray(data)
    mutated[at % (len(mutated) - 8)] ^= change  # what follows, FINGERPRINT's 8 bytes, is not covered
    changed = bytes(mutated)
    try:
        is_theirs = aioice_stun.parse_message(changed).check_message_integrity(PASSWORD.encode())
    except (ValueError, struct.error):  # aioice lets struct.error through for attributes of a wrong length
        is_theirs = False
    is_ours = _native_stun(changed) is not None and _native.stun_has_integrity(changed, PASSWORD)
    assert not is_ours
    assert not is_theirs
