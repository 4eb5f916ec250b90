"""Tokens as passwords: when a new one is asked for, what is used meanwhile, and what a failing credential costs."""

import asyncio
import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.exceptions import ConnectionError

from conference.adapters.redis import passwords
from conference.adapters.redis.client import connect
from conference.adapters.redis.connections import RenewingConnection
from conference.adapters.redis.passwords import Passwords, object_id_of
from tests.support.redis_gate import Token

pytestmark = pytest.mark.unit

LIFE_S = 3_600


def jwt(**claims: Any) -> str:
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.c2ln"


class Credential:
    """Gives a new token each time, unless told to repeat itself, to fail, or to keep everybody waiting."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.asked = 0
        self.serial = 0
        self.repeats = self.fails = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_token(self, *scopes: str) -> Token:
        self.asked += 1
        await self.gate.wait()
        if self.fails:
            raise RuntimeError("no identity")
        self.serial += not self.repeats
        return Token(jwt(oid="me", n=self.serial), int(self.now) + LIFE_S)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_PAUSE_S", 0.0)


def made(credential: Credential, **options: Any) -> Passwords:
    return Passwords(credential, now=lambda: credential.now, **options)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_many_connections_at_once_ask_once_and_sign_in_as_the_object_id() -> None:
    credential = Credential()
    source = made(credential)
    found = [(each.user_name, each.token) for each in await asyncio.gather(*(source.get() for _ in range(20)))]
    assert credential.asked == 1
    assert set(found) == {("me", jwt(oid="me", n=1))}
    assert jwt(oid="me", n=1) not in repr(await source.get())


async def test_a_user_name_of_the_address_goes_before_the_tokens_own() -> None:
    assert (await made(Credential(), user_name="named").get()).user_name == "named"


async def test_ten_to_twelve_minutes_before_its_end_a_token_is_renewed_while_it_goes_on() -> None:
    credential = Credential()
    source = made(credential)
    first = await source.get()
    credential.now += LIFE_S - 721
    assert source.newer_than(first.serial) is None
    assert credential.asked == 1
    credential.now += 121
    credential.gate.clear()
    assert source.newer_than(first.serial) is None
    assert await source.get() == first  # nobody waits
    await settled()
    assert credential.asked == 2
    credential.gate.set()
    await settled()
    second = source.newer_than(first.serial)
    assert second is not None
    assert await source.get() == second
    assert source.newer_than(second.serial) is None


async def test_a_credential_that_repeats_itself_is_asked_again_until_it_has_a_new_one() -> None:
    credential = Credential()
    source = made(credential)
    first = await source.get()
    credential.now += LIFE_S - 300
    credential.repeats = True
    for _ in range(3):
        assert source.newer_than(first.serial) is None
        await settled()
    assert credential.asked == 4
    credential.repeats = False
    source.newer_than(first.serial)
    await settled()
    assert source.newer_than(first.serial) is not None


async def test_a_failing_credential_leaves_the_old_token_and_is_asked_at_growing_intervals(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    credential = Credential()
    source = made(credential)
    first = await source.get()
    monkeypatch.setattr(passwords, "_PAUSE_S", 1.0)
    credential.fails = True
    credential.now += LIFE_S + 1
    for _ in range(50):
        assert await source.get() == first  # the server says whether it still counts
    assert credential.asked == 2
    assert [record.getMessage() for record in caplog.records] == ["there is no new token for Redis"]
    assert "no identity" not in caplog.text


async def test_without_any_token_there_is_an_error_at_once_and_not_a_request_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    credential = Credential()
    credential.fails = True
    source = made(credential)
    monkeypatch.setattr(passwords, "_PAUSE_S", 1.0)
    for _ in range(20):
        with pytest.raises(ConnectionError, match="no token for Redis"):
            await source.get()
    assert credential.asked == 1


async def test_a_credential_that_does_not_answer_is_given_up_and_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "ASK_TIMEOUT_S", 0.01)
    credential = Credential()
    credential.gate.clear()
    source = made(credential)
    with pytest.raises(ConnectionError):
        await source.get()
    credential.gate.set()
    assert (await source.get()).user_name == "me"


async def test_a_slow_credential_is_waited_for_shortly_and_its_token_serves_those_who_come_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(passwords, "WAIT_S", 0.01)
    credential = Credential()
    credential.gate.clear()
    source = made(credential)
    with pytest.raises(ConnectionError):
        await source.get()
    credential.gate.set()
    await settled()
    assert (await source.get()).serial == 1
    assert credential.asked == 1


async def test_who_gives_up_waiting_takes_the_token_from_nobody() -> None:
    credential = Credential()
    credential.gate.clear()
    source = made(credential)
    impatient, patient = asyncio.create_task(source.get()), asyncio.create_task(source.get())
    await settled()
    impatient.cancel()
    await settled()
    credential.gate.set()
    assert (await patient).serial == 1
    assert credential.asked == 1


async def test_a_refused_token_is_replaced_for_the_next_connection() -> None:
    source = made(Credential())
    first = await source.get()
    source.refused(first)
    second = await source.get()
    assert second.serial == first.serial + 1
    source.refused(first)  # told late: it is not about the second
    assert await source.get() == second


@pytest.mark.parametrize("ahead_s", [2 * LIFE_S, -600])
async def test_a_clock_that_is_wrong_stops_nothing(ahead_s: float) -> None:
    credential = Credential()
    source = Passwords(credential, now=lambda: credential.now + ahead_s)
    first = await source.get()
    assert first.token
    assert (await source.get()).serial == (2 if ahead_s > 0 else 1)  # it looks as if it had run out


@pytest.mark.parametrize("why", ["clock", "refused"])
async def test_tokens_that_do_not_help_are_asked_for_at_growing_intervals(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """A clock that is ahead by more than a token lives, or a server that takes none of them."""
    credential = Credential()
    ahead_s = 2 * LIFE_S if why == "clock" else 0
    source = Passwords(credential, now=lambda: credential.now + ahead_s)
    monkeypatch.setattr(passwords, "_PAUSE_S", 0.02)
    loop = asyncio.get_running_loop()
    ends = loop.time() + 0.5
    while loop.time() < ends:
        password = await source.get()
        if why == "refused":
            source.refused(password)
        await asyncio.sleep(0)
    assert 2 <= credential.asked <= 7  # at a pace that did not grow it would be 25 and more


@pytest.mark.parametrize("token", ["", "opaque", "a.b.c", jwt(), jwt(oid=7), jwt(oid=""), "e30.W10.c2ln", "a.\xe9.c"])
def test_a_token_without_an_object_id_is_no_password(token: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        object_id_of(token)


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda part: f"a.{base64.urlsafe_b64encode(part).decode()}.c"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        assert object_id_of(text)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("rediss://:secret@cache.redis.azure.net:10000", "holds a password"),
        ("redis://cache.redis.azure.net:10000", "by TLS only"),
        ("https://cache.redis.azure.net", "schemes"),
    ],
)
def test_an_address_that_does_not_go_with_tokens_is_refused(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem) as refused:
        connect(url, credential=Credential())
    assert "secret" not in str(refused.value)


async def test_a_late_refusal_is_about_the_token_that_was_sent() -> None:
    """Where its owner signs a connection in anew, and a newer token comes before the answer does."""
    credential = Credential()
    source = made(credential)
    connection: Any = RenewingConnection(credential_provider=source)
    signed_in = await connection.credential_provider.get_credentials_async()
    for number in (2, 3):
        credential.now += LIFE_S - 300
        source.newer_than(number - 1)
        await settled()
        if number == 2:
            assert connection.next_sign_in() == ("AUTH", "me", jwt(oid="me", n=2))
    connection.sign_in_refused()
    assert signed_in == ("me", jwt(oid="me", n=1))
    assert (await source.get()).serial == 3
    assert connection.next_sign_in() == ("AUTH", "me", jwt(oid="me", n=3))
