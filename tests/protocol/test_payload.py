"""Media payloads: key frame starts of three codecs, and the VP8 descriptor that a layer switch rewrites."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.protocol.payload import begins_key_frame, vp8_descriptor, vp8_rewrite

pytestmark = pytest.mark.protocol


@pytest.mark.parametrize(
    ("codec", "payload", "is_key"),
    [
        ("VP8", b"\x10\x00rest", True),
        ("VP8", b"\x10\x01rest", False),
        ("VP8", b"\x00\x00rest", False),
        ("VP8", b"\x90\x80\x85\x00rest", True),
        ("VP8", b"\x90\xe0\x81\x23\x07\x20\x00rest", True),
        ("VP8", b"\x90\xe0\x81\x23\x07\x20\x01rest", False),
        ("VP8", b"\x11\x00rest", False),
        ("VP9", b"\x08rest", True),
        ("VP9", b"\x48rest", False),
        ("VP9", b"\x00rest", False),
        ("VP9", b"\xa8\x81\x23\x00", True),
        ("VP9", b"\xa8\x81\x23\x02", False),
        ("H264", b"\x67sps", True),
        ("H264", b"\x65idr", True),
        ("H264", b"\x41slice", False),
        ("H264", b"\x7c\x85idr", True),
        ("H264", b"\x7c\x05idr", False),
        ("H264", b"\x78\0\2\x67\x00\0\2\x68\x00", True),
        ("H264", b"\x78\0\2\x41\x00\0\2\x41\x00", False),
        ("opus", b"\x10\x00", False),
        ("VP8", b"", False),
        ("VP9", b"", False),
        ("H264", b"", False),
        ("VP8", b"\x10", False),
        ("VP8", b"\x90\x80", False),
    ],
)
def test_key_frames_are_told_from_others(codec: str, payload: bytes, is_key: bool) -> None:
    assert begins_key_frame(codec, payload) is is_key


@given(st.sampled_from(["VP8", "VP9", "H264"]), st.binary(max_size=12))
def test_any_payload_is_looked_at_without_an_error(codec: str, payload: bytes) -> None:
    assert begins_key_frame(codec, payload) in {True, False}


@given(st.integers(0, 0x7FFF), st.integers(0, 255), st.booleans())
def test_picture_id_and_tl0_are_rewritten_in_place(picture: int, tl0: int, is_long: bool) -> None:
    field = b"\x81\x23" if is_long else b"\x12"
    payload = b"\x90\xe0" + field + b"\x07\x20\x00rest"
    descriptor = vp8_descriptor(payload)
    assert descriptor is not None
    changed = vp8_rewrite(payload, descriptor, picture, tl0)
    again = vp8_descriptor(changed)
    assert again is not None
    assert again.picture_id == picture & (0x7FFF if is_long else 0x7F)
    assert (again.tl0, again.is_long, changed[again.size :]) == (tl0, is_long, b"\x00rest")


@given(st.binary(max_size=8))
def test_a_descriptor_lies_within_its_payload(payload: bytes) -> None:
    descriptor = vp8_descriptor(payload)
    assert descriptor is None or descriptor.size <= len(payload)
