"""What the local identity provider can be told to do wrong: the order is read strictly, and tokens follow it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.identity.faults import Faults, Switches, read_faults

pytestmark = pytest.mark.unit

ROOT = "http://127.0.0.1:1/identity/t"
CLAIMS = {
    "iss": f"{ROOT}/v2.0",
    "ver": "2.0",
    "tid": "t",
    "oid": "o",
    "sub": "s",
    "azp": "page",
    "preferred_username": "a@example.org",
    "email": "a@example.org",
    "iat": 100,
    "nbf": 100,
    "exp": 200,
}


def shaped(**faults: Any) -> dict[str, Any]:
    switches = Switches(ROOT)
    switches.faults = read_faults(json.dumps(faults).encode())
    return switches.shape(CLAIMS)


def test_no_fault_is_the_truth() -> None:
    assert shaped() == CLAIMS


def test_the_clock_that_stamps_tokens_is_shifted() -> None:
    assert {name: shaped(shift_s=-50)[name] for name in ("iat", "nbf", "exp")} == {"iat": 50, "nbf": 50, "exp": 150}


def test_claims_are_replaced_and_left_out() -> None:
    changed = shaped(claims={"aud": "other", "oid": None})
    assert changed["aud"] == "other"
    assert "oid" not in changed


def test_version_1_and_b2c_have_their_own_claims() -> None:
    old, b2c = shaped(form="v1"), shaped(form="b2c")
    assert (old["iss"], old["ver"], old["appid"]) == (f"{ROOT}/", "1.0", "page")
    assert old["unique_name"] == "a@example.org"
    assert "azp" not in old
    assert (b2c["iss"], b2c["ver"], b2c["sub"], b2c["emails"]) == (f"{ROOT}/v2.0/", "1.0", "o", ["a@example.org"])
    assert not {"tid", "oid", "email"} & b2c.keys()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"nothing": 1}',
        b'{"down": "always"}',
        b'{"down": ["503"]}',
        b'{"form": "v3"}',
        b'{"slow_s": -1}',
        b'{"slow_s": NaN}',
        b'{"slow_s": "1"}',
        b'{"slow_s": true}',
        b'{"shift_s": 1e9}',
        b'{"claims": []}',
        b'{"discovery_issuer": 1}',
    ],
)
def test_an_order_that_cannot_be_followed_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_faults(body)


_NAME = st.sampled_from(["down", "slow_s", "shift_s", "form", "claims", "discovery_issuer", "other"])
_VALUE: st.SearchStrategy[Any] = st.sampled_from([None, 1, -1.5, "503", "b2c", [], {}, {"a": None}])


@given(
    st.binary(max_size=60) | st.dictionaries(_NAME, _VALUE, max_size=3).map(lambda asked: json.dumps(asked).encode())
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    try:
        faults = read_faults(body)
    except ValueError:
        return
    assert isinstance(faults, Faults)
