"""Whatever is sent: no answer is a 500, and each is one that the checked-in OpenAPI document promises.

Requests are drawn from the document's own schemas over meetings, rooms and people that exist (live, ended, another
tenant's), with headers and members that nobody should send mixed in; an example is several calls on one world.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.openapi import OPERATIONS, TEXTS, TIMES, bodies, fault_of

pytestmark = pytest.mark.unit
URLS = ("https://hooks.example.com/a", "https://[2606:4700::1111]:8443/b?c=d", "https://8.8.8.8/")
FRUITLESS = {"startRecording", "stopRecording", "getSummary"}  # no recorder, no summaries here
WORLDS = count()
BY_ID = {known["operationId"]: (method, path, known) for method, path, known in OPERATIONS}
HEADERS = st.fixed_dictionaries(
    {"If-Match": st.sampled_from(["*", "*", "*", '"2"', 'W/"1"', "1", '"'])},
    optional={
        "Idempotency-Key": st.sampled_from(["a", "b", "", "a b", "k" * 300]),
        "Accept": st.sampled_from(["*/*", "text/vtt", "application/x-subrip;q=0.5", "image/png", "q=nan"]),
        "traceparent": st.sampled_from(["no", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'a' * 32}-{'b' * 16}-01"]),
    },
)
QUERY = st.fixed_dictionaries(
    {},
    optional={
        "cursor": TEXTS | st.sampled_from(["1", "999999999", "MjAyNi0wMS0wMVQwMDowMDowMCswMDowMHxhAGI"]),
        "limit": st.sampled_from(["1", "100", "101", "-1", "1e3", "9" * 40, "NaN"]),
        "from": TIMES | TEXTS,
        "to": TIMES | TEXTS,
        "hostId": st.uuids().map(str) | TEXTS,
    },
)


@dataclass
class World:
    """Who calls, and what there is to name."""

    stage: Any
    people: list[Any]
    ids: dict[str, list[str]]


async def a_world(stage: Any, number: int) -> World:
    stage.afresh()
    stage.change(config=replace(stage.services.config, requests_per_minute=10**7))
    people = [stage.person(f"{name}-again{number}") for name in ("ada", "ben", "admin", "stranger")]
    ada, ben, admin, stranger = people
    for person in people:
        await person.get("/v1/users/me/profile")
    live = await ada.creates_meeting()
    recorded = await ada.creates_meeting(settings={"isRecordingEnabled": True, "aiEnabled": True}, password="open")
    ended = await ben.creates_meeting()
    theirs = await stranger.creates_meeting()
    places = [(await person.joins(live["id"])).json()["participantId"] for person in (ada, ben)]
    await ben.call("PUT", f"/v1/meetings/{ended['id']}/end")
    webhooks = [await admin.post("/v1/webhooks", {"url": url}) for url in URLS]
    meetings = [meeting["id"] for meeting in (live, live, live, recorded, ended, theirs)]
    ids = {"id": meetings, "meetingId": meetings, "pid": places, "participantId": places}
    ids |= {"webhook": [answer.json()["id"] for answer in webhooks], "url": list(URLS), "fromSeq": ["1", "2"]}
    return World(stage, people, ids)


async def call(world: World, operation_id: str, succeeded: set[str], data: st.DataObject) -> None:
    method, path, operation = BY_ID[operation_id]
    of_webhooks = path.startswith("/v1/webhooks")
    likely = world.people[2 if of_webhooks else 0]
    person = data.draw(st.sampled_from([likely] * 4 + world.people))
    everybody = [other.id for other in world.people]
    ids = {**world.ids, "hostId": [person.id] * 8 + everybody, "userId": [person.id] * 8 + everybody}
    those = everybody if "/users/" in path else world.ids["webhook" if of_webhooks else "id"]
    named = {"id": those, "pid": world.ids["pid"]}
    for name, known in named.items():
        path = path.replace(f"{{{name}}}", data.draw(st.sampled_from(known * 8 + everybody)))
    body = data.draw(bodies(operation, ids))
    headers = {"Authorization": f"Bearer {person.token}", "Content-Type": "application/json", **data.draw(HEADERS)}
    answer = await world.stage.client.request(
        method,
        path,
        params=data.draw(QUERY) if operation.get("parameters") else {},
        headers=headers,
        content=json.dumps(body).encode() if "requestBody" in operation else b"",
    )
    fault = fault_of(operation, answer.status_code, answer.headers.get("Content-Type", ""), answer.content)
    assert fault is None, answer.text
    if answer.is_success:
        succeeded.add(operation_id)
    if answer.status_code == 201 and "Location" in answer.headers:
        world.ids["webhook" if of_webhooks else "id"].append(answer.headers["Location"].rpartition("/")[2])
    if answer.is_success and operation_id in ("joinMeeting", "joinRoom"):
        world.ids["pid"].append(answer.json()["participantId"])
    world.stage.clock.advance(data.draw(st.sampled_from([0] * 8 + [1, 400])))


@pytest.fixture
def succeeded(operation_id: str) -> Iterator[set[str]]:
    """Where the answers that succeeded are noted: the property would hold of an API that refuses everything."""
    seen: set[str] = set()
    yield seen
    assert (operation_id in seen) != (operation_id in FRUITLESS)


@pytest.mark.parametrize("operation_id", list(BY_ID))
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_every_answer_is_one_that_the_document_promises(
    stage: Any, succeeded: set[str], operation_id: str, data: st.DataObject
) -> None:
    world = await a_world(stage, next(WORLDS))
    for _ in range(3):
        await call(world, operation_id, succeeded, data)
