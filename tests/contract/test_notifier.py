"""Port `Notifier`: in memory, and by e-mail with the real SDK against the local Communication Services server."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from uuid import uuid4

import pytest
from azure.core.credentials import AzureKeyCredential

from conference.adapters.acs.email import AcsEmail
from conference.adapters.memory.notifier import MemoryNotifier
from conference.adapters.retries import Retries
from conference.domain.errors import Unavailable
from conference.ports.notifier import Notice, Notifier, Silent
from local.acs.server import AcsServer
from tests.support.providers import ACS_KEY, served

pytestmark = pytest.mark.contract
QUICK = Retries(attempt_s=4.0, total_s=9.0, base_s=0.01, wait_s=0.5)


@dataclass
class Post:
    """The notifier, and what arrived: recipient, subject and text of each message."""

    notifier: Notifier
    arrived: Callable[[], list[tuple[str, str, str]]]


@dataclass
class Mail(Post):
    server: AcsServer


@pytest.fixture
async def mail() -> AsyncIterator[Mail]:
    server = AcsServer(ACS_KEY, time.time)
    async with served(server.application()) as origin:
        notifier = AcsEmail(origin, AzureKeyCredential(ACS_KEY), "parley@example.com", retries=QUICK, polling_s=0.05)
        yield Mail(notifier, lambda: _arrived(server), server)
        await notifier.close()


def _arrived(server: AcsServer) -> list[tuple[str, str, str]]:
    messages = [email.message for email in server.resource.emails.values()]
    assert all(message["senderAddress"] == "parley@example.com" for message in messages)
    return [
        (recipient["address"], message["content"]["subject"], message["content"]["plainText"])
        for message in messages
        for recipient in message["recipients"]["to"]
    ]


@pytest.fixture(params=["memory", "email"])
def post(request: pytest.FixtureRequest) -> Post:
    if request.param == "memory":
        notifier = MemoryNotifier()
        return Post(notifier, lambda: [(notice.to, notice.subject, notice.text) for notice in notifier.sent])
    found: Post = request.getfixturevalue("mail")
    return found


def a_notice(to: str = "ada@example.com", subject: str = "Ready") -> Notice:
    return Notice(str(uuid4()), to, subject, "It is ready.\nLook: https://meet.example.com/")


async def test_a_notice_arrives(post: Post) -> None:
    await post.notifier.send(a_notice())
    assert post.arrived() == [("ada@example.com", "Ready", "It is ready.\nLook: https://meet.example.com/")]


async def test_a_notice_that_is_sent_again_arrives_once(post: Post) -> None:
    notice = a_notice()
    for _ in range(3):
        await post.notifier.send(notice)
    await asyncio.gather(post.notifier.send(notice), post.notifier.send(notice))
    assert len(post.arrived()) == 1
    await post.notifier.send(a_notice())
    assert len(post.arrived()) == 2


async def test_silence_sends_nothing() -> None:
    silent: Notifier = Silent()
    await silent.send(a_notice())


def test_a_notice_shows_no_address_and_no_text() -> None:
    assert "ada" not in repr(a_notice())
    assert "ready" not in repr(a_notice())


@pytest.mark.parametrize("kind", ["busy", "down", "lost"])
async def test_a_failed_request_is_repeated_and_arrives_once(mail: Mail, kind: str) -> None:
    mail.server.faults.order(kind, path="/emails")
    await mail.notifier.send(a_notice())
    assert len(mail.arrived()) == 1


async def test_a_failed_look_at_the_state_sends_nothing_twice(mail: Mail) -> None:
    mail.server.faults.order("down", path="/emails/operations")
    await mail.notifier.send(a_notice())
    assert len(mail.arrived()) == 1


async def test_a_service_that_is_away_is_unavailable(mail: Mail) -> None:
    mail.server.faults.order("down", times=100)
    with pytest.raises(Unavailable):
        await mail.notifier.send(a_notice())
    assert len(mail.server.requests) == 3
    assert mail.arrived() == []


async def test_an_address_that_is_none_is_given_up_at_once_and_not_logged(
    mail: Mail, caplog: pytest.LogCaptureFixture
) -> None:
    await mail.notifier.send(a_notice(to="nobody"))
    assert mail.arrived() == []
    assert len(mail.server.requests) == 1
    records = [vars(record) for record in caplog.records if record.name.endswith("email")]
    assert [record["message"] for record in records] == ["e-mail given up"]
    assert "nobody" not in str(records)
