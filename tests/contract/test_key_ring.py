"""Port `KeyRing`, in a folder and in a vault, and envelopes that it seals."""

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conference.adapters.envelope import seal, unseal
from conference.adapters.key_ring import FileKeyRing
from conference.domain.errors import Unavailable
from conference.ports.keys import KeyRing
from tests.support.vault import ring_of, running_vault

pytestmark = pytest.mark.contract
KEY = secrets.token_bytes(32)


@pytest.fixture(params=["file", "vault"])
async def ring(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[KeyRing]:
    if request.param == "file":
        yield FileKeyRing(tmp_path / "ring")
        return
    async with (
        running_vault(request.getfixturevalue("vault_certificate")) as vault,
        aclosing(ring_of(vault)) as found,
    ):
        yield found


@pytest.fixture
def other_ring(tmp_path: Path) -> KeyRing:
    return FileKeyRing(tmp_path / "other")


async def test_a_wrapped_key_is_unwrapped(ring: KeyRing) -> None:
    wrapped = await ring.wrap(KEY)
    assert KEY not in wrapped.wrapped
    assert KEY.hex() not in repr(wrapped)
    assert await ring.unwrap(wrapped) == KEY


async def test_after_a_rotation_the_new_version_wraps_and_the_old_one_unwraps(ring: KeyRing) -> None:
    before = await ring.wrap(KEY)
    new = await ring.rotate()
    after = await ring.wrap(KEY)
    assert before.key_id != after.key_id == new
    assert await ring.unwrap(before) == await ring.unwrap(after) == KEY


async def test_what_the_ring_has_not_wrapped_is_refused(ring: KeyRing) -> None:
    wrapped = await ring.wrap(KEY)
    last = wrapped.wrapped[-1] ^ 1
    for strange in (
        replace(wrapped, wrapped=wrapped.wrapped[:-1] + bytes([last])),
        replace(wrapped, wrapped=b""),
        replace(wrapped, algorithm="none"),
        replace(wrapped, key_id=""),
        replace(wrapped, key_id="https://other.vault.azure.net/keys/parley/00000000000000000000000000000000"),
    ):
        with pytest.raises(ValueError, match="wrapped by"):
            await ring.unwrap(strange)


async def test_a_version_that_is_gone_is_unavailable(ring: KeyRing) -> None:
    wrapped = await ring.wrap(KEY)
    gone = wrapped.key_id[:-4] + "0009"
    with pytest.raises(Unavailable) as unavailable:
        await ring.unwrap(replace(wrapped, key_id=gone))
    assert not unavailable.value.retryable


@pytest.mark.parametrize("length", [0, 16, 31, 33, 300])
async def test_a_key_to_wrap_has_32_bytes(ring: KeyRing, length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        await ring.wrap(bytes(length))


# --- envelopes ---


async def test_a_sealed_text_opens_for_its_purpose_only(ring: KeyRing) -> None:
    sealed = await seal(ring, b"a private key", "signing-key:1")
    assert await unseal(ring, sealed, "signing-key:1") == b"a private key"
    with pytest.raises(ValueError, match="changed, or is another's"):
        await unseal(ring, sealed, "signing-key:2")
    assert sealed != await seal(ring, b"a private key", "signing-key:1")


@pytest.mark.parametrize("member", ["kek", "alg", "key", "nonce", "text"])
async def test_a_sealed_text_that_was_changed_does_not_open(ring: KeyRing, member: str) -> None:
    sealed = await seal(ring, b"a private key", "p")
    first = "A" if sealed[member][0] != "A" else "B"
    with pytest.raises(ValueError, match="this"):
        await unseal(ring, {**sealed, member: first + sealed[member][1:]}, "p")
    with pytest.raises(ValueError, match="no sealed text"):
        await unseal(ring, {name: value for name, value in sealed.items() if name != member}, "p")


async def test_another_ring_does_not_open_it(ring: KeyRing, other_ring: KeyRing) -> None:
    sealed = await seal(ring, b"a private key", "p")
    await other_ring.wrap(KEY)
    with pytest.raises(ValueError, match="wrapped by"):
        await unseal(other_ring, sealed, "p")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
MEMBERS = st.sampled_from(["kek", "alg", "key", "nonce", "text", "more"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(JSON | st.dictionaries(MEMBERS, st.text() | st.integers()) | st.lists(MEMBERS))
async def test_whatever_is_no_sealed_text_is_a_value_error(other_ring: KeyRing, sealed: object) -> None:
    with pytest.raises(ValueError, match="this"):
        await unseal(other_ring, sealed, "p")
