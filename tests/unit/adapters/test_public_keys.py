"""The cache of an issuer's keys: when it asks, when it does not, and what it keeps."""

import asyncio
from datetime import timedelta

import pytest

from conference.adapters.public_keys import FLOOR, MAX_AGE, RETRY, RemotePublicKeys
from conference.adapters.signing_keys import LEAD
from conference.domain.errors import Unavailable
from tests.support.forge import ec_key, jwk_of, rsa_key
from tests.support.token_kinds import NOW

pytestmark = pytest.mark.unit

URL = "https://issuer.test/keys"
OLD, NEW = jwk_of(ec_key(), "old"), jwk_of(ec_key(), "new")
SECOND = timedelta(seconds=1)


class Issuer:
    """Answers with `document`, or fails where there is none; counts."""

    def __init__(self, document: object) -> None:
        self.document = document
        self.asked = 0
        self.gate, self.arrived = asyncio.Event(), asyncio.Event()
        self.gate.set()

    async def fetch_json(self, url: str) -> object:
        assert url == URL
        self.asked += 1
        self.arrived.set()
        await self.gate.wait()
        if self.document is None:
            raise Unavailable("issuer.test")
        return self.document


@pytest.fixture
def issuer() -> Issuer:
    return Issuer({"keys": [OLD]})


@pytest.fixture
def keys(issuer: Issuer) -> RemotePublicKeys:
    return RemotePublicKeys(URL, issuer.fetch_json)


async def test_the_set_is_read_once_for_many_tokens(issuer: Issuer, keys: RemotePublicKeys) -> None:
    for _ in range(5):
        assert await keys.key("old", NOW) == OLD
    assert issuer.asked == 1


async def test_many_first_tokens_at_once_read_it_once(issuer: Issuer, keys: RemotePublicKeys) -> None:
    assert await asyncio.gather(*(keys.key("old", NOW) for _ in range(20))) == [OLD] * 20
    assert issuer.asked == 1


async def test_an_unknown_kid_refreshes_once_and_then_the_new_key_is_known(
    issuer: Issuer, keys: RemotePublicKeys
) -> None:
    await keys.key("old", NOW)
    issuer.document = {"keys": [OLD, NEW]}
    assert await keys.key("new", NOW + FLOOR) == NEW
    assert issuer.asked == 2


async def test_whoever_meets_the_new_key_while_the_set_is_being_read_waits_for_it(
    issuer: Issuer, keys: RemotePublicKeys
) -> None:
    await keys.key("old", NOW)
    issuer.document = {"keys": [OLD, NEW]}
    issuer.gate.clear()
    issuer.arrived.clear()
    first = asyncio.create_task(keys.key("new", NOW + FLOOR))
    await issuer.arrived.wait()
    others = [asyncio.create_task(keys.key("new", NOW + FLOOR)) for _ in range(5)]
    assert await keys.key("old", NOW + FLOOR) == OLD  # who needs no look does not wait
    issuer.gate.set()
    assert await asyncio.gather(first, *others) == [NEW] * 6
    assert issuer.asked == 2


async def test_made_up_kids_do_not_ask_more_often_than_the_floor(issuer: Issuer, keys: RemotePublicKeys) -> None:
    await keys.key("old", NOW)
    for step in range(1, 100):
        assert await keys.key(f"made up {step}", NOW + FLOOR * step / 10) is None
    assert issuer.asked == 1 + 9


async def test_old_keys_stay_when_a_fetch_fails(issuer: Issuer, keys: RemotePublicKeys) -> None:
    await keys.key("old", NOW)
    issuer.document = None
    assert await keys.key("old", NOW + timedelta(days=1)) == OLD
    assert await keys.key("new", NOW + timedelta(days=1)) is None


@pytest.mark.parametrize("document", [[], {"keys": []}, {"keys": "none"}, {"keys": [7, {}]}, "text", {"error": 1}])
async def test_an_answer_without_keys_replaces_nothing(
    issuer: Issuer, keys: RemotePublicKeys, document: object
) -> None:
    await keys.key("old", NOW)
    issuer.document = document
    assert await keys.key("old", NOW + MAX_AGE) == OLD
    assert issuer.asked == 2


async def test_a_key_that_the_issuer_has_withdrawn_is_forgotten_after_the_cache_age(
    issuer: Issuer, keys: RemotePublicKeys
) -> None:
    await keys.key("old", NOW)
    issuer.document = {"keys": [NEW]}
    assert await keys.key("old", NOW + MAX_AGE - SECOND) == OLD
    assert await keys.key("old", NOW + MAX_AGE) is None


async def test_without_any_key_it_is_unavailable_and_asks_again_soon(issuer: Issuer, keys: RemotePublicKeys) -> None:
    issuer.document = None
    for _ in range(3):
        with pytest.raises(Unavailable):
            await keys.key("old", NOW)
    assert issuer.asked == 1
    issuer.document = {"keys": [OLD]}
    assert await keys.key("old", NOW + RETRY) == OLD


async def test_a_known_key_does_not_wait_for_a_slow_refresh(issuer: Issuer, keys: RemotePublicKeys) -> None:
    await keys.key("old", NOW)
    issuer.gate.clear()
    issuer.arrived.clear()
    slow = asyncio.create_task(keys.key("old", NOW + MAX_AGE))
    await issuer.arrived.wait()
    assert await keys.key("old", NOW + MAX_AGE) == OLD
    issuer.gate.set()
    assert await slow == OLD


async def test_a_clock_that_was_set_back_reads_the_set_again(issuer: Issuer, keys: RemotePublicKeys) -> None:
    await keys.key("old", NOW)
    assert await keys.key("old", NOW - timedelta(days=365)) == OLD
    assert issuer.asked == 2


async def test_keys_of_no_use_here_are_left_out(issuer: Issuer, keys: RemotePublicKeys) -> None:
    private = {**NEW, "kid": "private", "d": "AAAA"}
    encryption = {**NEW, "kid": "encryption", "use": "enc"}
    symmetric = {"kty": "oct", "kid": "symmetric", "k": "c2VjcmV0"}
    other_curve = {**NEW, "kid": "curve", "crv": "P-384"}
    other_alg = {**jwk_of(rsa_key(), "alg"), "alg": "RS512"}
    issuer.document = {"keys": [private, encryption, symmetric, other_curve, other_alg, {"kty": "EC"}, OLD]}
    assert await keys.jwks(NOW) == {"keys": [OLD]}


async def test_the_first_of_two_keys_of_one_kid_counts(issuer: Issuer, keys: RemotePublicKeys) -> None:
    issuer.document = {"keys": [OLD, {**NEW, "kid": "old"}]}
    assert await keys.key("old", NOW) == OLD


def test_a_cache_meets_every_new_key_before_its_first_use() -> None:
    assert MAX_AGE + FLOOR < LEAD
