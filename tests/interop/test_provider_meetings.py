"""Meetings at other media providers, and e-mail, through the hosted Functions app: real SDKs, real queue and timers.

The services are the servers of this repository: Communication Services with its signatures, LiveKit with its tokens.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from conference.adapters.sql import open_database, sql_stores
from conference.adapters.system import SystemIds
from conference.domain.ids import EventId, MeetingId
from conference.domain.records import DomainEvent, EventType
from conference.protocol.events import encode_event
from functions.events import QUEUE
from local.acs.server import AcsServer
from tests.interop.test_functions_host import Hosted, Person, hosted  # noqa: F401  # a fixture
from tests.support.livekit_server import KEY, SECRET, LiveKitServer
from tests.support.providers import ACS_KEY, served
from tests.support.redis import RedisServer, _redis_process, redis_server  # noqa: F401  # fixtures
from tests.support.waiting import eventually

pytestmark = pytest.mark.interop


@dataclass
class Elsewhere:
    """The services that the app is told of."""

    acs: AcsServer
    livekit: LiveKitServer

    def enters(self, provider: dict[str, Any]) -> object:
        """As what the provider lets in who has this answer of a join; None where it does not."""
        if provider["name"] == "livekit":
            return self.livekit.connect(provider["token"])
        return self.acs.resource.may_enter(provider["roomId"], provider["token"], datetime.now(UTC))

    def rooms(self, name: str) -> int:
        return len(self.livekit.rooms if name == "livekit" else self.acs.resource.rooms)

    def fail(self, name: str) -> None:
        (self.livekit if name == "livekit" else self.acs).faults.order("down", times=100_000)

    def recover(self) -> None:
        self.livekit.faults.clear()
        self.acs.faults.clear()


@pytest.fixture
async def elsewhere(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Elsewhere]:
    found = Elsewhere(AcsServer(ACS_KEY, time.time), LiveKitServer())
    async with AsyncExitStack() as stack:
        acs = await stack.enter_async_context(served(found.acs.application()))
        livekit = await stack.enter_async_context(served(found.livekit.application()))
        given = {
            "ACS_ENDPOINT": acs,
            "ACS_ACCESS_KEY": ACS_KEY,
            "LIVEKIT_URL": livekit,
            "LIVEKIT_KEY": KEY,
            "LIVEKIT_SECRET": SECRET,
            "EMAIL_SENDER": "parley@example.com",
        }
        for name, value in given.items():
            monkeypatch.setenv(f"PARLEY_{name}", value)
        yield found


async def creates(host: Person, name: str, **headers: str) -> tuple[int, Any]:
    body = {"hostId": host.id, "settings": {"mediaProvider": name}}
    return await host.call("POST", "/v1/meetings", body, **headers)


async def joins(person: Person, meeting_id: str) -> tuple[int, Any]:
    return await person.call("POST", f"/v1/meetings/{meeting_id}/join", {"userId": person.id})


@pytest.mark.parametrize("name", ["acs", "livekit"])
async def test_a_meeting_lives_at_its_provider_from_creation_to_end(
    elsewhere: Elsewhere,
    hosted: Hosted,  # noqa: F811
    name: str,
) -> None:
    host, guest = [await hosted.person(login) for login in ("alex", "blair")]
    created = [await creates(host, name, **{"Idempotency-Key": "one"}) for _ in range(2)]
    assert [status for status, _ in created] == [201, 201]
    meeting = created[0][1]
    assert created[1][1]["id"] == meeting["id"]
    assert elsewhere.rooms(name) == 1

    _, grant = await joins(guest, meeting["id"])
    assert grant["token"] == grant["signalingToken"]
    assert elsewhere.enters(grant["provider"])
    _, own = await joins(host, meeting["id"])
    assert elsewhere.enters(own["provider"])
    if name == "acs":
        assert elsewhere.enters(grant["provider"]) == "Attendee"
        assert elsewhere.enters(own["provider"]) == "Presenter"

    place = f"/v1/rooms/{meeting['id']}/participants/{grant['participantId']}"
    assert (await host.call("POST", f"{place}/role", {"role": "viewer"}))[0] == 200
    _, again = await joins(guest, meeting["id"])
    watching = {"canPublish": False, "canSubscribe": True, "canPublishData": False}
    assert elsewhere.enters(again["provider"]) == ("Consumer" if name == "acs" else watching)

    assert (await host.call("POST", f"{place}/remove"))[0] == 200
    assert elsewhere.enters(again["provider"]) is None
    assert elsewhere.enters(own["provider"])
    assert (await host.call("PUT", f"/v1/meetings/{meeting['id']}/end"))[0] == 200
    assert elsewhere.enters(own["provider"]) is None
    assert elsewhere.rooms(name) == 0


@pytest.mark.parametrize("name", ["acs", "livekit"])
async def test_a_provider_that_is_away_is_told_leaves_nothing_and_learns_of_the_end_later(
    elsewhere: Elsewhere,
    hosted: Hosted,  # noqa: F811
    name: str,
) -> None:
    host = await hosted.person("alex")
    elsewhere.fail(name)
    status, problem = await creates(host, name, **{"Idempotency-Key": "two"})
    assert (status, problem["type"]) == (503, "/docs/problems/provider-unavailable")
    assert (await host.call("GET", "/v1/meetings"))[1]["items"] == []
    assert (await host.call("POST", "/v1/meetings", {"hostId": host.id}))[0] == 201  # our own media goes on

    elsewhere.recover()
    status, meeting = await creates(host, name, **{"Idempotency-Key": "two"})
    assert (status, elsewhere.rooms(name)) == (201, 1)
    elsewhere.fail(name)
    assert (await joins(host, meeting["id"]))[0] == 503
    assert (await host.call("PUT", f"/v1/meetings/{meeting['id']}/end"))[0] == 200
    assert elsewhere.rooms(name) == 1
    elsewhere.recover()
    await eventually(lambda: elsewhere.rooms(name) == 0, within_s=60)


async def test_a_host_gets_one_mail_when_the_recording_is_ready(
    elsewhere: Elsewhere,
    hosted: Hosted,  # noqa: F811
) -> None:
    host = await hosted.person("alex")
    _, meeting = await host.call("POST", "/v1/meetings", {"hostId": host.id})
    _, profile = await host.call("GET", "/v1/users/me/profile")
    now = datetime.now(UTC)
    event = DomainEvent(EventId(SystemIds().new()), MeetingId(meeting["id"]), 2, EventType.RECORDING_READY, now, {})
    database = open_database(hosted.settings.sql_url)
    queue = sql_stores(database, SystemIds()).queue
    for number in range(2):  # at least once means: perhaps twice
        await queue.send(QUEUE, encode_event(event), now=now, message_id=f"{number}")
    await eventually(lambda: bool(elsewhere.acs.resource.emails), within_s=30)
    await eventually_empty(queue)
    await database.close()
    (email,) = elsewhere.acs.resource.emails.values()
    assert email.message["recipients"]["to"] == [{"address": profile["email"]}]
    assert meeting["id"] in email.message["content"]["plainText"]


async def eventually_empty(queue: Any) -> None:
    async def is_empty() -> bool:
        return bool(await queue.length(QUEUE) == 0)

    await eventually(is_empty, within_s=30)
