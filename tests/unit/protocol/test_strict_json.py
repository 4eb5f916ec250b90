"""Strict JSON: what is taken means one thing, and nothing but ValueError ever comes out."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conference.protocol.strict_json import DuplicateName, loads, loads_object

pytestmark = pytest.mark.unit

_plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), _plain),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_plain, inner, max_size=4)),
    max_leaves=15,
)


@given(_values)
def test_what_json_can_say_comes_back(value: object) -> None:
    assert loads(json.dumps(value).encode()) == value


@given(st.one_of(st.binary(max_size=200), st.text('[]{}":,0123eE+-.\\u d8aftrns', max_size=60).map(str.encode)))
def test_any_bytes_are_a_value_or_a_value_error(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        loads(content)


@pytest.mark.parametrize(
    "content",
    [b'{"a": 1, "a": 1}', b'[{"a": {"b": 1, "c": 2, "b": 3}}]', b'{"a": 1, "\\u0061": 2}'],
)
def test_a_name_given_twice_is_refused_at_any_depth_and_however_it_is_written(content: bytes) -> None:
    with pytest.raises(DuplicateName):
        loads(content)


@pytest.mark.parametrize(
    "content",
    [b"NaN", b"-Infinity", b'"\\ud800"', b'{"\\udfff": 1}', b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000, b"", b"1 2"],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError):
        loads(content)


@pytest.mark.parametrize("content", [b"[]", b"1", b'"text"', b"null"])
def test_an_object_is_asked_for_and_nothing_else_is_taken(content: bytes) -> None:
    with pytest.raises(ValueError, match="object"):
        loads_object(content)
