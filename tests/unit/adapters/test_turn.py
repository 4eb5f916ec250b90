"""TURN credentials: known vectors, the time that they are good for, and two secrets while one replaces the other."""

from datetime import UTC, datetime, timedelta

import pytest

from conference.adapters.turn import TurnIceServers, credential
from conference.domain.ids import ParticipantId, Secret

pytestmark = pytest.mark.unit

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
PARTICIPANT = ParticipantId("00000000-0000-4000-8000-000000000003")
URLS = ("turn:turn.test:3478?transport=udp", "turns:turn.test:5349?transport=tcp")
NEW, OLD = Secret("new secret"), Secret("old secret")


@pytest.mark.parametrize(
    ("secret", "username", "password"),
    [
        # printf %s NAME | openssl dgst -sha1 -hmac SECRET -binary | base64
        ("north", "1790000000:participant", "KTe8xMih+0MiPqqLXbvLbLlaZd0="),
        ("key", "The quick brown fox jumps over the lazy dog", "3nybhbi3iqa8ino29wqQcBydtNk="),
    ],
)
def test_the_password_is_the_hmac_of_the_username(secret: str, username: str, password: str) -> None:
    assert credential(Secret(secret), username).reveal() == password


def test_a_participant_gets_the_addresses_with_credentials_of_five_minutes() -> None:
    (server,) = TurnIceServers(URLS, NEW).for_participant(PARTICIPANT, NOW)
    expiry = int(NOW.timestamp()) + 300
    assert server.urls == URLS
    assert server.username == f"{expiry}:{PARTICIPANT}"
    assert server.credential == credential(NEW, server.username)


def test_without_an_address_no_server_is_offered() -> None:
    assert TurnIceServers((), NEW).for_participant(PARTICIPANT, NOW) == ()


def test_credentials_end_with_their_expiry() -> None:
    turn = TurnIceServers(URLS, NEW)
    (server,) = turn.for_participant(PARTICIPANT, NOW)
    assert server.username is not None
    assert server.credential is not None
    last = NOW + timedelta(seconds=299)
    assert turn.verify(server.username, server.credential, last) == PARTICIPANT
    assert turn.verify(server.username, server.credential, NOW + timedelta(minutes=5)) is None


def test_credentials_of_the_former_secret_are_accepted_while_it_is_live() -> None:
    (server,) = TurnIceServers(URLS, OLD).for_participant(PARTICIPANT, NOW)
    assert server.username is not None
    assert server.credential is not None
    rotating = TurnIceServers(URLS, NEW, previous=OLD)
    assert rotating.verify(server.username, server.credential, NOW) == PARTICIPANT
    assert rotating.credentials(server.username, NOW) == (credential(NEW, server.username), server.credential)
    assert TurnIceServers(URLS, NEW).verify(server.username, server.credential, NOW) is None


@pytest.mark.parametrize(
    "username",
    ["", "participant", ":participant", "1e9:participant", "-1:participant", "9" * 13 + ":p", "{late}:p", "{soon}:",
     "{soon}:a b", "{soon}:p\n", "\u0661:p"],
)  # fmt: skip
def test_a_username_that_we_never_gave_out_is_refused_even_with_its_hmac(username: str) -> None:
    now_s = int(NOW.timestamp())
    name = username.format(soon=now_s + 60, late=now_s + 301)
    turn = TurnIceServers(URLS, NEW)
    assert turn.verify(name, credential(NEW, name), NOW) is None
    assert turn.credentials(name, NOW) == ()


def test_another_password_is_refused() -> None:
    turn = TurnIceServers(URLS, NEW)
    username = f"{int(NOW.timestamp()) + 60}:{PARTICIPANT}"
    for wrong in ("", "x", "é", credential(OLD, username).reveal()):
        assert turn.verify(username, Secret(wrong), NOW) is None


def test_the_password_is_not_shown() -> None:
    (server,) = TurnIceServers(URLS, NEW).for_participant(PARTICIPANT, NOW)
    assert server.credential is not None
    assert server.credential.reveal() not in repr(server)


@pytest.mark.parametrize(
    ("urls", "secret", "minutes"),
    [(("stun:stun.test",), NEW, 5), (("http://turn.test",), NEW, 5), (URLS, None, 5), (URLS, Secret(""), 5),
     (URLS, NEW, 6), (URLS, NEW, 0)],
)  # fmt: skip
def test_wrong_settings_are_refused_at_the_start(urls: tuple[str, ...], secret: Secret | None, minutes: int) -> None:
    with pytest.raises(ValueError, match="TURN"):
        TurnIceServers(urls, secret, lifetime=timedelta(minutes=minutes))
