"""Secrets of webhooks as they are sealed for the store, by a key ring."""

import json

import pytest
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from hypothesis import given
from hypothesis import strategies as st

from conference.adapters import webhook_secrets
from conference.adapters.webhook_secrets import SealedWebhookSecrets
from conference.domain.errors import Unavailable
from conference.domain.ids import Secret
from conference.ports.keys import WrappedKey
from tests.support.webhooks import webhook_id

pytestmark = pytest.mark.unit
ONE, OTHER = webhook_id(1), webhook_id(2)


class Ring:
    """Port KeyRing of one key that never changes. Counts how often it is asked to unwrap; can be away."""

    def __init__(self, key: bytes = bytes(32)) -> None:
        self._key = key
        self.unwrapped = 0
        self.away = False

    async def wrap(self, key: bytes) -> WrappedKey:
        return WrappedKey("k", "A256KW", aes_key_wrap(self._key, key))

    async def unwrap(self, wrapped: WrappedKey) -> bytes:
        if self.away:
            raise Unavailable("the key ring")
        self.unwrapped += 1
        try:
            return aes_key_unwrap(self._key, wrapped.wrapped)
        except InvalidUnwrap as error:
            raise ValueError("another key") from error

    async def rotate(self) -> str:
        return "k"


async def test_what_was_sealed_opens_for_its_endpoint_only() -> None:
    secrets = SealedWebhookSecrets(Ring())
    secret = secrets.new()
    sealed = await secrets.seal(secret, ONE)
    assert secret.reveal() not in sealed
    assert await secrets.open(sealed, ONE) == secret
    assert await SealedWebhookSecrets(Ring()).open(sealed, ONE) == secret  # of another process
    for process in (secrets, SealedWebhookSecrets(Ring())):
        with pytest.raises(Unavailable) as refused:
            await process.open(sealed, OTHER)
        assert not refused.value.retryable


async def test_secrets_are_long_and_no_two_are_alike_sealed_or_not() -> None:
    secrets = SealedWebhookSecrets(Ring())
    made = {secrets.new().reveal() for _ in range(50)}
    assert len(made) == 50
    assert all(text.startswith("whsec_") and len(text) == 6 + 43 for text in made)
    same = Secret("whsec_same")
    assert len({await secrets.seal(same, ONE) for _ in range(50)}) == 50


async def test_a_sealed_text_that_was_changed_does_not_open() -> None:
    sealed = await SealedWebhookSecrets(Ring()).seal(Secret("whsec_x"), ONE)
    members = json.loads(sealed)
    changed = [json.dumps({**members, name: value[::-1]}) for name, value in members.items() if name in ("key", "text")]
    for text in [*changed, json.dumps({**members, "more": ""}), "", "[]", "null", "{}", sealed[:-1], "[" * 100_000]:
        with pytest.raises(Unavailable) as refused:
            await SealedWebhookSecrets(Ring()).open(text, ONE)
        assert not refused.value.retryable


@given(st.text())
async def test_any_text_opens_or_is_unavailable(text: str) -> None:
    with pytest.raises(Unavailable):
        await SealedWebhookSecrets(Ring()).open(text, ONE)


async def test_under_another_key_nothing_opens() -> None:
    sealed = await SealedWebhookSecrets(Ring()).seal(Secret("whsec_x"), ONE)
    with pytest.raises(Unavailable):
        await SealedWebhookSecrets(Ring(b"k" * 32)).open(sealed, ONE)


async def test_the_ring_is_asked_once_and_may_then_be_away() -> None:
    sealed = await SealedWebhookSecrets(Ring()).seal(Secret("whsec_x"), ONE)
    ring = Ring()
    secrets = SealedWebhookSecrets(ring)
    ring.away = True
    with pytest.raises(Unavailable) as away:
        await secrets.open(sealed, ONE)
    assert away.value.retryable
    ring.away = False
    for _ in range(3):
        assert await secrets.open(sealed, ONE) == Secret("whsec_x")
        ring.away = True
    assert ring.unwrapped == 1


async def test_no_more_is_remembered_than_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook_secrets, "_REMEMBERED", 2)
    ring = Ring()
    secrets = SealedWebhookSecrets(ring)
    sealed = [await secrets.seal(Secret(f"whsec_{number}"), ONE) for number in range(3)]
    for number in (2, 1, 0):
        assert await secrets.open(sealed[number], ONE) == Secret(f"whsec_{number}")
    assert ring.unwrapped == 1
